"""Coat: ratings of coats that people chose themselves, and of coats drawn at random, by the same people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recgym.datasets.sources import data_dir
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards

N_USERS, N_ITEMS = 290, 300  # as published
_FILES = {"self-selected": "train.ascii", "random": "test.ascii"}


def coat(part: str = "self-selected", *, reward: str = "scaled", folder: str | Path | None = None) -> InteractionLog:
    """Returns the ratings of one part of Coat, with the probability that each was made; it has no times.

    | `part` | what | `propensities` |
    |---|---|---|
    | `"self-selected"` | 24 coats per person, chosen by that person (`train.ascii`) | as estimated by the authors |
    | `"random"` | 16 coats per person, drawn uniformly (`test.ascii`) | share of the coats drawn, 16 of 300 |

    `propensities` are of the pair being rated at all, not of one coat being shown: `sum(reward / propensity)` over the
    ratings, divided by the number of all pairs, estimates the mean rating. `users` and `item_features` hold the
    published features, one label per feature.

    Args:
        part: `"self-selected"` or `"random"`.
        reward: A reward transform for numbers (see `transform_rewards`).
        folder: Folder with the `.ascii` files; by default `coat` under `RECGYM_DATA`.

    Source: Schnabel et al. (2016), Recommendations as treatments: debiasing learning and evaluation, ICML.

    Raises:
        MissingDataError: if the files are not there.
        DataError: if the part is unknown or a file is not in its published layout.
    """
    if part not in _FILES:
        raise DataError(f"part must be one of {tuple(_FILES)}, got {part!r}; choose one of them")
    place = _folder(folder)
    ratings = _ratings(place / _FILES[part])
    shape = ratings.shape
    users, items = np.nonzero(ratings)  # sorted by user
    counts = np.bincount(users, minlength=shape[0])
    chances = np.broadcast_to(counts[:, None] / shape[1], shape) if part == "random" else _propensities(place, ratings)
    low, high = transform_rewards([1.0, 5.0], reward).tolist()
    features = place / "user_item_features"
    return InteractionLog(
        items=items.astype(np.int32),
        rewards=transform_rewards(ratings[users, items], reward),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        user_ids=np.arange(shape[0]),
        item_ids=np.arange(shape[1]),
        propensities=chances[users, items].astype(np.float32),
        users=_labels(features, "user", shape[0]),
        item_features=_labels(features, "item", shape[1]),
        reward=reward,
        reward_range=(low, high),
        name=f"coat-{part}",
    )


def _folder(folder: str | Path | None) -> Path:
    data = data_dir()
    path = Path(folder) if folder is not None else None if data is None else data / "coat"
    if path is None or not path.is_dir():
        raise MissingDataError(
            f"Coat must lie in a folder with train.ascii and test.ascii, got {path or 'no RECGYM_DATA'}; get it from "
            f"https://www.cs.cornell.edu/~schnabts/mnar/ and put it into coat/ under RECGYM_DATA, or use the generated "
            f"log 'synthetic'"
        )
    return path


def _ratings(path: Path) -> np.ndarray:
    ratings = _matrix(path)
    if not np.isin(ratings, range(6)).all():
        raise DataError(
            f"ratings of {path} must be whole numbers 0 (none) to 5, got {ratings.min():g} to {ratings.max():g}; "
            f"get the file again"
        )
    return ratings


def _propensities(place: Path, ratings: np.ndarray) -> np.ndarray:
    """Returns the published propensities (users, items), checked where there is a rating."""
    propensities = _matrix(place / "propensities.ascii", ratings.shape)
    own = propensities[ratings > 0]
    if not ((own > 0.0) & (own <= 1.0)).all():
        raise DataError(
            f"propensities of {place} must be above 0 and at most 1 for every rating, got {own.min():g} to "
            f"{own.max():g}; get propensities.ascii again"
        )
    return propensities


def _matrix(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Returns a file of numbers, one line per user or item (m, c) float64."""
    if not path.is_file():
        raise MissingDataError(f"Coat must hold {path.name}, got no such file at {path}; put it there")
    try:
        matrix = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path} must hold lines of as many numbers each, got {error}; get the file again") from None
    if matrix.size == 0 or (shape is not None and matrix.shape != shape):
        raise DataError(f"{path} must have shape {shape or '(users, items)'}, got {matrix.shape}; get the file again")
    return matrix


def _labels(folder: Path, of: str, n: int) -> dict[str, np.ndarray]:
    """Returns one label per user (or item) and feature, from flags and their names `feature:label`; none if absent."""
    path = folder / f"{of}_features.ascii"
    if not path.is_file():
        return {}
    described = folder / f"{of}_features_map.txt"
    try:
        names = [line.strip().partition(":") for line in described.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeError) as error:
        raise DataError(f"{described} must be text with a feature a line, got {error}; get the file again") from None
    flags = _matrix(path, (n, len(names)))
    labels = {}
    for feature in dict.fromkeys(name for name, _, _ in names):
        columns = [place for place, (name, _, _) in enumerate(names) if name == feature]
        labels[feature] = np.array([names[place][2] for place in columns])[flags[:, columns].argmax(axis=1)]
    return labels
