"""Training in an environment: from nothing, from a log or from where a saved run stopped."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from agents.base import Agent, to_tensor
from agents.training.callbacks import Report
from agents.training.finite import FiniteLosses, last_of
from agents.training.replay import ReplayBuffer
from agents.training.slates import lived_through
from recgym.batches import FrameBatches
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.frames import Batch, History, observed
from recgym.log import InteractionLog

_AT_ONCE = 1 << 14  # decisions of a log that enter a buffer together


def fit_online(
    agent: Agent,
    env: RecVectorEnv,
    n_steps: int,
    report: Report | None = None,
    *,
    buffer: ReplayBuffer | None = None,
    buffer_size: int = 100_000,
    batch_size: int = 256,
    warm_up: int = 1_000,
    uniform: bool = False,
    warm_start: InteractionLog | None = None,
    first_step: int = 0,
    seed: int = 0,
) -> ReplayBuffer:
    """Trains an agent on what it lives through: each step shows B users something and makes one update.

    Imitation makes no sense here (the agent would imitate itself): give `DDPG(..., bc_weight=0)`, or an agent already
    trained on a log. To save a run and go on with it, bit for bit:

        online = OnlineState(env, buffer_for(agent, env, seed=0))
        step = checkpoint.load(folder, agent, online) if checkpoint.saved(folder) else 0
        saving = every(1_000, checkpoint.Checkpoints(folder, agent, online))
        fit_online(agent, env, 100_000, saving, buffer=online.buffer, first_step=step)

    Args:
        agent: Acts with `explore=True`, and learns by `update`. If its `act` takes `allowed`, it is told which items
            may be shown.
        env: With `observation="history"` or, for agents that know users, `"user_history"`, autoreset mode
            `"SameStep"`, and the actions the agent gives. Of an agent that learns whole slates it must have the `k`;
            any other fills slates of whatever k with its k best, or k draws to explore, and learns of each slate as of
            one decision: the first item that was answered, or where none was the first one shown, earned all of it
            (Chen et al. 2019, section 4.3: who answers takes one item of a list). `REINFORCE(k=env.k)` corrects for it.
        n_steps: Steps of the environment, each for all its rows, those before `first_step` included.
        report: Called as `report(step, metrics)` after every step; `reward` is the mean over rows.
        buffer: Where decisions are kept and drawn from; by default `buffer_for(agent, env, buffer_size, seed)`.
        buffer_size: Decisions kept by that.
        batch_size: Decisions per update.
        warm_up: Decisions to collect before the first update.
        uniform: Whether actions are drawn uniformly until then, as in TD3's and SAC's papers.
        warm_start: A log whose decisions enter an empty buffer first; they count as collected.
        first_step: Steps already made, as `checkpoint.load` returns them. Where the environment is in the middle of
            sessions it goes on with them; else it begins others than a run from step 0 would.
        seed: Seed of the sessions and of the sampling.

    Returns:
        The decisions, newest last.

    Raises:
        DataError: if the environment is not as above, or of other items than the agent.
        DivergedError: if losses are NaN or infinite; it names the step and the last checkpoint.
    """
    check_env(agent, env)
    buffer = buffer_for(agent, env, buffer_size, seed) if buffer is None else buffer
    if warm_start is not None and not len(buffer):
        fill(buffer, agent, warm_start)
    mapped = _users_of(agent, env)
    observation = _begin(env, first_step, seed)
    slates = hasattr(agent, "k")
    told = env.action == "item" and "allowed" in inspect.signature(agent.act).parameters
    asked = {"k": env.k} if _fills_slates(agent, env) else {}
    finite = FiniteLosses(partial(last_of, agent))
    for step in range(first_step + 1, n_steps + 1):
        if uniform and buffer.added < warm_up:
            shown = _uniform(env, np.random.default_rng([seed, step]))
        else:
            masks = asked | ({"allowed": env.action_masks()} if told else {})
            history = as_history(observation, env.catalog.n_items)
            if hasattr(agent, "met_newcomers") and not history.length.all():
                agent.met_newcomers = True
            actions = agent.act(history._replace(user=mapped(history.user)), explore=True, **masks)
            shown = to_tensor(actions, torch.device("cpu")).numpy()
        before, (observation, rewards, terminated, truncated, infos) = observation, env.step(shown)
        lived: Any = (lived_through if slates else _lived_through)(
            before, observation, rewards, terminated, truncated, infos
        )
        if slates:
            lived = lived.beside(env.candidates(), getattr(agent, "latent", None))
        buffer.add(lived._replace(user=mapped(lived.user)))
        metrics: dict[str, Any] = {"reward": float(rewards.mean())}
        if buffer.added >= warm_up and len(buffer):  # a buffer of whole sessions may still be empty
            batch = buffer.sample(batch_size)
            metrics |= agent.update(batch)
            finite(step, batch, metrics)
        if report is not None and report(step, metrics):
            break
    finite.look()
    return buffer


def buffer_for(agent: Any, env: RecVectorEnv, buffer_size: int = 100_000, seed: int = 0) -> ReplayBuffer:
    """Returns an empty buffer of the kind an agent learns from: its own `make_buffer`, or a `ReplayBuffer`."""
    make_buffer: Callable[..., ReplayBuffer] = getattr(agent, "make_buffer", ReplayBuffer)
    return make_buffer(buffer_size, env.frame_size, seed)


def fill(buffer: ReplayBuffer, agent: Any, log: InteractionLog) -> None:
    """Puts the decisions of a log into a buffer, the last ones where not all find room; frames may be short.

    Raises:
        DataError: if the log has other items than the agent.
    """
    if not np.array_equal(agent.item_ids, log.item_ids):
        raise DataError(
            f"a log to start from must have the agent's {len(agent.item_ids)} items in the same order, got "
            f"{log.n_items} items that differ; use the log that the agent's catalog was made from"
        )
    if hasattr(agent, "meet"):
        agent.meet(log)
    frame_size = buffer.columns.items.shape[1]
    gamma = getattr(buffer, "gamma", None)
    size = min(_AT_ONCE, buffer.capacity)
    batches = FrameBatches(log, frame_size, size, shuffle=False, drop_last=False, min_history=1, gamma=gamma)
    for batch in batches:
        buffer.keep(batch._replace(length=None, propensity=None))


class OnlineState:
    """What a saved online run holds beside its agent: the buffer, and where every session stands.

    Attributes:
        env: The environment.
        buffer: The decisions.
    """

    def __init__(self, env: RecVectorEnv, buffer: ReplayBuffer) -> None:
        self.env, self.buffer = env, buffer

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of both: arrays and JSON values."""
        return {"env": self.env.state_dict(), "buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.env.load_state_dict(state["env"])
        self.buffer.load_state_dict(state["buffer"])


def as_history(observation: Mapping[str, np.ndarray], n_items: int) -> History:
    """Returns the histories that an environment's observations of B rows stand for."""
    items, rewards = observed(observation)  # (B, F)
    return History(items, rewards, (items != n_items).sum(axis=1), observation.get("user"))


def check_env(agent: Any, env: RecVectorEnv) -> None:
    """Refuses an environment that an agent cannot learn in."""
    found, k = (env.observation, env.autoreset_mode.value, env.k), getattr(agent, "k", 1)
    if not hasattr(agent, "k") and (env.action == "embedding" or _fills_slates(agent, env)):
        k = env.k
    if found[0] not in ("history", "user_history") or found[1:] != ("SameStep", k):
        raise DataError(
            f"online training needs an environment with observation='history', autoreset_mode='SameStep' and k={k}, "
            f"got {found}; make it so"
        )
    if not np.array_equal(agent.item_ids, env.catalog.item_ids):
        raise DataError(
            f"agent and environment must have the same items in the same order, got {len(agent.item_ids)} and "
            f"{env.catalog.n_items} items that differ; make the agent from env.catalog"
        )


def _fills_slates(agent: Any, env: RecVectorEnv) -> bool:
    """Returns whether an agent of single items is to be asked for k of them."""
    return env.k > 1 and env.action == "item" and "k" in inspect.signature(agent.act).parameters


def _begin(env: RecVectorEnv, first_step: int, seed: int) -> Any:
    """Returns the first observation: of new sessions, or of those the environment is in."""
    if first_step and env.user_state is not None:
        return env.observe()
    if first_step:
        seed = int(np.random.SeedSequence([seed, first_step]).generate_state(1, np.uint64)[0] >> 2)
    return env.reset(seed=seed)[0]


def _uniform(env: RecVectorEnv, random: np.random.Generator) -> np.ndarray:
    """Returns actions drawn uniformly: of the items that may be shown (B,), or of the box of vectors (B, d)."""
    if env.action == "item":
        drawn = random.random((env.num_envs, env.catalog.n_items)) * env.action_masks()
        return np.argmax(drawn, axis=1) if env.k == 1 else np.argsort(-drawn, axis=1)[:, : env.k]
    return random.uniform(-1.0, 1.0, size=(env.num_envs, env.catalog.dim)).astype(np.float32)


def _users_of(agent: Any, env: RecVectorEnv) -> Callable[[Any], Any]:
    """Returns what turns the environment's user indices into the agent's, -1 for users it has no vector for.

    An agent that has met no log yet learns vectors for the environment's users.
    """
    n_users = getattr(getattr(agent, "config", None), "n_users", 0)
    if not n_users:
        return lambda user: user
    if agent.user_ids is None:
        agent.user_ids = env.users.user_ids[:n_users]
    places = {user_id: place for place, user_id in enumerate(agent.user_ids.tolist())}
    own = np.array([places.get(user_id, -1) for user_id in env.users.user_ids.tolist()], dtype=np.int64)
    return lambda user: None if user is None else own[user]


def _lived_through(
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    rewards: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    infos: Mapping[str, Any],
) -> Batch:
    """Returns one step of B rows as decisions about an item: of rows that began anew, what stood there before."""
    shown, users = _stands_for(infos["items"], infos["answered"]), infos["user"].copy()  # (B,)
    next_items, next_rewards = (part.copy() for part in observed(after))  # (B, F)
    for row in np.flatnonzero(terminated | truncated):
        next_items[row], next_rewards[row] = observed(infos["final_obs"][row])
        last = {name: infos["final_info"][name][row] for name in ("items", "answered", "user")}
        shown[row], users[row] = _stands_for(last["items"][None], last["answered"][None])[0], last["user"]
    return Batch(users, *observed(before), shown, rewards, next_items, next_rewards, terminated, truncated)


def _stands_for(slates: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Returns the items (B,) that slates (B, k) are learned of by: the first answered, or the first one shown."""
    return np.take_along_axis(slates, answered.argmax(axis=1)[:, None], axis=1)[:, 0]
