"""SB3's replay memory as item indices: about 100 bytes a decision where SB3's own takes 10.8 kB."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import get_device
from tqdm import tqdm

from recgym.batches import FrameBatches
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import KEYS, OLD_KEYS, observed
from recgym.log import InteractionLog

_FILLED_AT_ONCE = 1 << 16


def frame_size_of(space: spaces.Space, dim: int) -> int:
    """Returns F of an observation space.

    Raises:
        DataError: if it is none of an environment with item vectors of width `dim`.
    """
    if isinstance(space, spaces.Dict):
        if "frame" in space.spaces:
            return frame_size_of(space["frame"], dim)
        rewards: Any = [space[key] for key in (KEYS[1], OLD_KEYS[1]) if key in space.spaces]
        vectors = space.spaces.get("embeddings")
        if rewards and (vectors is None or vectors.shape[-1:] == (dim,)):  # type: ignore[index]
            return int(rewards[0].shape[0])
    size, rest = divmod(space.shape[0], dim + 1) if isinstance(space, spaces.Box) and space.shape else (0, 1)
    if rest:
        raise DataError(
            f"observations must be frames of item vectors of width {dim}, or histories, got {space}; "
            "make the environment with this catalog"
        )
    return size


def observation_parts(
    space: spaces.Dict, items: np.ndarray, rewards: np.ndarray, catalog: Catalog, user: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns the parts of a Dict observation that frames, and the user they are of, stand for.

    Args:
        space: Of one row.
        items: Item indices (B, F).
        rewards: Rewards (B, F).
        catalog: The items.
        user: User indices (B,), or None where not known.

    Raises:
        DataError: if the space has a user and none is given.
    """
    made: dict[str, Any] = {KEYS[0]: items, KEYS[1]: rewards, OLD_KEYS[0]: items, OLD_KEYS[1]: rewards, "user": user}
    made["length"] = np.count_nonzero(items != catalog.n_items, axis=1)
    if "embeddings" in space.spaces:
        made["embeddings"] = catalog.table[items]
    if "user" in space.spaces and user is None:
        raise DataError("this model sees the user, got histories without one; give History(..., user=indices)")
    return {name: made[name] for name in space.spaces}


class IndexReplayBuffer(ReplayBuffer):
    """A `ReplayBuffer` that keeps item indices and rewards, and makes frames of them when it is sampled, on the device.

    `TD3("MlpPolicy", env, replay_buffer_class=IndexReplayBuffer, replay_buffer_kwargs={"catalog": catalog})`. It takes
    all five observations, from any `VecEnv`; vectors it finds again in the catalog.
    What it gives back equals what it was given, to the bit; with `keep="item"` but for vector actions, in whose place
    stands the vector of the item that was shown.

    Args:
        buffer_size: Decisions kept.
        observation_space: The environment's.
        action_space: The environment's.
        device: Where samples are made.
        n_envs: Rows of the environment.
        optimize_memory_usage: Must be False; there is nothing left to save.
        handle_timeout_termination: Whether a truncated session bootstraps.
        catalog: The items.
        entering: The most events that enter a frame in one step: k, or the user model's.
        keep: `"item"` (4 bytes) or `"vector"` (4*d), for vector actions.

    Raises:
        DataError: if the spaces are not of this catalog, or an option is out of range.
    """

    _table: torch.Tensor | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        catalog: Catalog,
        entering: int = 1,
        keep: str = "item",
    ) -> None:
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, get_device(device), n_envs)
        if keep not in ("item", "vector") or entering < 1 or optimize_memory_usage:
            given = f"keep={keep!r}, entering={entering}, optimize_memory_usage={optimize_memory_usage}"
            raise DataError(
                f"keep must be 'item' or 'vector', entering at least 1 and optimize_memory_usage False, got {given}; "
                "change what is not"
            )
        self.frame_size = frame_size_of(observation_space, catalog.dim)
        if isinstance(action_space, spaces.Box) and action_space.shape != (catalog.dim,):
            raise DataError(
                f"vector actions must have the catalog's width {catalog.dim}, got {action_space}; give the "
                "environment's own catalog"
            )
        self.catalog, self.entering = catalog, entering
        self.by_vector = isinstance(action_space, spaces.Box)
        self.keeps_items = self.by_vector and keep == "item"
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.log: InteractionLog | None = None  # the log it was filled from
        rows, width = (self.buffer_size, n_envs), self.frame_size + entering
        self.items = np.full((*rows, width), catalog.n_items, dtype=np.int32)  # a frame and what entered after it
        self.item_rewards = np.zeros((*rows, width), dtype=np.float32)
        self.entered = np.zeros(rows, dtype=np.uint8)
        places = () if self.keeps_items else (self.action_dim,)
        self.actions = np.zeros((*rows, *places), dtype=np.float32 if self.by_vector and places else np.int32)
        self.rewards = np.zeros(rows, dtype=np.float32)
        self.dones, self.timeouts = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
        self.parts = observation_space if isinstance(observation_space, spaces.Dict) else None
        self.users = np.zeros(rows, dtype=np.int64) if self.parts is not None and "user" in self.parts.spaces else None
        vectors = self.parts is None or "embeddings" in self.parts.spaces
        self._index = _VectorIndex(catalog.table) if vectors else None

    @property
    def table(self) -> torch.Tensor:
        """Item vectors (n_items + 1, d) on the buffer's device, as it stands: made when asked for, never pickled."""
        device = torch.device(self.device)  # SB3 sets it anew when it loads a buffer
        if self._table is None or self._table.device.type != device.type:
            self._table = torch.tensor(self.catalog.table, device=device)
        return self._table

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: nothing that lies on a device."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_table", "table")}

    @property
    def nbytes(self) -> int:
        """Bytes that the decisions take."""
        columns = (self.items, self.item_rewards, self.entered, self.actions, self.rewards, self.dones, self.timeouts)
        return sum(column.nbytes for column in columns) + (0 if self.users is None else self.users.nbytes)

    @classmethod
    def from_log(
        cls,
        log: InteractionLog,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        catalog: Catalog,
        device: torch.device | str = "auto",
        **options: Any,
    ) -> IndexReplayBuffer:
        """Returns a full buffer of every decision of a log; the action is the logged item.

        Args:
            log: Where the decisions come from.
            observation_space: The model's.
            action_space: The model's: vectors, or items.
            catalog: The items, in the index order of the log.
            device: Where samples are made.
            options: Of `FrameBatches`: `min_history`, `end_of_log`, `later`, `seed`.

        Raises:
            DataError: if log and catalog have different items, or as `FrameBatches` does.
        """
        if not np.array_equal(log.item_ids, catalog.item_ids):
            raise DataError(
                f"log and catalog must have the same items in the same order, got {log.n_items} and {catalog.n_items} "
                "items; make the catalog from this log"
            )
        size = frame_size_of(observation_space, catalog.dim)
        batches = FrameBatches(log, size, _FILLED_AT_ONCE, shuffle=False, drop_last=False, **options)
        n = batches.n_windows
        buffer = cls(n, observation_space, action_space, device, catalog=catalog)
        buffer.log, buffer.full, first = log, True, 0
        for batch in tqdm(batches, desc=f"filling from {log.name}", unit="batch", disable=None, leave=False):
            rows = slice(first, first + len(batch.action))
            buffer.items[rows, 0, :size], buffer.item_rewards[rows, 0, :size] = batch.items, batch.rewards
            buffer.items[rows, 0, size], buffer.item_rewards[rows, 0, size] = batch.action, batch.reward
            buffer.actions[rows, 0] = batch.action if buffer.keeps_items else np.asarray(batch.action)[:, None]
            if buffer.users is not None:
                buffer.users[rows, 0] = batch.user
            buffer.rewards[rows, 0], buffer.timeouts[rows, 0] = batch.reward, batch.truncated
            buffer.dones[rows, 0] = batch.terminated | batch.truncated
            first = rows.stop
        buffer.entered[:] = 1
        return buffer

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """Keeps one step of every row.

        Raises:
            DataError: if a frame is not of this catalog, more events entered it than `entering`, or infos name no item.
        """
        (items, rewards), (next_items, next_rewards) = self._indices(obs), self._indices(next_obs)
        size, unexplained = self.frame_size, np.ones(self.n_envs, dtype=bool)
        for n_new in range(self.entering + 1):  # the fewest events whose entering explains the new frame
            kept = size - n_new
            same = (next_items[:, :kept] == items[:, n_new:]) & (next_rewards[:, :kept] == rewards[:, n_new:])
            rows = np.flatnonzero(unexplained & same.all(axis=1))
            self.items[self.pos, rows, size : size + n_new] = next_items[rows, kept:]
            self.item_rewards[self.pos, rows, size : size + n_new] = next_rewards[rows, kept:]
            self.entered[self.pos, rows] = n_new
            unexplained[rows] = False
        if unexplained.any():
            raise DataError(
                f"at most entering={self.entering} events may enter a frame in one step, got more in "
                f"{np.count_nonzero(unexplained)} of {self.n_envs} rows; raise entering in replay_buffer_kwargs"
            )
        self.items[self.pos, :, :size], self.item_rewards[self.pos, :, :size] = items, rewards
        if self.users is not None:
            self.users[self.pos] = obs["user"]
        self.actions[self.pos] = self._shown(infos) if self.keeps_items else np.reshape(action, (self.n_envs, -1))
        self.rewards[self.pos], self.dones[self.pos] = reward, done
        if self.handle_timeout_termination:
            self.timeouts[self.pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> ReplayBufferSamples:
        env_inds = np.random.randint(0, self.n_envs, size=len(batch_inds))  # noqa: NPY002, the stream SB3 seeds
        rows = batch_inds, env_inds
        frame = np.arange(self.frame_size)[None, :]
        after = frame + self.entered[rows][:, None]
        windows = self.items[rows], self.item_rewards[rows]  # (B, F + entering)
        actions = self.to_torch(self.actions[rows])
        going_on = self.dones[rows] & ~self.timeouts[rows]
        return ReplayBufferSamples(
            observations=self._observation(*windows, frame, rows, env),
            actions=self.table[actions.long()] if self.keeps_items else actions,
            next_observations=self._observation(*windows, after, rows, env),
            dones=self.to_torch(going_on.astype(np.float32)[:, None]),
            rewards=self.to_torch(self._normalize_reward(self.rewards[rows][:, None], env)),
        )

    def _observation(self, items: np.ndarray, rewards: np.ndarray, places: np.ndarray, rows: Any, env: Any) -> Any:
        """Returns what the environment showed, `places` (B, F) of the windows, as tensors on the device."""
        items = np.take_along_axis(items, places, axis=1)
        rewards = np.take_along_axis(rewards, places, axis=1)
        if self.parts is not None:
            user = None if self.users is None else self.users[rows]
            parts: Any = self._normalize_obs(observation_parts(self.parts, items, rewards, self.catalog, user), env)
            return {name: self.to_torch(part[:, None] if part.ndim == 1 else part) for name, part in parts.items()}
        vectors = self.table[self.to_torch(items).long()].flatten(1)  # (B, F*d)
        state: Any = torch.cat([vectors, self.to_torch(rewards)], dim=1)
        return state if env is None else self.to_torch(env.normalize_obs(state.cpu().numpy()))

    def _indices(self, obs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns items and rewards (n_envs, F) of observations."""
        if self.parts is not None:
            items, rewards = observed(obs)
            found = items if self._index is None else self._index.find(np.ascontiguousarray(obs["embeddings"]))
            return np.asarray(found), np.asarray(rewards)
        assert self._index is not None
        width = self.frame_size * self.catalog.dim
        vectors = np.ascontiguousarray(obs[:, :width]).reshape(self.n_envs, self.frame_size, self.catalog.dim)
        return self._index.find(vectors), obs[:, width:]

    def _shown(self, infos: list[dict[str, Any]]) -> np.ndarray:
        if any(np.shape(info.get("items", ())) != (1,) for info in infos):
            raise DataError(
                "with keep='item', infos must name the one item that was shown, got none or a slate; keep='vector'"
            )
        return np.array([info["items"][0] for info in infos])


class _VectorIndex:
    """Finds rows of a table by a hash of their bits; rows that are equal count as one."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        odd = np.random.default_rng(0).integers(1, 2**62, size=table.shape[1], dtype=np.uint64) * np.uint64(2)
        self._weights = odd + np.uint64(1)
        keys = self._hash(table)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the row (...,) int64 of each vector (..., d) float32.

        Raises:
            DataError: if one is not in the table.
        """
        place = np.minimum(np.searchsorted(self._keys, self._hash(vectors)), len(self._keys) - 1)
        rows = self._order[place]
        if not np.array_equal(self.table[rows], vectors):
            raise DataError(
                f"frames must hold vectors of the catalog, got others in {np.shape(vectors)[0]} rows; give the "
                "environment's own catalog, and no wrapper that changes observations"
            )
        return rows

    def _hash(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors).view(np.uint32).astype(np.uint64) @ self._weights
