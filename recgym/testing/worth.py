"""Can what an environment pays be believed? Checks of leaks, of items paid twice, and of floors, for any id.

Of anyone's id too: all that is asked is that `gymnasium.make_vec` gives a `RecVectorEnv`. Checks raise AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from recgym.envs.vector import REPEATS, RecVectorEnv
from recgym.evaluation import floors, planning
from recgym.evaluation.evaluate import SessionReturns, evaluate_sessions
from recgym.scorers import Popularity, Uniform

MOST_TOLD = 0.05  # by how much the AUC of a place may differ from a half
_ROWS, _STEPS, _SESSIONS, _SURE = 64, 150, 64, 4.0
Make = Callable[..., RecVectorEnv]


def check_worth(env_id: str, **options: Any) -> list[str]:
    """Runs all checks on an id; returns in words what was found, one sentence each.

    Args:
        env_id: A registered id, of recgym or not.
        **options: Of the id, e.g. smaller data.

    Raises:
        AssertionError: if a check fails; the message says which and what to do.
    """

    def make(n: int = _ROWS, **more: Any) -> RecVectorEnv:
        fixed = {"action": "item", "observation": "history", "autoreset_mode": "SameStep"}
        return gym.make_vec(env_id, num_envs=n, **{**fixed, **options, **more}).unwrapped  # type: ignore[return-value]

    return [
        check_order(make),
        check_once_per_slate(make),
        check_floors(make, floors.stored(env_id) if not options else []),
    ]


def check_order(make: Make) -> str:
    """Refuses an environment in which the place of an item in a list that is exposed tells what it earns.

    Looked at are `candidates()`, and all lists in observations and infos that hold the items shown, while a uniform
    policy plays. The AUC of the place for a reward above the mean must be a half, within .05.

    Args:
        make: Makes the environment; takes the number of rows, and options.
    """
    env, random = make(), np.random.default_rng(0)
    returned: tuple[Any, ...] = env.reset(seed=0)
    places: dict[str, list[np.ndarray]] = {}
    earned: dict[str, list[np.ndarray]] = {}
    for _ in range(_STEPS):
        masks = env.action_masks()
        slate = np.argsort(np.where(masks, random.random(masks.shape), 2.0), axis=1)[:, : env.k]  # (B, k)
        lists = dict(_lists(returned[0], returned[-1], env.candidates(), slate))
        *returned_now, infos = env.step(slate[:, 0] if env.k == 1 else slate)
        worth = _of_last_step(infos, "item_rewards")
        for name, (at, real) in lists.items():
            places.setdefault(name, []).append(at[real])
            earned.setdefault(name, []).append(worth[real])
        returned = (*returned_now, infos)
    told = []
    for name in places:
        at, worth = np.concatenate(places[name]), np.concatenate(earned[name])
        auc, error = _auc(at, worth > worth.mean())
        assert abs(auc - 0.5) <= MOST_TOLD or abs(auc - 0.5) < _SURE * error, (
            f"the place of an item in {name} must not tell what it earns, got AUC {auc:.3f} under a uniform policy; "
            "draw the order anew for every session"
        )
        told.append(f"{name} {auc:.3f} +- {error:.3f}")
    if not told:
        return "no list of candidates is exposed, so no order can tell anything"
    return f"order tells nothing (AUC of the place): {', '.join(told)}"


def check_once_per_slate(make: Make) -> str:
    """Refuses an environment that pays an item twice in one slate, under any `repeats`; arguments as `check_order`."""
    answered = 0
    for repeats in REPEATS:
        env = make(k=max(2, make(1).k), repeats=repeats)
        env.reset(seed=0)
        for step in range(20):
            item = _likely(env, step)  # (B,)
            *_, infos = env.step(np.repeat(item[:, None], env.k, axis=1))
            paid, said = (_of_last_step(infos, name) for name in ("item_rewards", "answered"))
            twice = np.flatnonzero(said[:, 1:].any(axis=1) | (paid[:, 1:] != 0).any(axis=1))
            assert not len(twice), (
                f"an item must earn once per slate, got {paid[twice[0]].tolist()} for one in {env.k} places under "
                f"repeats={repeats!r}; let its second place be empty"
            )
            answered += int(said[:, 0].sum())
    assert answered, "some item must be answered, got none in 20 steps of 64 sessions; nothing can be said of repeats"
    return f"an item earns once per slate ({answered} answers to slates of one item)"


def check_floors(make: Make, kept: list[floors.Floor]) -> str:
    """Refuses an environment whose truth is none, or whose floors are not what is earned.

    Nobody may earn more at the next step than who knows it, nor over sessions more than greed that is said to be the
    best there is; differences are paired.

    Args:
        make: As of `check_order`.
        kept: Floors of the id, if there are any; sessions played now must not tell otherwise.
    """
    test = {"autoreset_mode": "Disabled"} | ({"split": "test"} if _takes_split(make) else {})
    env = make(**test)
    if not hasattr(env.users, "expected_rewards"):
        return "the truth about these users is not known, so there is no greed and no ceiling to check"
    one_step = make(**test, horizon=1)
    first = {name: _play(policy, one_step) for name, policy in _policies(one_step).items()}
    whole = {name: _play(policy, env) for name, policy in _policies(env).items()}
    for name in first:
        _assert_no_more(first[name], first["greedy"], f"{name!r} at the next step", "greed, which knows it")
        if planning.greed_is_best(env):
            _assert_no_more(whole[name], whole["greedy"], f"{name!r}", "greed, which is said to be the best there is")
    ceiling = max((floor.mean for floor in kept if floor.policy != "planning"), default=None)
    for floor in kept:
        if floor.policy in whole and floor.how == "":
            now = whole[floor.policy].mean_interval("session_return")
            error = np.hypot(now.high - now.low, floor.high - floor.low) / 3.92
            assert abs(now.mean - floor.mean) <= _SURE * error + 1e-9, (
                f"{floor.policy!r} must earn what its floor says, {floor.interval}, got {now}; python -m recgym floors"
            )
    words = ", ".join(f"{name} {one.mean_interval('session_return')}" for name, one in whole.items())
    best = "" if ceiling is None else f"; the ceiling that is kept is {ceiling:.4f}"
    return f"nobody earns more than who knows the truth: {words}{best}"


def _policies(env: RecVectorEnv) -> dict[str, Any]:
    ids, reward = env.catalog.item_ids, env.catalog.reward
    found: dict[str, Any] = {"random": Uniform(ids, floors.SEED, reward), "greedy": planning.greedy(env)}
    log = getattr(env.users, "log", None)
    if log is not None:
        found["popularity among themselves"] = Popularity.fit(log)
    return found


def _play(policy: Any, env: RecVectorEnv) -> SessionReturns:
    return evaluate_sessions(policy, env, n_sessions=min(_SESSIONS, 4 * len(env.users.servable)), seed=floors.SEED)


def _assert_no_more(one: SessionReturns, other: SessionReturns, who: str, what: str) -> None:
    gap = one.difference(other, "session_return", confidence=0.999)
    assert gap.low <= 1e-6, f"nobody must earn more than {what}, got {who} with {gap} more; mend expected_rewards"


def _lists(
    observation: Any, infos: Any, candidates: Any, slate: np.ndarray
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Yields every exposed list that holds the items of slates (B, k): its name, their places, and where known."""
    exposed = {} if candidates is None else {"candidates()": candidates}
    exposed |= {f"the observation {name!r}": part for name, part in observation.items()}
    exposed |= {f"the info {name!r}": part for name, part in infos.items()}
    for name, part in exposed.items():
        part = np.asarray(part) if not isinstance(part, dict) else np.zeros(0)
        if part.ndim != 2 or part.dtype.kind not in "iu" or len(part) != len(slate) or part.shape[1] < 2:
            continue
        same = part[:, None, :] == slate[:, :, None]  # (B, k, C)
        real = same.any(axis=2)
        if real.mean() > 0.9:  # a list of what may be shown, not of what was
            yield name, (same.argmax(axis=2) / (part.shape[1] - 1), real)


def _auc(score: np.ndarray, outcome: np.ndarray) -> tuple[float, float]:
    """Returns how likely the score of a True outcome lies above that of a False one, and its standard error."""
    n, m = int(outcome.sum()), int((~outcome).sum())
    if n == 0 or m == 0:
        return 0.5, float("inf")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    auc = (rank[outcome].sum() - n * (n + 1) / 2.0) / (n * m)
    return float(auc), float(np.sqrt((n + m + 1) / (12.0 * n * m)))


def _of_last_step(infos: dict[str, Any], name: str) -> np.ndarray:
    """Returns an info of the step just taken, of sessions that ended with it too."""
    now = np.array(infos[name])
    if "final_info" in infos:
        ended = infos["_final_info"]
        now[ended] = infos["final_info"][name][ended]
    return now


def _likely(env: RecVectorEnv, step: int) -> np.ndarray:
    """Returns an item of each row that may be shown and is likely answered, another one at every second step."""
    masks = env.action_masks()
    if hasattr(env.users, "expected_rewards"):
        every = np.broadcast_to(np.arange(env.catalog.n_items), masks.shape)
        values = np.where(masks, env.users.expected_rewards(env.user_state, every), -np.inf)
        return np.argsort(-values, axis=1)[:, (step // 2) % 5]
    return np.where(masks, np.random.default_rng(step).random(masks.shape), -1.0).argmax(axis=1)


def _takes_split(make: Make) -> bool:
    try:
        make(1, split="test")
    except (TypeError, ValueError):
        return False
    return True
