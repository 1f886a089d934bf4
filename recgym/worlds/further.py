"""What every id takes beside the options of its own world: traits put around its users, whoever they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.embeddings.features import FeatureCode
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.options import nearest
from recgym.users import ReplayUsers
from recgym.users.around import REPETITIONS, Funnel, Pool, Repetition

_CATEGORIES = ("topic", "genres", "genre", "category", "categories")  # features looked for, in this order
_MOST_LABELS = 100  # of a feature of users; what has more is a name


def further(
    catalog: Catalog,
    users: Any,
    frame_size: int = 10,
    known: Callable[[], InteractionLog] | None = None,
    *,
    leave_by: str | Sequence[int] | None = None,
    category: str | None = None,
    pool: str = "fixed",
    pool_start: float = 0.5,
    pool_span: int = 20,
    pool_by: str = "step",
    behaviours: dict[str, float] | None = None,
    user_features: str | Sequence[str] | None = None,
) -> Any:
    """Returns users with the traits that are asked for; none: the users themselves.

    Args:
        catalog: The items.
        users: Whose answers they are.
        frame_size: F.
        known: Loads the training users: what their features say is what features say in all parts of the data.
        leave_by: Users leave by repetition of a category: `"cirs"`, an item is shown of a category that the one before
            it had; `"easyrl4rec"`, that one of the four before it had; or `[window, most]`, that more than `most` of
            `window` had. None: they do not.
        category: The item feature it goes by; None: topic, genres, genre, category or categories, whichever there is.
        pool: `"fixed"`, all items are there; `"growing"`, they come one by one; `"turning"`, they come and go.
        pool_start: Share of the items that are there at first, or under `"turning"` at any time.
        pool_span: Units of time within which all have come.
        pool_by: Its unit: `"step"` of a session, or `"session"` of a row.
        behaviours: An answer is several behaviours, told in infos and worth the sum of their weights, by name. Of users
            who answer from a log: columns of the log, or labels of its column `behaviour`. Of others: names of one's
            own, each a step further than the one before, taken by the fewer the less an item is wanted.
        user_features: For `context=["user"]`: `"all"` features of users in the data, or names of some. Numbers are
            standardised, labels become flags, all by the training users: what lies beyond their range is brought to
            its end, and labels none of them has are no flag. Of `"all"`, what has over 100 labels is left out.

    Raises:
        DataError: if an option is out of range, or the data have no such feature.
    """
    if behaviours is not None:
        answers = isinstance(users, ReplayUsers)
        users = users.behaving(behaviours) if answers else Funnel(users, frame_size, behaviours)
    if pool != "fixed":
        users = Pool(users, frame_size, pool, pool_start, pool_span, pool_by)
    if leave_by is not None:
        users = Repetition(users, frame_size, _categories(catalog, category), *_repetition(leave_by))
    if user_features is not None:
        users = copy(users)
        users.features, users.features_range = _features(users, known, user_features)
    return users


def _repetition(asked: str | Sequence[int]) -> tuple[int, int]:
    if isinstance(asked, str) and asked in REPETITIONS:
        return REPETITIONS[asked]
    if not isinstance(asked, list | tuple) or len(asked) != 2:
        raise DataError(
            f"leave_by must be one of {', '.join(REPETITIONS)}, or [window, most], got {asked!r}; choose one of them"
        )
    return asked[0], asked[1]


def _categories(catalog: Catalog, name: str | None) -> np.ndarray:
    """Returns which categories items have (n_items, m) bool, by one of their features."""
    known = list(catalog.features)
    name = next((one for one in _CATEGORIES if one in known), None) if name is None else name
    if name not in known:
        raise DataError(
            f"leave_by needs items with categories, got {'none' if name is None else repr(name)} among their features "
            f"{known}; {nearest(name, known) or 'name one with category'}"
        )
    column = np.asarray(catalog.features[name])
    if column.dtype == bool and column.ndim == 2:
        return column
    return FeatureCode.fit({name: column}, categorical=(name,)).vectors({name: column}) > 0


def _features(
    users: Any, known: Callable[[], InteractionLog] | None, asked: str | Sequence[str]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns the features of users (n_users, m) float32, and the least and most of each (m,) of training users."""
    log: Any = getattr(users, "log", None)
    trained: Mapping[str, np.ndarray] = {} if log is None else (known() if known else log).users
    own = {name: np.asarray(log.users[name]) for name in trained if name in log.users}
    named: Any = [asked] if isinstance(asked, str) else asked
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        raise DataError(f"user_features must be 'all' or names, got {asked!r}; give e.g. ['age']")
    names = [name for name in own if _tells(np.asarray(trained[name]))] if asked == "all" else named
    unknown = [name for name in names if name not in own]
    if unknown or not names:
        raise DataError(
            f"user_features must be features of users in the data, {list(own)}, got {unknown or 'none'}; leave it out"
        )
    fitted = {name: np.asarray(trained[name]) for name in names}
    code = FeatureCode.fit(fitted, max_labels=_MOST_LABELS)
    seen = np.asarray(code.vectors(fitted), dtype=np.float32)
    low, high = seen.min(axis=0), seen.max(axis=0)
    features = np.asarray(code.vectors({name: own[name] for name in names}), dtype=np.float32)
    return np.clip(features, low, high), (low, high)


def _tells(column: np.ndarray) -> bool:
    return column.dtype.kind in "biuf" or len(np.unique(column)) <= _MOST_LABELS
