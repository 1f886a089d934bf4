"""Every registered environment id, and what stands behind it.

An id reads `recgym/<data>-<kind>-v<number>`, or `recgym/<kind>-v<number>` where users are simulated without data.

| kind | users | page |
|---|---|---|
| `Frame` | replay a log; observations are frames of the last F events | `recgym.worlds.frame` |
| `Seq` | the same; observations are histories of variable length | `recgym.worlds.seq` |
| `DRR` | like some of a set of candidates; observations are the user and the last liked items | `recgym.worlds.drr` |
| `Session` | replay one session of a shop's log each; behaviours are rewards | `recgym.worlds.session` |
| `Playlist` | hear songs, and have a spread of taste of their own | `recgym.worlds.playlist` |
| `Sim` | are learned from a log, and answer whatever they are shown | `recgym.worlds.sim` |
| `InterestEvolution` | RecSim's: interests follow what is watched | `recgym.worlds.interest_evolution` |
| `LongTermSatisfaction` | what engages now may satisfy little | `recgym.worlds.long_term_satisfaction` |
| `Boredom` | tire of a topic they have had too much of | `recgym.worlds.boredom` |
| `Drift` | have tastes that wander, and become what is consumed | `recgym.worlds.drift` |
| `Slate` | see three places, come back sooner when happy | `recgym.worlds.slate` |

| data | dataset |
|---|---|
| `Synthetic` | generated, 5,000 users and 2,000 items; for `Playlist` 1,000 listeners and 1,000 songs |
| `MLSmall` | MovieLens latest-small |
| `ML100K`, `ML1M`, `ML20M`, `ML25M` | MovieLens of that size |
| `Coat` | Coat, the ratings people chose to give; without times |
| `Tianchi` | a shop's views, carts, likes and purchases |
| `NowPlaying` | #nowplaying-RS, songs with audio features |
| `Table` | your own: `path=`, `user=`, `item=`, `reward=`, `time=` ... |

An id's number goes up when the same seed and item actions would give other users, items, rewards or ends; the old one
stays, unless it was simply wrong: so did `InterestEvolution`, `Slate`, `Session` and `Playlist` at v0, where an item
that stood twice in a slate earned twice. `MLSmall`, `ML20M` and `ML25M` are one version on (`SHUFFLED`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from recgym.errors import DataError, OptionError
from recgym.render import METADATA

if TYPE_CHECKING:
    from recgym.catalog import Catalog
    from recgym.env import RecEnv, RecVectorEnv
    from recgym.users.base import UserModel

DATASETS = {  # name in ids -> name for `recgym.datasets.load`
    "Synthetic": "synthetic",
    "MLSmall": "ml-latest-small",
    "ML100K": "ml-100k",
    "ML1M": "ml-1m",
    "ML20M": "ml-20m",
    "ML25M": "ml-25m",
    "Coat": "coat",
    "Table": "table",
}
DATA_VERSIONS: dict[str, int] = {}  # data whose logs changed under the same seed: the least version of their ids
SHUFFLED = ("MLSmall", "ML20M", "ML25M")  # one version on: ties came in the order of the item ids, see `Published.ties`
SHOPS = {name: dataset for name, dataset in DATASETS.items() if name != "Coat"}  # sessions need times
SHOPS |= {"Synthetic": "synthetic-shop", "Tianchi": "tianchi"}
SONGS = {"Synthetic": "synthetic-songs", "NowPlaying": "nowplaying"}


@dataclass(frozen=True)
class Kind:
    """One kind of environment: a module of `recgym.worlds`, the data it is registered for, and its defaults."""

    name: str  # in ids
    world: str  # module of `recgym.worlds`, whose function `world` makes the catalog and the users
    datasets: Mapping[str, str] = field(default_factory=lambda: DATASETS)  # empty where the users need no data
    options: Mapping[str, Any] = field(default_factory=dict)  # further defaults of the environment
    version: int = 0
    old: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)  # older versions that stand: where they differ

    def ids(self) -> dict[str, dict[str, Any]]:
        """Returns the newest ids of this kind with the keyword arguments they are registered with."""
        common = {"world": self.world, **self.options}
        if not self.datasets:
            return {f"recgym/{self.name}-v{self.version}": common}
        return {
            f"recgym/{data}-{self.name}-v{self._version(data)}": common | {"dataset": dataset}
            for data, dataset in self.datasets.items()
        }

    def _version(self, data: str) -> int:
        return max(self.version, DATA_VERSIONS.get(data, 0)) + (data in SHUFFLED)

    def old_ids(self) -> dict[str, dict[str, Any]]:
        """Returns older ids that still stand, likewise; none of data whose own version went up."""
        return {
            f"{env_id.rpartition('-v')[0]}-v{version}": {**options, **given}
            for env_id, options in self.ids().items()
            for version, given in self._old(options.get("dataset")).items()
            if options.get("dataset") not in {DATASETS[data] for data in DATA_VERSIONS}
        }

    def _old(self, dataset: str | None) -> dict[int, dict[str, Any]]:
        if dataset not in {DATASETS[data] for data in SHUFFLED}:
            return {version: dict(given) for version, given in self.old.items()}
        return {version: {**given, "ties": "file"} for version, given in {**self.old, self.version: {}}.items()}


KINDS = (
    Kind("Frame", "frame"),
    Kind(
        "Seq",
        "seq",
        options={"observation": "sequence", "frame_size": 50, "min_history": 1, "opening": "least"},
        version=1,
        old={0: {"old_keys": True}},
    ),
    Kind(
        "DRR",
        "drr",
        options={"observation": "user_history", "frame_size": 5},
        version=1,
        old={0: {"old_keys": True}},
    ),
    Kind("Session", "session", SHOPS, options={"repeats": "allow"}, version=1),
    Kind("Playlist", "playlist", SONGS, options={"mapper": "box"}, version=1),
    Kind(
        "Sim",
        "sim",
        DATASETS | {"Tianchi": "tianchi"},
        version=1,
        old={0: {"sessions": "one", "known": "allow"}},
    ),
    Kind("InterestEvolution", "interest_evolution", {}, {"k": 2, "horizon": 1000, "repeats": "allow"}, version=1),
    Kind("LongTermSatisfaction", "long_term_satisfaction", {}, options={"horizon": 60, "repeats": "allow"}),
    Kind("Boredom", "boredom", {}, options={"horizon": 40}),
    Kind("Drift", "drift", {}, options={"horizon": 40}),
    Kind("Slate", "slate", {}, options={"k": 3, "horizon": 100, "repeats": "allow"}, version=1),
)


def registered(env_id: str) -> dict[str, Any]:
    """Returns the options an id stands for.

    Raises:
        DataError: if it is no id of this project.
    """
    known = {name: options for kind in KINDS for name, options in kind.ids().items()}
    old = {name: options for kind in KINDS for name, options in kind.old_ids().items()}
    if env_id in old:
        return old[env_id]
    if env_id not in known:
        raise DataError(f"the id must be one of {', '.join(known)}, got {env_id!r}; `python -m recgym list` shows them")
    return dict(known[env_id])


def register_envs() -> None:
    """Registers every id with Gymnasium; those that are registered already are left alone."""
    for kind in KINDS:
        for env_id, options in (kind.ids() | kind.old_ids()).items():
            if env_id not in gym.registry:
                gym.register(
                    env_id,
                    entry_point="recgym.registry:make_env",
                    vector_entry_point="recgym.registry:make_vector_env",
                    kwargs=options,
                )


def make_env(**options: Any) -> RecEnv:
    """Returns a `RecEnv` of a registered kind; the options are those of `make_vector_env`."""
    from recgym.env import RecEnv

    return RecEnv(**_assembled(options))


def make_vector_env(num_envs: int = 1, **options: Any) -> RecVectorEnv:
    """Returns a `RecVectorEnv` of a registered kind.

    Catalog and users are made once per process, option set and state of files, and shared. Item vectors are always
    made from the training users, whichever part is served, and kept in the cache.

    Args:
        num_envs: Number of sessions side by side.
        **options: Plain numbers, strings and lists of them, so that a spec can be written as JSON:

            - `world="frame"`: the kind, a module of `recgym.worlds`;
            - of the data: `dataset="synthetic"` and whatever `recgym.datasets.load` takes for it; `split="train"`,
              `"test"` or `"all"`: the users served; `split_seed=0` and `test_size=0.05` (`InteractionLog.split_users`);
            - of the vectors: `embeddings="svd"` or `"als"` with `dim=128` and `normalise=False`, or a file with
              `missing_vectors="error"` (as `missing` of `recgym.embeddings.load_vectors`);
            - of the users: what the kind's `world` takes, e.g. `advance`, `end_of_log`, `min_history`, `answers`;
            - of the environment: everything of `RecVectorEnv` but `users`, `catalog` and `recipe`.

    Raises:
        DataError: if an option is unknown, no plain value, or out of range.
        MissingDataError: if the data set is not on this machine.

    Example:
        >>> env = make_vector_env(4, n_users=60, n_items=50, dim=8, action="item")
        >>> env.single_action_space
        Discrete(50)
    """
    from recgym.env import RecVectorEnv

    return RecVectorEnv(num_envs, **_assembled(options))


make_env.metadata = make_vector_env.metadata = METADATA  # type: ignore[attr-defined]  # gym.make asks which modes there are


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


def load_world(options: str) -> tuple[Catalog, UserModel]:
    """Returns the catalog and users that data options, as JSON, stand for; the same objects for the same text.

    A file that has changed since, or another one of the same relative name, is read anew.
    """
    return _loaded(options, json.dumps(_sources(json.loads(options))))


def _sources(options: Mapping[str, Any]) -> list[Any]:
    """Returns what tells the files that options name from any others: path, size, time of change and sampled hash."""
    from recgym import cache

    named = [Path(value).expanduser() for value in options.values() if isinstance(value, str) and value]
    if isinstance(options.get("dataset"), str):
        from recgym.datasets.sources import data_dir

        data = data_dir()
        named += [] if data is None else [data / f"{options['dataset']}{ending}" for ending in ("", ".zip")]
    files: list[Any] = []
    for path in named:
        with suppress(OSError, ValueError):  # most values are no paths
            if path.is_file():
                files.append([str(path.resolve()), cache.fingerprint(path)])
            elif path.is_dir():
                inside = sorted((file.name, file.stat()) for file in path.iterdir())
                files.append([str(path.resolve()), [(name, at.st_size, at.st_mtime_ns) for name, at in inside]])
    return files


@lru_cache(maxsize=8)
def _loaded(options: str, _sources: str) -> tuple[Catalog, UserModel]:
    given = json.loads(options)
    known = {kind.world for kind in KINDS}
    world = given.pop("world", "frame")
    if world not in known:
        raise DataError(f"world must be one of {', '.join(sorted(known))}, got {world!r}; choose one of them")
    make = import_module(f"recgym.worlds.{world}").world
    taken = inspect.signature(make).parameters
    unknown = sorted(set(given) - set(taken))
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        words = f"unexpected keyword argument {', '.join(map(repr, unknown))}"
        raise OptionError(
            f"options of world {world!r} must be among {', '.join(taken)}, got {', '.join(unknown)}; "
            f"drop those ({words})"
        )
    catalog, users = make(**given)
    return catalog, users
