"""The Open Bandit data: impressions of a fashion shop, logged with the true propensity of every shown item."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader
import numpy as np

from recgym.datasets.sources import data_dir
from recgym.errors import DataError, MissingDataError, RecgymError
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy_loader.load("pandas")  # half a second to import

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
_NEEDED = ("timestamp", "item_id", "position", "click", "propensity_score")


def obd(
    campaign: str = "men", policy: str = "random", *, reward: str = "raw", folder: str | Path | None = None
) -> InteractionLog:
    """Returns the Open Bandit log of one campaign under one policy: one impression per row, each its own session.

    Nothing in the data says which impressions are one person's, so a "user" of this log is an impression, numbered as
    in the file; its features say who looked. Item `i` of the log is item `i` of `item_context.csv`.

    | column | |
    |---|---|
    | `rewards` | 1 for a click, else 0 |
    | `propensities` | probability with which the policy shows this item at this position |
    | `extra["position"]` | 0 left, 1 centre, 2 right (n_events,) int8 |
    | `extra["context"]` | user features, one column per value but the first of each feature (n_events, c) float32 |
    | `extra["affinity"]` | past clicks of this person on each item (n_events, n_items) float32, if given |
    | `users["user_feature_0"]` ... | the user features as they stand in the file |
    | `item_features["item_feature_0"]` ... | the item features |

    Args:
        campaign: `"men"`, `"women"` or `"all"`.
        policy: `"random"` (uniform) or `"bts"` (Thompson sampling).
        reward: A reward transform for numbers (see `transform_rewards`).
        folder: Folder with `random/` and `bts/`; by default `obd` under `RECGYM_DATA`.

    Source: Saito et al. (2021), Open Bandit Dataset and Pipeline, NeurIPS Datasets and Benchmarks.

    Raises:
        MissingDataError: if the files are not there.
        DataError: if a name is unknown or a file is not in its published layout.
    """
    for name, value, known in (("campaign", campaign, CAMPAIGNS), ("policy", policy, POLICIES)):
        if value not in known:
            raise DataError(f"{name} must be one of {known}, got {value!r}; choose one of them")
    place = _folder(folder) / policy / campaign
    events, items = _read(place / f"{campaign}.csv"), _read(place / "item_context.csv")
    try:
        return _log(events, items, place, reward, f"obd-{campaign}-{policy}")
    except RecgymError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"columns of {place} must hold numbers where they are published so, got {type(error).__name__}: {error}; "
            "get the files again"
        ) from error


def _log(events: pd.DataFrame, items: pd.DataFrame, place: Path, reward: str, name: str) -> InteractionLog:
    """Returns the log of impressions and items as they stand in the files."""
    item_ids, events = _checked(events, items, place)
    people = sorted(name for name in events.columns if name.startswith("user_feature"))
    low, high = transform_rewards([0.0, 1.0], reward).tolist()
    items = items.set_index("item_id").loc[item_ids]
    return InteractionLog(
        items=events["item_id"].to_numpy(dtype=np.int32),
        rewards=transform_rewards(events["click"].to_numpy(), reward),
        offsets=np.arange(len(events) + 1, dtype=np.int64),
        user_ids=np.arange(len(events)),
        item_ids=item_ids,
        times=_seconds(events["timestamp"], place),
        propensities=events["propensity_score"].to_numpy(dtype=np.float32),
        extra=_extra(events, people, item_ids),
        users={name: events[name].to_numpy(dtype=str) for name in people},
        item_features={name: _feature(items[name]) for name in items.columns if name.startswith("item_feature")},
        reward=reward,
        reward_range=(min(low, high), max(low, high)),
        name=name,
    )


def _extra(events: pd.DataFrame, people: list[str], item_ids: np.ndarray) -> dict[str, np.ndarray]:
    extra = {
        "position": events["position"].rank(method="dense").to_numpy().astype(np.int8) - np.int8(1),
        "context": _one_hot(events[people]),
    }
    affinity = [f"user-item_affinity_{item}" for item in item_ids.tolist()]
    if set(affinity) <= set(events.columns):
        extra["affinity"] = events[affinity].to_numpy(dtype=np.float32)
    return extra


def _folder(folder: str | Path | None) -> Path:
    data = data_dir()
    path = Path(folder) if folder is not None else None if data is None else data / "obd"
    if path is None or not path.is_dir():
        raise MissingDataError(
            f"the Open Bandit data must lie in a folder with random/ and bts/, got {path or 'no RECGYM_DATA'}; "
            f"get them from https://research.zozo.com/data.html (or the sample in obp's repository) and put them into "
            f"obd/ under RECGYM_DATA, or use the generated log 'synthetic'"
        )
    return path


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MissingDataError(f"the Open Bandit data must hold {path.name}, got no such file at {path}; put it there")
    try:
        table = pd.read_csv(path, index_col=0)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise DataError(f"{path} must be comma-separated text, got {error}; get the file again") from None
    return table.rename(columns={"action_prob": "propensity_score"})


def _checked(events: pd.DataFrame, items: pd.DataFrame, place: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Returns the item ids in index order and the events in time order, or says what is wrong with them."""
    lacking = [name for name in _NEEDED if name not in events.columns]
    if lacking or "item_id" not in items.columns or len(events) == 0:
        raise DataError(
            f"{place} must hold impressions with the columns {', '.join(_NEEDED)}, got {len(events)} without "
            f"{lacking or 'item_id in item_context.csv'}; get the files again"
        )
    item_ids = np.sort(items["item_id"].to_numpy())
    if not np.array_equal(item_ids, np.arange(len(item_ids))) or not events["item_id"].isin(item_ids).all():
        raise DataError(
            f"items of {place} must be numbered 0 to n-1 and described in item_context.csv, got {len(item_ids)} "
            f"described and shown items {events['item_id'].min()} to {events['item_id'].max()}; get the files again"
        )
    propensity = events["propensity_score"].to_numpy(dtype=np.float64)
    bad = ~((propensity > 0.0) & (propensity <= 1.0))
    if bad.any():
        raise DataError(
            f"propensities of {place} must be above 0 and at most 1, got {propensity[bad][0]} "
            f"({np.count_nonzero(bad)} of {len(bad)} rows, first row {np.flatnonzero(bad)[0]}); mend or drop them"
        )
    if not events["click"].isin([0, 1]).all():
        raise DataError(
            f"clicks of {place} must be 0 or 1, got {sorted(set(events['click']))[:4]}; get the files again"
        )
    return item_ids, events


def _seconds(column: pd.Series, place: Path) -> np.ndarray:
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601").dt.as_unit("s").astype("int64").to_numpy()
    except ValueError as error:
        raise DataError(f"timestamps of {place} must be ISO 8601, got {error}; get the files again") from None


def _one_hot(features: pd.DataFrame) -> np.ndarray:
    return pd.get_dummies(features, drop_first=True).to_numpy(dtype=np.float32)


def _feature(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=np.float32) if pd.api.types.is_numeric_dtype(column) else column.to_numpy(dtype=str)
