"""Updates a second of our learners beside Stable-Baselines3's, d3rlpy's and the bare matrix products, in one process.

All have networks 1290-256-256-128 and draw batches from 20,000 decisions over 27,000 items with 128 numbers each; ours
run the paper's plain update (no imitation, critics shown vectors). They take turns, and the best of each counts, as
other work on a machine only ever slows one down. An update includes drawing its batch, but not for d3rlpy, whose
batch is at hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from recgym import Catalog, FrameBatches, InteractionLog
from recgym.frames import encode_frame

THREADS = 2
TURNS, UPDATES = 60, 2  # TD3 moves its actor at every second update, so a turn has one such
N_ITEMS, DIM, FRAME, HIDDEN, LATENT_HIDDEN = 27_000, 128, 10, 256, 750
STATE = FRAME * (DIM + 1)
N_USERS, EVENTS = 200, 110  # 100 decisions each
PLAIN = {"bc_weight": 0.0, "normalise_q": False, "critic_action": "vector", "dropout": 0.0, "max_norm": None}
Update = Callable[[], Any]


def rows(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Returns updates a second at batches of 256 and 1,024, and ratios; `sizes` are of tables and not looked at."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        made: list[dict[str, Any]] = []
        for batch_size in (16,) if quick else (256, 1024):
            for name in ("TD3", "DDPG", "BCQ"):
                made += _compared(name, batch_size, quick)
        return made
    finally:
        torch.set_num_threads(before)


def _compared(name: str, batch_size: int, quick: bool) -> list[dict[str, Any]]:
    """Returns the rows of one algorithm: updates a second of everyone, and how many times that of the other library."""
    log, catalog = world()
    contestants = {"recgym": ours(name, log, catalog, batch_size)}
    contestants["recgym bf16"] = ours(name, log, catalog, batch_size, precision="bf16")
    if name == "BCQ":
        other = "d3rlpy"
        if find_spec("d3rlpy") is None:
            print("  BCQ: no row for d3rlpy, which is not installed (pip install d3rlpy==2.8.1)")
        else:
            contestants[other] = d3rlpys(log, catalog, batch_size)
    else:
        other = "stable-baselines3"
        contestants[other] = sb3s(name, log, catalog, batch_size)
        contestants["matrix products alone"] = products(name, batch_size, torch.float32)
        contestants["matrix products alone, bf16"] = products(name, batch_size, torch.bfloat16)
    seconds = best_of_turns(contestants, rounds=1 if quick else TURNS)
    made = [_row(who, f"{name} updates", 1 / taken, "updates/s", batch_size) for who, taken in seconds.items()]
    if other in seconds:
        ratios = {who: seconds[other] / seconds[who] for who in ("recgym", "recgym bf16")}
        made += [_row(who, f"{name} updates, times {other}'s", r, "times", batch_size) for who, r in ratios.items()]
    if name != "BCQ":
        share = seconds["matrix products alone"] / seconds["recgym"]
        made.append(_row("recgym", f"{name} updates, share of matrix products' speed", share, "share", batch_size))
    for row in made:
        print(
            f"  batch {batch_size:>5}  {row['metric']:48} {row['agent']:28} {row['value']:8.2f} {row['unit']}",
            flush=True,
        )
    return made


def _row(who: str, metric: str, value: float, unit: str, batch_size: int) -> dict[str, Any]:
    config = {"networks": f"{STATE}-{HIDDEN}-{HIDDEN}-{DIM}"}
    return {
        **{"agent": who, "metric": metric, "value": value, "unit": unit, "n": batch_size},
        **{"threads": THREADS, "config": config},
    }


def best_of_turns(contestants: dict[str, Update], rounds: int) -> dict[str, float]:
    """Returns the seconds of one update of each: the least of many short turns, which everyone takes in order."""
    best = dict.fromkeys(contestants, np.inf)
    for update in contestants.values():
        update()
        update()
    for _ in range(rounds):
        for who, update in contestants.items():
            start = time.perf_counter()
            for _ in range(UPDATES):
                update()
            best[who] = min(best[who], (time.perf_counter() - start) / UPDATES)
    return best


def world() -> tuple[InteractionLog, Catalog]:
    """Returns a log whose decisions all batches are drawn from, and its items."""
    random = np.random.default_rng(0)
    n = N_USERS * EVENTS
    log = InteractionLog(
        items=random.integers(N_ITEMS, size=n).astype(np.int32),
        rewards=random.uniform(-0.8, 1.0, size=n).astype(np.float32),
        offsets=np.arange(N_USERS + 1) * EVENTS,
        user_ids=np.arange(N_USERS),
        item_ids=np.arange(N_ITEMS),
        reward="scaled",
        reward_range=(-0.8, 1.0),
    )
    return log, Catalog(random.normal(size=(N_ITEMS, DIM)), np.arange(N_ITEMS))


def ours(name: str, log: InteractionLog, catalog: Catalog, batch_size: int, **config: Any) -> Update:
    """Returns an update of ours."""
    import agents

    plain = {"n_samples": 10, "reconstruction": "vector", "critic_action": "vector", "dropout": 0.0, "max_norm": None}
    config |= plain if name == "BCQ" else PLAIN
    agent = getattr(agents, name)(catalog, frame_size=FRAME, device="cpu", **config)
    batches = endless(FrameBatches(log, FRAME, batch_size))
    return lambda: agent.update(next(batches))


def endless(batches: FrameBatches) -> Iterator[Any]:
    """Yields the batches of one epoch after the other."""
    while True:
        yield from batches


def transitions(log: InteractionLog, catalog: Catalog) -> tuple[np.ndarray, ...]:
    """Returns all decisions of the log as flat arrays: state, next state, action, reward, terminated."""
    batch = next(iter(FrameBatches(log, FRAME, N_USERS * (EVENTS - FRAME), shuffle=False)))
    before = encode_frame(catalog.table, batch.items, batch.rewards)
    after = encode_frame(catalog.table, batch.next_items, batch.next_rewards)
    return before, after, catalog.embeddings[batch.action], batch.reward, batch.terminated


def sb3s(name: str, log: InteractionLog, catalog: Catalog, batch_size: int) -> Update:
    """Returns an update of Stable-Baselines3."""
    import gymnasium as gym
    import stable_baselines3
    from stable_baselines3.common.logger import Logger

    class Nowhere(gym.Env[np.ndarray, np.ndarray]):
        """Only its spaces matter."""

        observation_space = gym.spaces.Box(-np.inf, np.inf, (STATE,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (DIM,), np.float32)

    columns = transitions(log, catalog)
    policy: dict[str, Any] = {"net_arch": [HIDDEN, HIDDEN]}
    options: dict[str, Any] = {"buffer_size": len(columns[0]), "device": "cpu", "policy_kwargs": policy}
    model = getattr(stable_baselines3, name)("MlpPolicy", Nowhere(), **options)
    buffer = model.replay_buffer
    places = (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones)
    for place, column in zip(places, columns, strict=True):
        place[:] = column.reshape(place.shape)
    buffer.full = True
    model.set_logger(Logger(None, []))
    return lambda: model.train(gradient_steps=1, batch_size=batch_size)


def d3rlpys(log: InteractionLog, catalog: Catalog, batch_size: int) -> Update:
    """Returns an update of d3rlpy's BCQ, on one batch that is at hand."""
    import d3rlpy
    from d3rlpy.torch_utility import TorchMiniBatch

    encoders = [d3rlpy.models.VectorEncoderFactory([width, width]) for width in (HIDDEN, HIDDEN, LATENT_HIDDEN)]
    names = ("actor_encoder_factory", "critic_encoder_factory", "imitator_encoder_factory")
    algorithm = d3rlpy.algos.BCQConfig(n_action_samples=10, **dict(zip(names, encoders, strict=True))).create("cpu")
    algorithm.create_impl((STATE,), DIM)
    before, after, action, reward, ends = (torch.tensor(column[:batch_size]) for column in transitions(log, catalog))
    column, one = reward[:, None], torch.ones(batch_size, 1)
    batch = TorchMiniBatch(before, action, column, after, action, column, ends[:, None].float(), one, "cpu")
    steps = iter(range(10**9))
    return lambda: algorithm.impl.update(batch, next(steps))


# -- the floor ---------------------------------------------------------------------------------------------------------


def products(name: str, batch_size: int, dtype: torch.dtype) -> Update:
    """Returns the matrix products of an update, on memory at hand: no bias, activation, loss, optimizer or gather."""
    actor, critic = (STATE, HIDDEN, HIDDEN, DIM), (STATE + DIM, HIDDEN, HIDDEN, 1)
    forward = {net: product_list(net, batch_size, dtype, backward=False) for net in (actor, critic)}
    learn = {net: product_list(net, batch_size, dtype, backward=True) for net in (actor, critic)}
    seen = product_list(critic, batch_size, dtype, backward=False, seen=DIM)
    twins = 2 if name == "TD3" else 1
    critics_step = forward[actor] + twins * (forward[critic] + learn[critic])
    actor_step = learn[actor] + seen
    turns = iter(range(10**9))

    def update() -> None:
        turn = next(turns)
        for left, right, out in critics_step + (actor_step if name == "DDPG" or turn % 2 else []):
            torch.mm(left, right, out=out)

    return update


def product_list(
    widths: Sequence[int], batch_size: int, dtype: torch.dtype, *, backward: bool, seen: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Returns (left, right, out) of a network's products.

    Args:
        widths: Of its layers.
        batch_size: Rows.
        dtype: Of all numbers.
        backward: Whether its weights get gradients.
        seen: Of its inputs, how many get gradients; the weights then get none.
    """

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(dtype)

    made = []
    for layer, (n, m) in enumerate(pairwise(widths)):
        inputs, weight, grad = random(batch_size, n), random(m, n), random(batch_size, m)
        made.append((inputs, weight.t(), random(batch_size, m)))
        if backward:
            made.append((grad.t(), inputs, random(m, n)))
        if (backward and layer) or seen:
            columns = n if layer else seen
            made.append((grad, weight[:, n - columns :], random(batch_size, columns)))
    return made
