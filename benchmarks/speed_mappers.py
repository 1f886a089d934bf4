"""Times the search for the items nearest to an action, against the bare matrix product and against exact search."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.turns import ROWS, in_turns, row
from recgym.actions import EmbeddingActions
from recgym.catalog import Catalog

N_ITEMS, DIM, SEEN = 26_744, 128, 30  # MovieLens-20M's items; items seen by each session
_SINGLE = 32  # single sessions asked about in a round


def mapper_rows(quick: bool = False) -> list[dict[str, Any]]:
    """Returns rows of exact masked search and of approximate search, all with queries that were not asked before."""
    n = N_ITEMS // 10 if quick else N_ITEMS
    random = np.random.default_rng(0)
    centres = random.normal(size=(max(4, n // 90), DIM))
    vectors = centres[random.integers(0, len(centres), n)] + 0.5 * random.normal(size=(n, DIM))
    catalog = Catalog(vectors.astype(np.float32), np.arange(n))
    seen = np.zeros((ROWS, n), dtype=bool)
    seen[np.arange(ROWS)[:, None], random.integers(0, n, size=(ROWS, SEEN))] = True
    return [*_exact(catalog, seen, random), *_approximate(catalog, seen, random)]


def _exact(catalog: Catalog, seen: np.ndarray, random: np.random.Generator) -> list[dict[str, Any]]:
    n, items = catalog.n_items, catalog.embeddings
    out = np.empty((ROWS, n), dtype=np.float32)
    bare = _asks(lambda queries: np.matmul(queries, items.T, out=out), random)
    calls = {"bare": bare}
    for mapper in ("inner", "cosine", "l2"):
        for k in (1, 10):
            chosen = EmbeddingActions(catalog, k, mapper)
            calls[f"{mapper}, top-{k}"] = _asks(partial(chosen.to_items, blocked=seen), random)
    seconds = in_turns(calls)
    found = [row("NumPy", "bare fp32 product", float(ROWS / np.median(seconds["bare"])), "queries/s", n)]
    for name, taken in seconds.items():
        if name != "bare":
            goal = "0.75, on two threads 0.6" if name.endswith("-1") else "0.45, on two threads 0.4"
            share = float(np.median(seconds["bare"] / taken))
            found.append(row("recgym", f"exact, masked, {name}", float(ROWS / np.median(taken)), "queries/s", n))
            found.append(row("recgym", f"exact, masked, {name}, of the bare product (goal {goal})", share, "times", n))
    return found


def _approximate(catalog: Catalog, seen: np.ndarray, random: np.random.Generator, k: int = 10) -> list[dict[str, Any]]:
    found = []
    for mapper in ("cosine", "l2"):
        exact = EmbeddingActions(catalog, k, mapper)
        about = EmbeddingActions(catalog, k, mapper, approximate_above=0)
        calls = {}
        for name, chosen in (("exact", exact), ("about", about)):
            calls[f"batch {name}"] = _asks(partial(chosen.to_items, blocked=seen), random)
            calls[f"single {name}"] = _asks(partial(_one_by_one, chosen, seen), random)
        seconds = in_turns(calls)
        for kind, goal, n in (("batch", 3, ROWS), ("single", 6, 1)):
            gain = float(np.median(seconds[f"{kind} exact"] / seconds[f"{kind} about"]))
            label = f"approximate over exact, {mapper}, top-{k}, {n} at a time (goal {goal})"
            found.append(row("recgym", label, gain, "times", catalog.n_items))
        recalls = {"uniform in the action box": _uniform(random), "between two items": _between(catalog, random)}
        for name, queries in recalls.items():
            shared = [
                len(set(one) & set(other)) / k
                for one, other in zip(exact.to_items(queries, seen), about.to_items(queries, seen), strict=True)
            ]
            label = f"recall@{k}, {mapper}, queries {name}"
            found.append(row("recgym", label, float(np.mean(shared)), "share", catalog.n_items))
    return found


def _asks(call: Callable[[np.ndarray], object], random: np.random.Generator) -> Callable[[], object]:
    """Returns a function that asks about new queries each time, drawn beforehand."""
    drawn = iter([_uniform(random) for _ in range(10)])
    return lambda: call(next(drawn))


def _one_by_one(chosen: EmbeddingActions, seen: np.ndarray, queries: np.ndarray) -> None:
    for place in range(_SINGLE):
        chosen.to_items(queries[place : place + 1], seen[place : place + 1])


def _uniform(random: np.random.Generator) -> np.ndarray:
    return random.uniform(-1.0, 1.0, size=(ROWS, DIM)).astype(np.float32)


def _between(catalog: Catalog, random: np.random.Generator) -> np.ndarray:
    return catalog.embeddings[random.integers(0, catalog.n_items, size=(2, ROWS))].mean(axis=0)
