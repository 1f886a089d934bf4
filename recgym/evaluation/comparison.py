"""Two policies before the same users with the same luck, and what their difference is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recgym.envs.registry import make_batch
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_sessions
from recgym.evaluation.metrics import Interval
from recgym.evaluation.planning import knowing
from recgym.evaluation.scoring import ScoreFunction
from recgym.scorers import Scorer


class Comparison(NamedTuple):
    """What `compare` found."""

    difference: Interval  # mean return of a less that of b, and its 95 % interval
    a: np.ndarray  # (n,) returns, one per user and visit
    b: np.ndarray  # (n,)
    users: np.ndarray  # (n,) int64
    n_people: int  # who were resampled for the interval

    @property
    def variance_reduction(self) -> float:
        """How many times as many sessions independent runs would need for an interval as narrow."""
        paired = float(np.var(self.a - self.b))
        return float(np.var(self.a) + np.var(self.b)) / paired if paired > 0 else float("inf")

    def __str__(self) -> str:
        return (
            f"a - b = {self.difference} over {len(self.a)} paired sessions of {self.n_people} people "
            f"(independent runs would need {self.variance_reduction:.1f} times as many)"
        )


def compare(
    policy_a: Scorer | ScoreFunction | str,
    policy_b: Scorer | ScoreFunction | str,
    env_id: str | RecVectorEnv,
    *,
    n_users: int | None = None,
    seed: int = 0,
    num_envs: int = 64,
    n_jobs: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Returns the difference of two policies in one environment, with common random numbers.

    Both meet the same users, and a user's luck depends on seed, user and visit alone, so what differs is the policies'
    doing. Sessions are paired by user and visit; the interval resamples people, with all their sessions.

    Args:
        policy_a: A `Scorer`, a function from a `History` to scores (B, n_items), or the name of a policy that knows the
            truth about users: `"greedy"`, `"rotating"`, `"diverse"` or `"planner"`, see `recgym.evaluation.planning`.
        policy_b: The other.
        env_id: An id, of recgym or one that others registered with Gymnasium; or a `RecVectorEnv` with item actions,
            history observations and autoreset mode "Disabled", whose own size and options count.
        n_users: Sessions; fewer than users are a seeded choice of them, more let users come again. None is each once.
        seed: Of the users' luck.
        num_envs: Sessions side by side; no result depends on it.
        n_jobs: Processes that share the sessions, see `evaluate_sessions`; no result depends on it.
        options: Options of the id, e.g. `{"split": "test"}`; not `action`, `observation` and `autoreset_mode`.

    Raises:
        DataError: if the id is unknown, an option taken, a policy of another catalog, or no truth is known.

    Example:
        >>> small = {"n_users": 200, "n_items": 50, "dim": 8}
        >>> first = lambda history: np.broadcast_to(-np.arange(50.0), (len(history.items), 50))
        >>> last = lambda history: np.broadcast_to(np.arange(50.0), (len(history.items), 50))
        >>> compare(first, last, "recgym/Synthetic-Frame-v0", n_users=20, options=small).a.shape
        (20,)
    """
    fixed = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"}
    taken = set(fixed) & set(options or {})
    if taken:
        raise DataError(f"compare chooses action, observation and autoreset_mode, got {sorted(taken)}; leave them out")
    if isinstance(env_id, str):
        env = make_batch(env_id, num_envs, **dict(options or {}) | fixed)
    else:
        env = env_id
        found = {name: getattr(env, name, None) for name in ("action", "observation")}
        mode = getattr(env, "metadata", {}).get("autoreset_mode")
        if found != {"action": "item", "observation": "history"} or getattr(mode, "value", mode) != "Disabled":
            raise DataError(
                f"compare needs an environment with {', '.join(f'{name}={value!r}' for name, value in fixed.items())}, "
                f"got {type(env).__name__} with {found}, {mode}; make it so, or name its id"
            )
    policies = (knowing(policy, env) if isinstance(policy, str) else policy for policy in (policy_a, policy_b))
    a, b = (evaluate_sessions(policy, env, n_sessions=n_users, seed=seed, n_jobs=n_jobs) for policy in policies)
    difference = a.difference(b, "session_return")
    return Comparison(difference, a.returns, b.returns, a.users, len(np.unique(a.who)))
