"""Item vectors from two towers: users lie near what they consumed, items near who consumed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.embeddings.features import FeatureCode
from recgym.embeddings.matrix import fitted_catalog
from recgym.embeddings.vectors import save_vectors
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.options import check_choice, check_sizes

LOSSES = ("cosine", "bce")


def dssm(
    log: InteractionLog,
    dim: int = 32,
    *,
    loss: str = "bce",
    n_negatives: int = 4,
    features: Sequence[str] | bool = False,
    categorical: Sequence[str] = (),
    n_epochs: int = 10,
    batch_size: int = 1024,
    lr: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
    folder: str | Path | None = None,
    margin: float = 0.0,
    sharpness: float = 10.0,
    unknown: float = 0.1,
    progress: bool = False,
) -> Catalog:
    """Returns the catalog of item vectors of a two-tower model of who consumed what; fit on training events.

    Each tower is index (and features) -> 256 -> 128 -> `dim`, ReLU and batch normalisation between, made length 1.
    A user's vector shall point where the vectors of consumed items do, and away from as many drawn items that the user
    has nowhere in the log. All vectors have length 1, so inner products know nothing of popularity.

    Args:
        log: Training events.
        dim: Width d of the vectors.
        loss: `"bce"` (cross-entropy of sigmoid(`sharpness` * cosine)) or `"cosine"` (1 - cosine, and what of a
            negative's is above `margin`), whose vectors served an agent far worse on the generated data.
        n_negatives: Items drawn per event.
        features: Which of `log.item_features` the item tower sees, `True` for all; the user tower then sees
            `log.users`. New items get their vectors by `catalog.extend(ids, features=...)`.
        categorical: Features whose numbers are labels, see `recgym.embeddings.features`.
        n_epochs: Passes over the events.
        batch_size: Events per update.
        lr: Adam's step size.
        seed: Which start, order and negatives.
        device: Where it is trained.
        folder: Where to write `items.npy`, `users.npy` and the ids of their rows, `items.json` and `users.json`.
        margin: See `loss`.
        sharpness: See `loss`.
        unknown: Share of indices hidden in training where there are features, so that those can stand alone.
        progress: Whether to show a progress bar.

    Raises:
        DataError: if an option is out of range, there is no such feature, or nothing to learn from.

    Source: Huang et al., "Learning deep structured semantic models for web search using clickthrough data", CIKM 2013;
        hidden indices after Volkovs, Yu and Poutanen, "DropoutNet", NeurIPS 2017.

    Example:
        >>> from recgym.datasets.synthetic import synthetic
        >>> dssm(synthetic(n_users=40, n_items=40), dim=8, n_epochs=1).table.shape
        (41, 8)
    """
    from recgym.embeddings.towers import Options, fit_towers

    check_choice("loss", loss, LOSSES)
    check_sizes(dim=dim, n_negatives=n_negatives, n_epochs=n_epochs, batch_size=batch_size)
    if not 0.0 <= unknown < 1.0:
        raise DataError(f"unknown must lie in 0..1, 1 excluded, got {unknown}; hide some of the indices, not all")
    options = Options(dim, loss, n_negatives, n_epochs, batch_size, lr, margin, sharpness, unknown, seed, device)
    of_items = of_users = None
    if features is not False:
        names = None if features is True else features
        of_items = FeatureCode.fit(log.item_features, names, categorical=categorical)
        of_users = FeatureCode.fit(log.users) if log.users else None
    inputs = _inputs(of_users, log.users, log.n_users), _inputs(of_items, log.item_features, log.n_items)
    from tqdm.auto import tqdm  # which looks for notebooks, a tenth of a second

    with tqdm(total=n_epochs, unit="epoch", disable=not progress) as bar:
        towers = fit_towers(log, *inputs, options, lambda loss: bar.update())
    if folder is not None:
        save_vectors(Path(folder) / "items.npy", log.item_ids, towers.items)
        save_vectors(Path(folder) / "users.npy", log.user_ids, towers.users)
    if of_items is None:
        return fitted_catalog(towers.items, log, normalise=False)
    encode = _OfNewItems(of_items, towers)
    return Catalog(towers.items, log.item_ids, log.reward, log.titles, log.item_features, encode)


def _inputs(code: FeatureCode | None, features: Mapping[str, Any], n: int) -> np.ndarray:
    """Returns what a tower sees of n users or items besides their index (n, m)."""
    return np.zeros((n, 0), dtype=np.float32) if code is None else code.vectors(features)


@dataclass(frozen=True, eq=False)
class _OfNewItems:
    """What the item tower makes of items it has never met, by their features."""

    code: FeatureCode
    towers: Any

    def __call__(self, features: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self.towers.of_new_items(self.code.vectors(features)))
