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
| `Retention` | come back after days that depend on what visits were worth | `recgym.worlds.retention` |
| `SlateBoredom` | GeMS's: see ten places, tire of topics clicked too often | `recgym.worlds.slate_boredom` |

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
that stood twice in a slate earned twice. `MLSmall`, `ML20M`, `ML25M` and `Table` are one version on (`LATER`).
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from recgym.envs.render import METADATA
from recgym.errors import DataError, OptionError
from recgym.options import accepted, check_known, nearest

if TYPE_CHECKING:
    from recgym.catalog import Catalog
    from recgym.envs.env import RecEnv, RecVectorEnv
    from recgym.log import InteractionLog
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
_TEST_SIZE = 0.05  # share of the users of a log that worlds hold out unless told otherwise
DATA_VERSIONS: dict[str, int] = {}  # data whose logs changed under the same seed: the least version of their ids
LATER: dict[str, dict[str, Any]] = {  # data one version on -> what their ids before it were
    **{name: {"ties": "file"} for name in ("MLSmall", "ML20M", "ML25M")},  # in item order, see `Published.ties`
    "Table": {"transform": "raw"},  # whatever rewards look like
}
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
        return max(self.version, DATA_VERSIONS.get(data, 0)) + (data in LATER)

    def old_ids(self) -> dict[str, dict[str, Any]]:
        """Returns older ids that still stand, likewise; none of data whose own version went up."""
        return {
            f"{env_id.rpartition('-v')[0]}-v{version}": {**options, **given}
            for env_id, options in self.ids().items()
            for version, given in self._old(options.get("dataset")).items()
            if options.get("dataset") not in {DATASETS[data] for data in DATA_VERSIONS}
        }

    def _old(self, dataset: str | None) -> dict[int, dict[str, Any]]:
        before = next((given for data, given in LATER.items() if DATASETS[data] == dataset), None)
        if before is None:
            return {version: dict(given) for version, given in self.old.items()}
        return {version: {**given, **before} for version, given in {**self.old, self.version: {}}.items()}


_SINGLE = "recgym.envs.registry:make_env"
_WORLDS: dict[str, Callable[..., Any]] = {}  # registered in this process, by kind
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
    Kind("Retention", "retention", {}, options={"k": 3, "horizon": 300, "repeats": "allow"}),
    Kind("SlateBoredom", "slate_boredom", {}, {"k": 10, "horizon": 100, "repeats": "allow", "frame_size": 100}),
)


def registered(env_id: str) -> dict[str, Any]:
    """Returns the options an id stands for.

    Raises:
        DataError: if it is no id of this project, nor one that `register_dataset` or `register_world` made.
    """
    spec = gym.registry[found_id(env_id)]
    if spec.entry_point != _SINGLE:
        raise DataError(f"the id must be made by recgym, got {env_id!r}; see make_batch for others")
    return dict(spec.kwargs)


def ids() -> list[str]:
    """Returns every id that is made here, those of plug-ins among them, in sorted order."""
    return sorted(name for name, spec in gym.registry.items() if spec.entry_point == _SINGLE)


def register_envs() -> None:
    """Registers every id with Gymnasium; those that are registered already are left alone.

    Installed packages may bring more, by entry points of the groups `recgym.datasets` (name -> what `register_dataset`
    takes as source) and `recgym.worlds` (kind -> what `register_world` takes as world); none is imported here.
    """
    for kind in KINDS:
        for env_id, options in (kind.ids() | kind.old_ids()).items():
            _register(env_id, options)
    for point in entry_points(group="recgym.datasets"):
        _register_data(point.name)
    for point in entry_points(group="recgym.worlds"):
        _register(f"recgym/{point.name}-v0", {"world": point.value})


def register_dataset(name: str, source: Any, **options: Any) -> None:
    """Gives a log of one's own a name in this process, for `datasets.load`, every command and environments by id.

    The ids are `recgym/NAME-KIND-vN` for each kind that is registered for tables (Frame, Seq, DRR, Session, Sim). The
    newest source of a name counts. To have it in every process, let a package declare an entry point of the group
    `recgym.datasets`.

    Args:
        name: What to call it: letters, digits, ".", "_" and "-".
        source: A function that returns an `InteractionLog`, and may take options; a log; or an address (a path, or a
            DataFrame) as `datasets.load` takes it.
        **options: What the source is loaded with by default, e.g. `user="listener"`.

    Raises:
        DataError: if the name is one of recgym's own, or has other characters.

    Example:
        >>> import pandas as pd
        >>> register_dataset("tiny", pd.DataFrame({"u": [1, 1, 2], "i": [5, 6, 5]}), user="u", item="i")
        >>> from recgym import datasets
        >>> datasets.load("tiny")
        InteractionLog('tiny': 3 events, 2 users, 2 items)
    """
    from recgym.datasets import BUILT_IN, registered

    if name in BUILT_IN or name == "table" or name in DATASETS:
        raise DataError(f"the name of a data set must be its own, got {name!r}, which recgym has; choose another")
    registered.add(name, source, options)
    _loaded.cache_clear()
    _register_data(name)


def register_world(kind: str, world: Callable[..., Any] | str, *, version: int = 0, **options: Any) -> None:
    """Registers a kind of environment of one's own, as `recgym/KIND-vN`.

    Args:
        kind: Its name in ids.
        world: A function that returns `(catalog, users)`, or where it is: `"package.module:function"`. Its keyword
            arguments, which are plain values, become options of the id; `frame_size` is always given. One that can be
            imported is found by other processes too.
        version: Raise it when the same seed and item actions would give other users, items, rewards or ends.
        **options: Defaults of the environment and of the world, e.g. `horizon=40`.

    Raises:
        DataError: if the kind is recgym's own, or the world is nothing that can be called or imported.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", kind) or kind in {one.name for one in KINDS}:
        raise DataError(f"a kind must have a name of its own, letters and digits, got {kind!r}; choose another")
    where = world
    if callable(world):
        where = f"{getattr(world, '__module__', '')}:{getattr(world, '__qualname__', '')}"
        if _imported(where) is not world:  # a lambda, or a function inside another: known here alone
            where = kind
            _WORLDS[kind] = world
    else:
        world_of(str(world))
    _loaded.cache_clear()
    _register(f"recgym/{kind}-v{version}", {"world": where, **options}, anew=True)


def world_of(name: str) -> Callable[..., tuple[Catalog, UserModel]]:
    """Returns the function that makes items and users of a kind.

    Args:
        name: A module of `recgym.worlds`, a kind that was registered in this process, or `"package.module:function"`.

    Raises:
        DataError: if there is none.
    """
    known = {kind.world for kind in KINDS}
    if name in known:
        made: Callable[..., tuple[Catalog, UserModel]] = import_module(f"recgym.worlds.{name}").world
        return made
    found = _WORLDS.get(name) or _imported(name)
    if not callable(found):
        raise DataError(
            f"world must be one of {', '.join(sorted([*known, *_WORLDS]))}, or package.module:function, got {name!r}; "
            f"choose one of them"
        )
    return found


def world_page(name: str) -> str:
    """Returns what a kind says of itself: its module of `recgym.worlds`, or the docstring of a foreign function."""
    if name in {kind.world for kind in KINDS}:
        return inspect.cleandoc(import_module(f"recgym.worlds.{name}").__doc__ or "")
    return inspect.getdoc(world_of(name)) or name


def found_id(env_id: str) -> str:
    """Returns an id that Gymnasium knows, without the `package:` before it, which is imported.

    Raises:
        DataError: if there is no such id or package.
    """
    package, _, name = env_id.rpartition(":")
    try:
        if package:
            import_module(package)
    except ImportError as error:
        raise DataError(f"{env_id} must begin with a package Python finds, got {error}; mend the name") from error
    if name not in gym.registry:
        hint = nearest(name, ids()) or nearest(f"recgym/{name}", ids()) or nearest(f"recgym/{name}-v0", ids())
        raise DataError(
            f"an id must be one of those `python -m recgym list` shows, got {env_id!r}; {hint or 'look there'}"
        )
    return name


def takes_split(env_id: str) -> bool:
    """Returns whether an id has a training and a test part, which its option `split` names."""
    spec = gym.registry.get(env_id)
    if spec is None or spec.entry_point != _SINGLE:
        return False
    taken = accepted(world_of(spec.kwargs["world"]))
    return "split" in taken.defaults or taken.others


def make_batch(env_id: str, num_envs: int, **options: Any) -> RecVectorEnv:
    """Returns a `RecVectorEnv` of any id, ours or one that others registered with Gymnasium.

    Args:
        env_id: E.g. `"recgym/Boredom-v0"`, `"mine/Moody-v0"`, or `"package:mine/Moody-v0"`, which imports the package.
        num_envs: Sessions side by side.
        **options: Of the environment.

    Raises:
        DataError: if there is no such id, or it makes no `RecVectorEnv`.
    """
    from recgym.envs.vector import RecVectorEnv

    if env_id in ids():
        return make_vector_env(num_envs, **registered(env_id) | options)
    env_id = found_id(env_id)
    spec = gym.registry[env_id]
    if spec.vector_entry_point is None:
        raise DataError(f"{env_id} must be registered with a vector_entry_point that makes a RecVectorEnv, got none")
    made = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **options).unwrapped
    if not isinstance(made, RecVectorEnv):
        raise DataError(f"{env_id} must make a RecVectorEnv of users and items, got {type(made).__name__}")
    return made


def _register(env_id: str, options: Mapping[str, Any], *, anew: bool = False) -> None:
    if anew:
        gym.registry.pop(env_id, None)
    if env_id not in gym.registry:
        gym.register(
            env_id,
            entry_point=_SINGLE,
            vector_entry_point="recgym.envs.registry:make_vector_env",
            kwargs=dict(options),
        )


def _register_data(name: str) -> None:
    """Registers the ids of a data set from outside: one for each kind that there is for tables."""
    for kind in KINDS:
        if "Table" in kind.datasets:
            for env_id, options in replace(kind, datasets={name: name}).ids().items():
                _register(env_id, options)


def _imported(where: str) -> Any:
    """Returns what `"package.module:name"` names; None where it is nothing that can be imported."""
    module, _, path = where.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def make_env(**options: Any) -> RecEnv:
    """Returns a `RecEnv` of a registered kind; the options are those of `make_vector_env`."""
    from recgym.envs.env import RecEnv

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
            - of the vectors: `embeddings="svd"` or `"als"` with `dim=None` (128, or all a small log has) and
              `normalise=False`, or a file with `missing_vectors="error"` (as in `recgym.embeddings.load_vectors`);
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
    from recgym.envs.env import RecVectorEnv

    return RecVectorEnv(num_envs, **_assembled(options))


make_env.metadata = make_vector_env.metadata = METADATA  # type: ignore[attr-defined]  # gym.make asks which modes there are


def _assembled(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of `RecVectorEnv`: the environment's own, and users, catalog and recipe from the others."""
    from recgym.envs.env import RecVectorEnv

    own = set(accepted(RecVectorEnv).defaults) - {"num_envs", "users", "catalog", "recipe"}
    data = {name: value for name, value in options.items() if name not in own}
    data["frame_size"] = options.get("frame_size", 10)
    if data.get("transform") == "raw" and _is_named(data.get("dataset")):
        del data["transform"]  # of an older id of tables, whose data another data set stands for
    try:
        recipe = partial(load_world, json.dumps(data, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"options of a registered environment must be plain numbers, strings or lists, got {error}; name a file, "
            "or build RecVectorEnv(users=..., catalog=...) from the objects"
        ) from None
    try:
        catalog, users = recipe()
    except OptionError as error:
        raise _explained(error, data, own) from None
    return {name: value for name, value in options.items() if name in own} | {
        "users": users,
        "catalog": catalog,
        "recipe": recipe,
    }


def _is_named(dataset: Any) -> bool:
    from recgym import datasets

    return dataset != "table" and dataset in datasets.names()


def _explained(error: OptionError, data: Mapping[str, Any], own: set[str]) -> OptionError:
    """Returns an error that names all options an id takes, of environment, users and data, and the nearest."""
    from recgym.envs.option_docs import world_options

    world = data.get("world", "frame")
    try:
        check_known(f"world {world!r}", data, sorted(own | set(world_options(world_of(world), data)) | {"world"}))
    except OptionError as explained:
        return explained
    return error  # known elsewhere


def load_world(options: str) -> tuple[Catalog, UserModel]:
    """Returns the catalog and users that data options, as JSON, stand for; the same objects for the same text.

    A file that has changed since, or another one of the same relative name, is read anew.
    """
    return _loaded(options, json.dumps(_sources(json.loads(options))))


def _sources(options: Mapping[str, Any]) -> list[Any]:
    """Returns what tells the files that options name from any others: path, size, time of change and sampled hash."""
    from recgym.storage import cache

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
    from recgym.worlds.further import further

    given = json.loads(options)
    world = given.pop("world", "frame")
    make = world_of(world)
    taken, others = accepted(make)
    traits = set(accepted(further).defaults) - {"catalog", "users", "frame_size", "known"} - set(taken)
    more = {name: given.pop(name) for name in sorted(traits & set(given))}
    if not others:
        check_known(f"world {world!r}", given, taken)
    catalog, users = make(**given)
    test_size = taken.get("test_size", _TEST_SIZE)
    known = partial(_training_users, {"test_size": test_size, "split_seed": 0, **given}) if "dataset" in given else None
    return catalog, further(catalog, users, given["frame_size"], known, **more) if more else users


def _training_users(given: Mapping[str, Any]) -> InteractionLog:
    """Returns the log of the training users of the data set that options of a world name."""
    from recgym import datasets
    from recgym.envs.option_docs import data_options

    name = given["dataset"]
    options = {*data_options(name), "users"}
    log = datasets.load(name, **{option: given[option] for option in options if option in given})
    return log.split_users(given["test_size"], given["split_seed"])[0]
