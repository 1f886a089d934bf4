"""Item vectors made of item features: categories as flags, numbers standardised, so that new items get theirs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.log import InteractionLog


@dataclass(frozen=True, eq=False)
class Column:
    """How one feature becomes numbers: flags of its labels, or standardised numbers.

    Attributes:
        labels: The labels that have a flag, or None for numbers.
        mean: Mean of each number (m,); empty for labels.
        spread: Standard deviation of each number (m,), 1 where they are all alike; empty for labels.
    """

    labels: tuple[str, ...] | None
    mean: np.ndarray
    spread: np.ndarray

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.mean) if self.labels is None else len(self.labels)


@dataclass(frozen=True, eq=False)
class FeatureCode:
    """What turns named item features into vectors, learned once from known items and the same for new ones.

    Every feature weighs the same: the flags of an item's labels have length 1 together, and so have a feature's
    standardised numbers on average. What was never seen is nowhere: an unknown label has no flag, a missing number
    (NaN) stands for the mean.

    Attributes:
        columns: How each feature becomes numbers, by name.
        separator: What stands between the labels of one text, or None.
        centre: Mean of the vectors, taken away before they are turned (w,), or None where they are not turned.
        axes: Directions the vectors are turned to (w, d), or None.

    Example:
        >>> known = {"genre": np.array(["War", "Comedy"]), "year": np.array([1990.0, 2000.0])}
        >>> code = FeatureCode.fit(known)
        >>> code.vectors(known).tolist()  # Comedy, War, year
        [[0.0, 1.0, -1.0], [1.0, 0.0, 1.0]]
        >>> code.vectors({"genre": np.array(["War|Noir"]), "year": np.array([np.nan])}).tolist()  # of a new item
        [[0.0, 1.0, 0.0]]
    """

    columns: Mapping[str, Column]
    separator: str | None = None
    centre: np.ndarray | None = None
    axes: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        features: Mapping[str, np.ndarray],
        names: Sequence[str] | None = None,
        *,
        dim: int | None = None,
        categorical: Sequence[str] = (),
        separator: str | None = "|",
        max_labels: int = 1000,
    ) -> FeatureCode:
        """Returns the code of the features of known items, each (n,) or (n, m); see `features` for the arguments.

        Raises:
            DataError: if there is no such feature, no number or label in them, or `dim` is out of range.
        """
        chosen = list(features if names is None else names)
        unknown = [name for name in (*chosen, *categorical) if name not in features]
        if unknown or not chosen:
            raise DataError(
                f"features must be some of {sorted(features)}, got {chosen if unknown else 'none'}; name some"
            )
        columns = {
            name: _fitted(np.asarray(features[name]), name in categorical, separator, max_labels) for name in chosen
        }
        code = cls(columns, separator)
        if dim is None:
            return code
        vectors = code.vectors(features).astype(np.float64)  # (n, w)
        if not 1 <= dim <= min(vectors.shape):
            raise DataError(
                f"dim must lie between 1 and {min(vectors.shape)}, the smaller of items and numbers an item's features "
                f"become, got {dim}; pass less, or None for all of them"
            )
        centre = vectors.mean(axis=0)
        axes = np.linalg.eigh((vectors - centre).T @ (vectors - centre))[1][:, ::-1][:, :dim]  # largest variance first
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.where(axes[largest, np.arange(dim)] < 0, -1.0, 1.0)  # no sign is left to chance
        return cls(columns, separator, centre, axes)

    def vectors(self, features: Mapping[str, Any]) -> np.ndarray:
        """Returns the vectors (n, d) float32 of n items by their named features, each (n,) or (n, m).

        Raises:
            DataError: if a feature lacks, or is of another width or kind than what the code was made from.
        """
        lacking = [name for name in self.columns if name not in features]
        if lacking:
            raise DataError(
                f"items must have the features {list(self.columns)}, got none named {', '.join(lacking)}; give them"
            )
        parts = [_coded(name, column, features[name], self.separator) for name, column in self.columns.items()]
        if len({len(part) for part in parts}) > 1:
            raise DataError(f"features must be as long as each other, got {[len(part) for part in parts]}; align them")
        joined = np.concatenate(parts, axis=1)  # (n, w)
        if self.axes is not None:
            joined = (joined - self.centre) @ self.axes  # (n, d)
        return joined.astype(np.float32)

    __call__ = vectors  # a catalog's `encode`


def features(
    log: InteractionLog,
    names: Sequence[str] | None = None,
    *,
    dim: int | None = None,
    categorical: Sequence[str] = (),
    separator: str | None = "|",
    max_labels: int = 1000,
    normalise: bool = False,
) -> Catalog:
    """Returns the catalog with vectors made of `log.item_features`; `catalog.extend(ids, features=...)` adds to it.

    Text and truth values are labels, each a flag of its own; other numbers are standardised. No event is looked at.

    Args:
        log: Whose items.
        names: Which features; by default all.
        dim: Turns the vectors to this many principal directions; None keeps every number.
        categorical: Features whose numbers are labels too, such as a category's code.
        separator: What stands between the labels of one text, as in MovieLens' `"War|Drama"`; None takes texts whole.
        max_labels: Labels of a feature that get a flag, the most frequent first.
        normalise: Whether every vector is brought to length 1.

    Raises:
        DataError: if there is no such feature, no number or label in them, or `dim` is out of range.

    Example:
        >>> from recgym.datasets.synthetic import synthetic
        >>> catalog = features(synthetic(n_users=50, n_items=80), ["genre"])
        >>> catalog.extend(["new"], features={name: own[:1] for name, own in catalog.features.items()}).n_items
        81
    """
    code = FeatureCode.fit(
        log.item_features, names, dim=dim, categorical=categorical, separator=separator, max_labels=max_labels
    )
    encode = _Unit(code) if normalise else code
    return Catalog(encode(log.item_features), log.item_ids, log.reward, log.titles, log.item_features, encode=encode)


@dataclass(frozen=True, eq=False)
class _Unit:
    """A code whose vectors are brought to length 1."""

    code: FeatureCode

    def __call__(self, features: Mapping[str, Any]) -> np.ndarray:
        vectors = self.code.vectors(features)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(norms > 0, norms, 1.0))


# -- one feature -------------------------------------------------------------------------------------------------------


def _fitted(values: np.ndarray, categorical: bool, separator: str | None, max_labels: int) -> Column:
    """Returns how the values (n,) or (n, m) of a feature become numbers."""
    if values.dtype.kind in "iuf" and not categorical:
        numbers = values.reshape(len(values), -1).astype(np.float64)  # (n, m)
        known = np.isfinite(numbers)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, numbers, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.square(np.where(known, numbers - mean, 0.0)).sum(axis=0) / count)
        return Column(None, mean, np.where(spread > 0, spread, 1.0))
    none = np.zeros(0)
    if values.ndim == 2:  # flags already
        return Column(tuple(str(place) for place in range(values.shape[1])), none, none)
    _, labels = _labels(values, separator)
    found, counts = np.unique(labels, return_counts=True)
    kept = found[np.lexsort((found, -counts))][:max_labels]
    return Column(tuple(sorted(kept.tolist())), none, none)


def _coded(name: str, column: Column, values: Any, separator: str | None) -> np.ndarray:
    """Returns the numbers (n, w) that the values (n,) or (n, m) of a feature become."""
    values = np.asarray(values)
    if column.labels is None:
        if values.dtype.kind not in "iufb" or values.reshape(len(values), -1).shape[1] != column.width:
            raise DataError(
                f"feature {name!r} must be {column.width} numbers an item, got {values.dtype} of shape {values.shape}; "
                f"give it as the known items have it"
            )
        numbers = (values.reshape(len(values), -1) - column.mean) / column.spread
        return np.where(np.isfinite(numbers), numbers, 0.0) / np.sqrt(column.width)
    if values.ndim == 2:
        if values.shape[1] != column.width:
            raise DataError(
                f"feature {name!r} must have {column.width} flags an item, got shape {values.shape}; "
                f"give it as the known items have it"
            )
        flags = (values != 0).astype(np.float64)
    else:
        rows, labels = _labels(values, separator)
        flags = np.zeros((len(values), column.width))
        if column.width:
            place = np.searchsorted(column.labels, labels).clip(max=column.width - 1)
            known = np.asarray(column.labels)[place] == labels
            flags[rows[known], place[known]] = 1.0
    return flags / np.sqrt(np.maximum(flags.sum(axis=1, keepdims=True), 1.0))


def _labels(values: np.ndarray, separator: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns all labels (m,) text of values (n,) and the rows they stand in (m,); an empty text is no label."""
    split = [[text] if separator is None else text.split(separator) for text in map(_word, values.tolist())]
    rows = np.repeat(np.arange(len(split)), [len(labels) for labels in split])
    labels = np.array([label for labels in split for label in labels], dtype=str)
    return rows[labels != ""], labels[labels != ""]


def _word(value: Any) -> str:
    """Returns what a label is called: one value has one name, as a whole number, a float or a truth; none is empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, (bool, int, float)) and value == value // 1 and abs(value) < 2**63:
        return str(int(value))
    return str(value)
