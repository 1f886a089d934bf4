"""Every registered environment id, and what stands behind it.

| id | dataset | versions |
|---|---|---|
| `recgym/Synthetic-Frame-v0` | generated, 5,000 users and 2,000 items | v0: first |
| `recgym/MLSmall-Frame-v0` | MovieLens latest-small | v0: first |
| `recgym/ML100K-Frame-v0`, `ML1M`, `ML20M`, `ML25M` | MovieLens of that size | v0: first |
| `recgym/Table-Frame-v0` | your own: `path=`, `user=`, `item=`, `reward=`, `time=` ... | v0: first |

An id's number goes up when the same seed and item actions would give other users, items, rewards or ends; the old one
stays.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from recgym.errors import DataError
from recgym.render import METADATA

if TYPE_CHECKING:
    from recgym.catalog import Catalog
    from recgym.env import RecEnv, RecVectorEnv
    from recgym.log import InteractionLog
    from recgym.users import ReplayUsers

DATASETS = {  # name in ids -> name for `recgym.datasets.load`
    "Synthetic": "synthetic",
    "MLSmall": "ml-latest-small",
    "ML100K": "ml-100k",
    "ML1M": "ml-1m",
    "ML20M": "ml-20m",
    "ML25M": "ml-25m",
    "Table": "table",
}
SPLITS = ("train", "test", "all")
_VECTORS = 1  # raise it when `embeddings.svd` or `als` would make other vectors of the same log


def register_envs() -> None:
    """Registers every id with Gymnasium; those that are registered already are left alone."""
    for name, dataset in DATASETS.items():
        env_id = f"recgym/{name}-Frame-v0"
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="recgym.registry:frame_env",
                vector_entry_point="recgym.registry:frame_vector_env",
                kwargs={"dataset": dataset},
            )


def frame_env(**options: Any) -> RecEnv:
    """Returns a `RecEnv` whose users replay a named log; the options are those of `frame_vector_env`."""
    from recgym.env import RecEnv

    return RecEnv(**_assembled(options))


def frame_vector_env(num_envs: int = 1, **options: Any) -> RecVectorEnv:
    """Returns a `RecVectorEnv` whose users replay a named log.

    The log is loaded once per process and option set, and shared by all environments. Item vectors are always made from
    the training users, whichever part is served, and kept in the cache.

    Args:
        num_envs: Number of sessions side by side.
        **options: Plain numbers, strings and lists of them, so that a spec can be written as JSON:

            - of the data: `dataset="synthetic"` and whatever `recgym.datasets.load` takes for it; `split="train"`,
              `"test"` or `"all"`: the users served; `split_seed=0` and `test_size=0.05` (`InteractionLog.split_users`);
            - of the vectors: `embeddings="svd"` or `"als"` with `dim=128` and `normalise=False`, or a file with
              `missing_vectors="error"` (as `missing` of `recgym.embeddings.load_vectors`);
            - of the users: `advance`, `end_of_log`, `min_history`, `answers` as in `ReplayUsers`;
            - of the environment: everything of `RecVectorEnv` but `users`, `catalog` and `recipe`.

    Raises:
        DataError: if an option is unknown, no plain value, or out of range.
        MissingDataError: if the data set is not on this machine.

    Example:
        >>> env = frame_vector_env(4, n_users=60, n_items=50, dim=8, action="item")
        >>> env.single_action_space
        Discrete(50)
    """
    from recgym.env import RecVectorEnv

    return RecVectorEnv(num_envs, **_assembled(options))


frame_env.metadata = frame_vector_env.metadata = METADATA  # type: ignore[attr-defined]  # gym.make asks which modes there are


def _assembled(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of `RecVectorEnv`: the environment's own, and users, catalog and recipe from the others."""
    from recgym.env import RecVectorEnv

    own = set(inspect.signature(RecVectorEnv).parameters) - {"num_envs", "users", "catalog", "recipe"}
    data = {name: value for name, value in options.items() if name not in own}
    data["frame_size"] = options.get("frame_size", 10)
    try:
        recipe = partial(load_world, json.dumps(data, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"options of a registered environment must be plain numbers, strings or lists, got {error}; name a file, "
            "or build RecVectorEnv(users=..., catalog=...) from the objects"
        ) from None
    catalog, users = recipe()
    return {name: value for name, value in options.items() if name in own} | {
        "users": users,
        "catalog": catalog,
        "recipe": recipe,
    }


@lru_cache(maxsize=8)
def load_world(options: str) -> tuple[Catalog, ReplayUsers]:
    """Returns the catalog and users that data options, as JSON, stand for; the same objects for the same text."""
    return _world(**json.loads(options))


def _world(
    *,
    frame_size: int,
    dataset: str = "synthetic",
    split: str = "train",
    split_seed: int = 0,
    test_size: float = 0.05,
    embeddings: str = "svd",
    dim: int = 128,
    normalise: bool = False,
    missing_vectors: str = "error",
    advance: str = "answer",
    end_of_log: str = "truncate",
    min_history: int | None = None,
    answers: str = "all",
    **load_options: Any,
) -> tuple[Catalog, ReplayUsers]:
    from recgym import datasets
    from recgym.embeddings import load_vectors
    from recgym.options import check_choice
    from recgym.users import ReplayUsers

    check_choice("split", split, SPLITS)
    log = datasets.load(dataset, **load_options)
    given = None if embeddings in ("svd", "als") else load_vectors(embeddings, log, missing=missing_vectors)
    if given is not None:
        log = given[1]
    train, test = log.split_users(test_size=test_size, seed=split_seed)
    catalog = _fitted_catalog(train, embeddings, {"dim": dim, "normalise": normalise}) if given is None else given[0]
    served = {"train": train, "test": test, "all": log}[split]
    users = ReplayUsers(
        served, frame_size, advance=advance, end_of_log=end_of_log, min_history=min_history, answers=answers
    )
    return catalog, users


def _fitted_catalog(train: InteractionLog, method: str, options: dict[str, Any]) -> Catalog:
    """Returns the items with vectors fitted on the training log, from the cache where they are there."""
    import numpy as np

    from recgym import cache, embeddings
    from recgym.catalog import Catalog

    def build(folder: Path) -> None:
        made = getattr(embeddings, method)(train, **options)
        np.save(folder / "vectors.npy", made.embeddings * np.float32(made.scale))

    key = {"log": _content_hash(train), "method": method, **options}
    folder = cache.entry("vectors", f"{train.name}-{method}", key, build, version=_VECTORS)
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)  # read back even when new: one source of bits
    return Catalog(vectors, train.item_ids, train.reward, train.titles, train.item_features)


def _content_hash(log: InteractionLog) -> str:
    """Returns a hash of what vectors are made from."""
    import numpy as np

    digest = hashlib.sha256(json.dumps([log.n_items, log.reward]).encode())
    for column in (log.items, log.rewards, log.offsets):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
