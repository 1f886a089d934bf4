"""Transitions as a Minari dataset: one episode per user or session, observations as indices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tqdm import tqdm

from recgym.catalog import Catalog
from recgym.errors import DataError, StoreError
from recgym.export.rows import Rows, next_frame
from recgym.export.unfinished import needed, unfinished
from recgym.frames import KEYS
from recgym.storage import store
from recgym.storage.manifests import DISK

VERSION = 2  # 1 called observations as the columns are called
_DATA, _DIGEST = "main_data.hdf5", "sha256"
_PART = 1024  # episodes made at a time
_OVERHEAD, _PER_INFO = 18_000, 2_200  # bytes HDF5 takes for an episode beside its values, about; measured
_OWN = ("user", "session", "step", "items", "rewards", "action", "reward", "terminated", "truncated")


def write(
    rows: Rows, root: Path, dataset_id: str, catalog: Catalog | None, env: str | gym.envs.registration.EnvSpec | None
) -> Path:
    """Writes rows as the Minari dataset `root/dataset_id`; see `recgym.export.to_minari`."""
    needed("minari", "minari")
    needed("h5py", "minari")
    _check_id(dataset_id)
    path, size = root.resolve() / dataset_id, predicted_size(rows, catalog)  # Minari joins a relative path to itself
    store.check_place(path)
    borders = rows.episodes()
    users = np.flatnonzero(np.diff(borders))  # those with a row
    title = f"{dataset_id}, about {size / 1e6:,.1f} MB"
    with unfinished(path, size, rows, catalog, format="minari", version=VERSION, sums=1, id=dataset_id) as folder:
        parts = []
        with tqdm(total=len(users), desc=title, unit="episode", unit_scale=True, disable=None) as bar:
            for number, first in enumerate(range(0, len(users), _PART)):
                parts.append(folder / f"part-{number:05d}")
                some = users[first : first + _PART]
                if not parts[-1].exists():
                    with store.atomic_folder(parts[-1]) as target:
                        made = list(_episodes(rows, borders, some))
                        _storage(target, rows).update_episodes(made)
                        digest = _proved(target / _DATA, made)
                        (target / _DIGEST).write_text(digest, encoding="utf-8")
                bar.update(len(some))
        with store.atomic_folder(path) as target:
            (target / "data").mkdir()
            whole = _storage(target / "data", rows, env)
            whole.update_metadata(_metadata(rows, dataset_id, catalog))
            _merge(parts, target / "data", whole)
            if catalog is not None:
                store.save_array(target / "embeddings.npy", catalog.table)
            store.write_manifest(target, "minari", VERSION, {"name": rows.log.name, "id": dataset_id})
    return path


def predicted_size(rows: Rows, catalog: Catalog | None) -> int:
    """Returns how many bytes the dataset will have, about: an episode takes some 18 kB beside its values."""
    row = rows.block(0, 1)
    infos = [column.nbytes for name, column in row.items() if name not in (*_OWN, "next_items", "next_rewards")]
    width = 8 * rows.frame_size + 8 * rows.k + 6 + sum(infos)
    n_episodes = np.count_nonzero(np.diff(rows.episodes()))
    return int(len(rows) * width + n_episodes * (_OVERHEAD + _PER_INFO * len(infos) + 8 * rows.frame_size)) + (
        0 if catalog is None else catalog.table.nbytes
    )


def _check_id(dataset_id: str) -> None:
    """Raises DataError unless Minari can read the id: a wrong one spoils its listing of the whole root."""
    from minari.dataset.minari_dataset import parse_dataset_id

    name, _, number = dataset_id.rpartition("-v")
    if not name or not number.isdecimal():
        raise DataError(f"a Minari id must end in -v and a number, got {dataset_id!r}; e.g. recgym/ml-1m/train-v0")
    try:
        parse_dataset_id(dataset_id)
    except ValueError:
        raise DataError(
            f"a Minari id must have letters, digits, '-' and '_' only between its '/', got {dataset_id!r}; e.g. "
            f"recgym/ml-1m/train-v0"
        ) from None


def _storage(folder: Path, rows: Rows, env: Any = None) -> Any:
    from minari.dataset.minari_storage import MinariStorage

    low, high = (np.float32(bound) for bound in rows.log.reward_range or (0.0, 0.0))
    low, high = min(low, np.float32(0.0)), max(high, np.float32(0.0))
    frame, n_items = (rows.frame_size,), rows.log.n_items
    observation: dict[str, spaces.Space] = {
        KEYS[0]: spaces.MultiDiscrete(np.full(frame, n_items + 1), dtype=np.int32),
        KEYS[1]: spaces.Box(low, high, frame, np.float32),
    }
    action = spaces.Discrete(n_items) if rows.k == 1 else spaces.MultiDiscrete([n_items] * rows.k)
    spec = gym.spec(env) if isinstance(env, str) else env
    return MinariStorage.new(folder, spaces.Dict(observation), action, spec)


def _episodes(rows: Rows, borders: np.ndarray, users: np.ndarray) -> Iterator[Any]:
    """Yields the episode of each user or session."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    for user in users:
        columns = rows.block(int(borders[user]), int(borders[user + 1]))
        next_items, next_rewards = next_frame(columns)
        further = {
            name: column for name, column in columns.items() if name not in (*_OWN, "next_items", "next_rewards")
        }
        yield EpisodeBuffer(
            options={"user": int(columns["user"][0])},
            observations={
                KEYS[0]: np.concatenate([columns["items"], next_items[-1:]]),
                KEYS[1]: np.concatenate([columns["rewards"], next_rewards[-1:]]),
            },
            actions=columns["action"].astype(np.int64),
            rewards=columns["reward"],
            terminations=columns["terminated"],
            truncations=columns["truncated"],
            infos={name.replace("/", "_"): _led(column) for name, column in further.items()} or None,
        )


def _led(column: np.ndarray) -> Any:
    """Returns an info of every decision (T, ...) with one before it, for the reset: zero, or no text."""
    led = np.concatenate([np.zeros_like(column[:1]), column])
    return led.tolist() if led.dtype.kind == "U" else led


def _metadata(rows: Rows, dataset_id: str, catalog: Catalog | None) -> dict[str, Any]:
    import minari

    text = f"Decisions of the log {rows.log.name!r}, frames of {rows.frame_size} events; n_items is padding."
    if catalog is not None:
        digest = hashlib.sha256(np.ascontiguousarray(catalog.table).data).hexdigest()
        text += f" Item vectors: embeddings.npy, SHA-256 of its values {digest}."
    name = "collected policy" if rows.collected else "logged users"
    about = {"dataset_id": dataset_id, "minari_version": minari.__version__, "description": text}
    return {**about, "algorithm_name": name, "requirements": [f"recgym=={version('recgym')}"]}


def _proved(path: Path, episodes: list[Any]) -> str:
    """Reads every episode back and compares it with what was to be written; returns a hash of what is there."""
    import h5py

    with store.readable(path, "be what was written", DISK), h5py.File(path, "r") as file:
        for number, episode in enumerate(episodes):
            found = file[f"episode_{number}"]
            wanted = {"actions": episode.actions, "rewards": episode.rewards, "terminations": episode.terminations}
            wanted |= {f"observations/{name}": values for name, values in episode.observations.items()}
            wanted |= {f"infos/{name}": values for name, values in (episode.infos or {}).items()}
            for name, values in {**wanted, "truncations": episode.truncations}.items():
                there = found[name].asstr()[()] if isinstance(values, list) else found[name][()]
                if not np.array_equal(there, np.asarray(values), equal_nan=np.asarray(values).dtype.kind == "f"):
                    raise StoreError(f"{path} must hold what was written, got other {name} in episode {number}; {DISK}")
        return _hash_of(file, range(len(episodes)))


def _hash_of(file: Any, numbers: range) -> str:
    """Returns a SHA-256 of all values of some episodes."""
    digest = hashlib.sha256()

    def add(name: str, part: Any) -> None:
        if hasattr(part, "shape"):
            values = part[()]
            content = repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).data
            digest.update(f"{name} {values.dtype} {values.shape} ".encode())
            digest.update(content)

    for number in numbers:
        file[f"episode_{number}"].visititems(add)
    return digest.hexdigest()


def _merge(parts: list[Path], folder: Path, whole: Any) -> None:
    """Copies the episodes of all parts into one dataset, numbered on."""
    import h5py

    n_episodes, n_steps, borders = 0, 0, [0]
    with h5py.File(folder / _DATA, "a", track_order=True) as target:
        for part in parts:
            with h5py.File(part / _DATA, "r") as source:
                for number in range(len(source)):
                    name = f"episode_{n_episodes}"
                    source.copy(f"episode_{number}", target, name)
                    target[name].attrs["id"] = n_episodes
                    n_steps += int(target[name].attrs["total_steps"])
                    n_episodes += 1
            borders.append(n_episodes)
    with store.readable(folder / _DATA, "be what was written", DISK), h5py.File(folder / _DATA, "r") as file:
        for part, (first, last) in zip(parts, pairwise(borders), strict=True):
            if _hash_of(file, range(first, last)) != (part / _DIGEST).read_text(encoding="utf-8"):
                raise StoreError(f"{folder / _DATA} must hold what was written, got other episodes; {DISK}")
    whole.update_metadata({"total_episodes": n_episodes, "total_steps": n_steps, "dataset_size": whole.get_size()})
