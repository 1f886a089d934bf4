"""d3rlpy: its offline algorithms on our logs, nothing copied, and in our evaluation. Needs `recgym[d3rlpy]`.

Source: Seno and Imai (2022), d3rlpy: an offline deep reinforcement learning library, JMLR 23(315).

Example:
    >>> import d3rlpy
    >>> from recgym import datasets, embeddings
    >>> log = datasets.load("synthetic", n_users=60, n_items=50)
    >>> catalog = embeddings.svd(log, dim=8)
    >>> algorithm = d3rlpy.algos.TD3PlusBCConfig(batch_size=32).create(device="cpu")
    >>> _ = algorithm.fit(d3rlpy_dataset(log, catalog), n_steps=4, n_steps_per_epoch=4, show_progress=False,
    ...                   logger_adapter=d3rlpy.logging.NoopAdapterFactory())
    >>> agent = D3rlpyAgent(algorithm, catalog)  # a scorer: give it to evaluate_ranking or evaluate_sessions
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from d3rlpy.constants import ActionSpace
from d3rlpy.dataset import Episode, ReplayBuffer, Signature, Transition, TransitionMiniBatch

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.export import Rows, next_frame
from recgym.frames import History, encode_frame, last_events
from recgym.log import InteractionLog


def d3rlpy_dataset(log: InteractionLog, catalog: Catalog, *, action: str = "embedding", **options: Any) -> ReplayBuffer:
    """Returns every decision of a log as a d3rlpy data set whose frames are made when they are asked for.

    One episode per user or session. As d3rlpy has it, the last decision of an episode that did not terminate is no
    transition; it has no next action.

    Args:
        log: Where the decisions come from.
        catalog: The items, in the index order of the log.
        action: `"embedding"`: the logged item's vector (continuous algorithms); `"item"`: its index (discrete ones).
        options: Of `recgym.export.Rows`: `frame_size`, `min_history`, `end_of_log`.

    Raises:
        DataError: if the catalog is of other items, `action` is unknown, the log has slates, or as `Rows` does.
    """
    if not np.array_equal(log.item_ids, catalog.item_ids):
        raise DataError(
            f"log and catalog must have the same items in the same order, got {log.n_items} and {catalog.n_items} "
            "items; make the catalog from this log"
        )
    if action not in ("embedding", "item"):
        raise DataError(f"action must be 'embedding' or 'item', got {action!r}; choose one of them")
    rows = Rows(log, **options)
    if rows.k > 1:
        raise DataError(f"d3rlpy takes one item a decision, got slates of {rows.k}; log with k=1")
    return _LogReplayBuffer(_Source(rows, catalog, action == "embedding"))


class _Decisions(NamedTuple):
    """B decisions as d3rlpy has them."""

    observations: np.ndarray  # (B, F*(d+1)) float32
    actions: np.ndarray  # (B, d) float32, or (B, 1) int32
    rewards: np.ndarray  # (B, 1) float32
    next_observations: np.ndarray  # (B, F*(d+1)) float32
    terminated: np.ndarray  # (B,) bool


class _Source:
    """The rows of a log, their vectors, and where episodes begin."""

    def __init__(self, rows: Rows, catalog: Catalog, by_vector: bool) -> None:
        self.rows, self.catalog, self.by_vector = rows, catalog, by_vector
        borders = rows.episodes()
        self.users = np.flatnonzero(np.diff(borders))  # with a decision
        self.first, self.size = borders[self.users], np.diff(borders)[self.users]  # (n_episodes,)
        self.terminated = rows.take(self.first + self.size - 1)["terminated"]
        self.n_transitions = self.size - ~self.terminated
        self.starts = np.concatenate([[0], np.cumsum(self.n_transitions)])

    def decisions(self, numbers: np.ndarray) -> _Decisions:
        columns = self.rows.take(numbers)
        table, item = self.catalog.table, columns["action"]
        return _Decisions(
            encode_frame(table, columns["items"], columns["rewards"]),
            table[item] if self.by_vector else item[:, None],
            columns["reward"][:, None],
            encode_frame(table, *next_frame(columns)),
            columns["terminated"],
        )

    def transitions(self, episodes: np.ndarray, places: np.ndarray) -> list[Transition]:
        """Returns the transitions at `places` (B,) of episodes (B,)."""
        numbers, ends = self.first[episodes] + places, self.first[episodes] + self.size[episodes]
        made = self.decisions(numbers)
        next_actions = self.decisions(np.minimum(numbers + 1, ends - 1)).actions
        next_actions = np.where(made.terminated[:, None], 0, next_actions).astype(next_actions.dtype)
        to_go = [
            self.rows.log.rewards[self.rows.events(np.arange(*bounds))] for bounds in zip(numbers, ends, strict=True)
        ]
        return [
            Transition(
                observation=made.observations[row],
                action=made.actions[row],
                reward=made.rewards[row],
                next_observation=made.next_observations[row],
                next_action=next_actions[row],
                terminal=float(made.terminated[row]),
                interval=1,
                rewards_to_go=to_go[row][:, None],
            )
            for row in range(len(numbers))
        ]

    def signatures(self) -> tuple[Signature, Signature, Signature]:
        """Returns types and shapes of observations, actions and rewards."""
        width = self.rows.frame_size * (self.catalog.dim + 1)
        number, real = np.dtype(np.int32), np.dtype(np.float32)
        action = Signature([real], [(self.catalog.dim,)]) if self.by_vector else Signature([number], [(1,)])
        return Signature([real], [(width,)]), action, Signature([real], [(1,)])


class LogEpisode:
    """One user's decisions as a d3rlpy episode; arrays are made when they are asked for."""

    def __init__(self, source: _Source, number: int) -> None:
        self.source, self.number = source, number

    def _decisions(self) -> _Decisions:
        first = int(self.source.first[self.number])
        return self.source.decisions(np.arange(first, first + self.size()))

    @property
    def observations(self) -> np.ndarray:
        """Frames (T, F*(d+1)) float32."""
        return self._decisions().observations

    @property
    def actions(self) -> np.ndarray:
        """Vectors (T, d) float32 or items (T, 1) int32."""
        return self._decisions().actions

    @property
    def rewards(self) -> np.ndarray:
        """Rewards (T, 1) float32."""
        return self._decisions().rewards

    @property
    def terminated(self) -> bool:
        """Whether the user's story ended with it."""
        return bool(self.source.terminated[self.number])

    @property
    def observation_signature(self) -> Signature:
        """Type and shape of an observation."""
        return self.source.signatures()[0]

    @property
    def action_signature(self) -> Signature:
        """Type and shape of an action."""
        return self.source.signatures()[1]

    @property
    def reward_signature(self) -> Signature:
        """Type and shape of a reward."""
        return self.source.signatures()[2]

    @property
    def transition_count(self) -> int:
        """How many decisions have a next one, or ended the story."""
        return int(self.source.n_transitions[self.number])

    def size(self) -> int:
        """Returns the number T of decisions."""
        return int(self.source.size[self.number])

    def compute_return(self) -> float:
        """Returns the sum of all rewards."""
        return float(np.sum(self.rewards))

    def serialize(self) -> dict[str, Any]:
        """Returns the episode as d3rlpy saves one."""
        made = self._decisions()
        arrays = {"observations": made.observations, "actions": made.actions, "rewards": made.rewards}
        return {**arrays, "terminated": self.terminated}

    @classmethod
    def deserialize(cls, serializedData: dict[str, Any]) -> Episode:
        """Returns a saved episode, its arrays in memory."""
        return Episode.deserialize(serializedData)

    def __len__(self) -> int:
        return self.size()


class _Episodes(Sequence):
    """All episodes, none of them kept."""

    def __init__(self, source: _Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.users)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return LogEpisode(self.source, int(number) % len(self))


class _Buffer:
    """Which transition has which number."""

    def __init__(self, source: _Source) -> None:
        self.source, self.episodes = source, _Episodes(source)
        self.transition_count = int(source.starts[-1])

    def append(self, episode: Any, index: int) -> None:
        """Refuses: a log does not change."""
        raise DataError(
            "a data set made from a log cannot grow, got an episode to append; use a buffer of d3rlpy's own"
        )

    def __len__(self) -> int:
        return self.transition_count

    def __getitem__(self, index: int) -> tuple[LogEpisode, int]:
        number = int(np.searchsorted(self.source.starts, index, side="right")) - 1
        return self.episodes[number], int(index - self.source.starts[number])


class _LogReplayBuffer(ReplayBuffer):
    """d3rlpy's own, but for batches, which are made at once."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        observation, action, reward = source.signatures()
        super().__init__(
            _Buffer(source),
            transition_picker=lambda episode, index: _picked(episode, index),
            observation_signature=observation,
            action_signature=action,
            reward_signature=reward,
            action_space=ActionSpace.CONTINUOUS if source.by_vector else ActionSpace.DISCRETE,
            action_size=source.catalog.dim if source.by_vector else source.catalog.n_items,
        )

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        """Returns transitions drawn uniformly with replacement."""
        drawn = np.random.randint(self.transition_count, size=batch_size)  # noqa: NPY002, the stream d3rlpy seeds
        episodes = np.searchsorted(self.source.starts, drawn, side="right") - 1
        made = self.source.transitions(episodes, drawn - self.source.starts[episodes])
        return TransitionMiniBatch.from_transitions(made)


def _picked(episode: LogEpisode, index: int) -> Transition:
    return episode.source.transitions(np.array([episode.number]), np.array([index]))[0]


class D3rlpyAgent:
    """A continuous d3rlpy algorithm as a scorer that also acts, for `evaluate_ranking` and `evaluate_sessions`.

    Args:
        algorithm: Trained on a `d3rlpy_dataset` with vector actions.
        catalog: The items.
        frame_size: F.

    Raises:
        DataError: if the algorithm is not built, or its actions are not vectors of this catalog.
    """

    def __init__(self, algorithm: Any, catalog: Catalog, frame_size: int = 10) -> None:
        shape, size = (algorithm.observation_shape, algorithm.action_size) if algorithm.impl else (None, None)
        if shape is None or tuple(shape) != (frame_size * (catalog.dim + 1),) or size != catalog.dim:
            raise DataError(
                f"the algorithm must take frames of {frame_size} events and give vectors of width {catalog.dim}, got "
                f"observations {shape} and actions of size {size}; train it on d3rlpy_dataset(log, catalog)"
            )
        self.algorithm, self.catalog, self.frame_size = algorithm, catalog, frame_size
        self.item_ids, self.reward = catalog.item_ids, catalog.reward
        self.vectors = torch.tensor(catalog.embeddings)

    pickled = "d3rlpy's own file"

    def write_parts(self, folder: Path) -> dict[str, int]:
        """Writes the algorithm as d3rlpy does; see `agents.save`."""
        self.algorithm.save(str(folder / "model.d3"))
        return {"frame_size": self.frame_size}

    @classmethod
    def read_parts(
        cls, folder: Path, parts: dict[str, int], catalog: Catalog, device: Any, allow_pickle: bool
    ) -> D3rlpyAgent:
        """Returns the agent of such a folder; `agents.load` asks for it only with `allow_pickle=True`."""
        from d3rlpy import load_learnable

        return cls(load_learnable(str(folder / "model.d3"), device=str(device)), catalog, parts["frame_size"])

    def act(self, history: History, *, explore: bool = False) -> torch.Tensor:
        """Returns vector actions (B, d) float32; with `explore`, drawn from the policy where it is stochastic."""
        parts = (np.asarray(part.cpu() if isinstance(part, torch.Tensor) else part) for part in history[:3])
        items, rewards = last_events(History(*parts), self.frame_size, self.catalog.n_items)
        states = encode_frame(self.catalog.table, items, rewards)
        return torch.as_tensor((self.algorithm.sample_action if explore else self.algorithm.predict)(states))

    def scores(self, history: History) -> torch.Tensor:
        """Returns scores (B, n_items) float32: the inner product of the action with every item."""
        return self.act(history) @ self.vectors.T
