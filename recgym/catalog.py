"""Which items exist and what vector describes each."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recgym.errors import DataError, StoreError
from recgym.ids import as_ids, from_json, to_json
from recgym.storage.manifests import read_json
from recgym.storage.store import atomic_folder, read_manifest, write_manifest

KIND, VERSION = "catalog", 1
_ARRAYS, _REST = "vectors.safetensors", "items.json"

_LONGER = ("error", "shorten")
_ROUNDING = 1e-6  # how far above 1 a norm may lie


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items one can recommend, each with a vector; it knows nothing of users.

    The vectors are kept with one global scale: the longest has norm 1, and `scale` is what they were divided by, so
    that `embeddings * scale` gives the vectors back. Per-item normalisation is never done here (it destroys what inner
    products know of popularity). Index `n_items` is padding: a zero row of `table`, never an action or recommended.

    Attributes:
        embeddings: Item vectors (n_items, d) float32, norms at most 1. Vectors given on any scale are divided by it.
        item_ids: Outside ids (n_items,), unique, any hashable.
        reward: Name of the reward transform of the log the vectors were made from (see `transform_rewards`).
        titles: What to call the items (n_items,), or None.
        features: Named item features, each (n_items,) or (n_items, m).
        encode: What makes vectors (m, d), on the scale given, of named item features: how `extend` gets the vector of a
            new item. None where the vectors were not made of features.
        divisor: What to divide the vectors by instead of the longest norm.
        scale: What the vectors were divided by: the norm of the longest one as given, or `divisor`.

    Raises:
        DataError: if the shapes disagree, a vector is not finite, all vectors are zero, or an item id stands twice.

    Example:
        >>> catalog = Catalog(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array(["a", "b"]))
        >>> catalog.n_items, catalog.dim, catalog.scale
        (2, 2, 5.0)
        >>> catalog.table.shape  # one more row: the padding
        (3, 2)
    """

    embeddings: np.ndarray
    item_ids: np.ndarray
    reward: str = "scaled"
    titles: np.ndarray | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    encode: Callable[[Mapping[str, np.ndarray]], np.ndarray] | None = None
    divisor: InitVar[float | None] = None
    scale: float = field(init=False)
    table: np.ndarray = field(init=False, repr=False)  # (n_items + 1, d) float32, last row zero

    def __post_init__(self, divisor: float | None) -> None:
        vectors = np.asarray(self.embeddings)
        item_ids = np.asarray(self.item_ids)
        if vectors.ndim != 2 or len(vectors) == 0 or vectors.shape[1] == 0:
            raise DataError(f"embeddings must have shape (n_items, d), got {vectors.shape}; give one row per item")
        if item_ids.shape != (len(vectors),):
            raise DataError(
                f"item_ids must have shape ({len(vectors)},), one per vector, got {item_ids.shape}; align them"
            )
        bad = np.flatnonzero(np.concatenate([~np.isfinite(part).all(axis=1) for part in _pieces(vectors)]))
        if len(bad):
            raise DataError(
                f"every item vector must be finite, got NaN or infinity in {len(bad)} of {len(vectors)}, "
                f"e.g. items {item_ids[bad[:3]].tolist()}; mend or drop them"
            )
        twice = [item_id for item_id, count in Counter(item_ids.tolist()).items() if count > 1]
        if twice:
            raise DataError(
                f"item ids must be unique, got {len(twice)} that stand twice, e.g. {twice[:3]}; keep one vector each"
            )
        longest = max(float(np.linalg.norm(part.astype(np.float64), axis=1).max()) for part in _pieces(vectors))
        if longest == 0.0:
            raise DataError(f"some item vector must be non-zero, got {len(vectors)} zero vectors; give real vectors")
        scale = longest if divisor is None else float(divisor)
        if not longest <= scale * (1.0 + _ROUNDING):
            raise DataError(f"divisor must be at least the longest norm, {longest:.6g}, got {divisor}; raise it")
        table = np.zeros((len(vectors) + 1, vectors.shape[1]), dtype=np.float32)
        np.divide(vectors, scale, out=table[:-1], casting="unsafe")
        table.setflags(write=False)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "embeddings", table[:-1])
        object.__setattr__(self, "item_ids", item_ids)
        object.__setattr__(self, "scale", scale)

    @property
    def n_items(self) -> int:
        """Number of items; also the index of the padding row of `table`."""
        return len(self.item_ids)

    @property
    def dim(self) -> int:
        """Width d of an item vector."""
        return self.table.shape[1]

    @cached_property
    def index_of(self) -> dict[object, int]:
        """Item index by outside id."""
        return {item_id: index for index, item_id in enumerate(self.item_ids.tolist())}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of vectors, ids and reward transform, as hexadecimal digits: what an agent must agree in with it."""
        digest = hashlib.sha256(np.ascontiguousarray(self.table).tobytes())
        digest.update(json.dumps([self.reward, self.item_ids.tolist()], default=str).encode())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Writes the catalog as one folder, whole or not at all; `Catalog.load` gives ids and vectors back bit for bit.

        All is kept but `encode`, which is code: a loaded catalog is extended by vectors, not by features.

        Raises:
            StoreError: if the folder cannot be written to, or holds anything but what recgym wrote.
            DataError: if an id is no number, text or tuple of them.
        """
        from safetensors.numpy import save_file

        columns = {f"feature/{name}": np.asarray(column) for name, column in self.features.items()}
        columns |= {} if self.titles is None else {"titles": np.asarray(self.titles)}
        arrays = {name: np.ascontiguousarray(column) for name, column in columns.items() if column.dtype.kind in "biuf"}
        listed = {name: _listed(column) for name, column in columns.items() if name not in arrays}
        ids = {"kind": self.item_ids.dtype.str, "ids": to_json(self.item_ids.astype(object))}
        rest = {"item_ids": ids, "reward": self.reward, "scale": self.scale, "columns": listed}
        with atomic_folder(folder) as temporary:
            save_file({"table": np.ascontiguousarray(self.table), **arrays}, temporary / _ARRAYS)
            (temporary / _REST).write_text(json.dumps(rest), encoding="utf-8")
            write_manifest(temporary, KIND, VERSION, {"n_items": self.n_items, "dim": self.dim, "hash": self.hash})
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Catalog:
        """Returns the catalog that `save` wrote; nothing in the folder is executed or unpickled.

        Raises:
            StoreError: if the folder holds no catalog, or one that is damaged.

        Example:
            >>> import tempfile
            >>> catalog = Catalog(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array(["a", "b"]))
            >>> again = Catalog.load(catalog.save(tempfile.mkdtemp()))
            >>> again.hash == catalog.hash, again.scale
            (True, 5.0)
        """
        from safetensors.numpy import load_file

        folder = Path(folder)
        about = read_manifest(folder, KIND, VERSION, full=True)["about"]
        try:
            arrays = load_file(folder / _ARRAYS)
            rest = read_json(folder / _REST)
            kind = np.dtype(rest["item_ids"]["kind"])
            item_ids = from_json(rest["item_ids"]["ids"]).astype(kind)
            columns = {**arrays, **{name: _unlisted(one) for name, one in rest["columns"].items()}}
            features = {name.removeprefix("feature/"): columns[name] for name in columns if name.startswith("feature/")}
            table = arrays["table"]
            made = cls(table[:-1], item_ids, str(rest["reward"]), columns.get("titles"), features, divisor=1.0)
            object.__setattr__(made, "scale", float(rest["scale"]))
            found = made.hash
        except Exception as error:  # as its libraries raise nearly anything for bad content
            problem = f"{type(error).__name__}: {error}"
            raise StoreError(f"{folder} must hold a catalog, got {problem}; save it again") from error
        if found != about.get("hash"):
            raise StoreError(f"{folder} must hold the catalog its manifest names, got another; save it again")
        return made

    def title(self, item: int) -> str:
        """Returns what to call an item: its title, or its id where it has none."""
        return str(self.item_ids[item] if self.titles is None else self.titles[item])

    def extend(
        self,
        item_ids: Any,
        vectors: Any = None,
        *,
        features: Mapping[str, Any] | None = None,
        titles: Any = None,
        longer: str = "error",
    ) -> Catalog:
        """Returns the catalog with new items at its end: old ones keep index and vector bit for bit, and so the scale.

        Args:
            item_ids: Outside ids of the new items (m,).
            vectors: Their vectors (m, d), on the scale of those the catalog was made from; by default made of their
                features as the others' were, where the catalog knows how (`encode`).
            features: Their named features, each (m,) or (m, ...), all those the catalog has; where `vectors` are given
                they may be left out: then they are zero or empty.
            titles: What to call them (m,); by default their ids, where the catalog has titles.
            longer: What becomes of vectors longer than the catalog's longest: `"error"` or `"shorten"` (to its length).

        Raises:
            DataError: if an id is known already or stands twice, shapes disagree, features lack, a vector is not finite
                or too long, or there is no way to make vectors.

        Example:
            >>> catalog = Catalog(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array(["a", "b"]))
            >>> longer = catalog.extend(["c"], [[0.0, -2.5]])
            >>> longer.item_ids.tolist(), longer.embeddings[2].tolist(), longer.scale
            (['a', 'b', 'c'], [0.0, -0.5], 5.0)
        """
        ids = as_ids(item_ids)
        given = {name: np.asarray(column) for name, column in (features or {}).items()}
        if vectors is None:
            if self.encode is None or features is None:
                got = "no features" if self.encode is not None else "a catalog whose vectors were not made of features"
                raise DataError(f"new items must have vectors, or features to make them of, got {got}; pass vectors")
            vectors = self.encode(given)
        new = self._checked(np.asarray(vectors, dtype=np.float64), len(ids), longer)
        return Catalog(
            np.concatenate([self.embeddings.astype(np.float64) * self.scale, new]),
            as_ids([*self.item_ids.tolist(), *ids.tolist()]),
            self.reward,
            self._joined_titles(ids, titles),
            self._joined_features(given, len(ids), features is not None),
            self.encode,
            self.scale,
        )

    def _checked(self, vectors: np.ndarray, n: int, longer: str) -> np.ndarray:
        """Returns new vectors (n, d) as they may join: none longer than the longest."""
        if longer not in _LONGER:
            raise DataError(f"longer must be one of {_LONGER}, got {longer!r}; choose one of them")
        if vectors.shape != (n, self.dim):
            raise DataError(
                f"new vectors must have shape ({n}, {self.dim}), one per item, got {vectors.shape}; align them"
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (n, 1)
        above = norms > self.scale * (1.0 + _ROUNDING)
        if above.any() and longer == "error":
            raise DataError(
                f"new vectors must not be longer than the catalog's longest, {self.scale:.6g}, got {int(above.sum())} "
                f'of {n} that are, up to {norms.max():.6g}; mend them or pass longer="shorten"'
            )
        return np.where(above, vectors * (self.scale / np.where(above, norms, 1.0)), vectors)

    def _joined_titles(self, ids: np.ndarray, titles: Any) -> np.ndarray | None:
        """Returns the titles with those of new items after them; an id stands in where there is none."""
        if titles is None and self.titles is None:
            return None
        own = self.item_ids if self.titles is None else self.titles
        new = ids if titles is None else np.asarray(titles)
        if new.shape != ids.shape:
            raise DataError(f"titles of new items must have shape {ids.shape}, got {new.shape}; give one per item")
        return np.array([str(title) for title in [*own.tolist(), *new.tolist()]], dtype=object)

    def _joined_features(self, given: Mapping[str, np.ndarray], n: int, complete: bool) -> dict[str, np.ndarray]:
        """Returns the catalog's features with those of n new items after them."""
        if complete and (lacking := [name for name in self.features if name not in given]):
            raise DataError(
                f"new items must have all features of the catalog, {sorted(self.features)}, got none named "
                f"{', '.join(lacking)}; give them, empty if need be"
            )
        joined = {}
        for name, own in self.features.items():
            own = np.asarray(own)
            new = given[name] if complete else np.zeros((n, *own.shape[1:]), dtype=own.dtype)
            if new.shape != (n, *own.shape[1:]):
                raise DataError(
                    f"feature {name!r} of new items must have shape {(n, *own.shape[1:])}, got {new.shape}; align it"
                )
            joined[name] = np.concatenate([own, new])
        return joined


def _pieces(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yields a thousand vectors at a time: what fits into the cache is quicker, and takes no memory."""
    return (vectors[first : first + 1024] for first in range(0, len(vectors), 1024))


def _listed(column: np.ndarray) -> dict[str, Any]:
    """Returns a column that is no array of numbers as JSON values."""
    return {"kind": column.dtype.str, "shape": list(column.shape), "values": to_json(column.astype(object).ravel())}


def _unlisted(column: Mapping[str, Any]) -> np.ndarray:
    return from_json(column["values"]).astype(np.dtype(column["kind"])).reshape(column["shape"])
