"""A batch whose observations are dicts, as TorchRL's `GymWrapper` reads it; TorchRL itself is not imported.

TorchRL keeps infos beside observations, under their own names, and looks for the parts of a last observation among the
last infos. So what an info calls `items`, the slate, would take the place of the history's `items`, in both places. For
sequences also pass `categorical_action_encoding=True` to `GymWrapper`: it encodes their lengths one-hot otherwise.

Example:
    >>> import gymnasium as gym
    >>> env = gym.make_vec("recgym/Synthetic-Frame-v0", 2, autoreset_mode="SameStep", observation="history",
    ...                    n_users=60, n_items=40, dim=8)
    >>> _, infos = TorchRLBatch(env).reset(seed=0)
    >>> "items" in infos, infos["slate"].tolist()
    (False, [[40], [40]])
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class TorchRLBatch(gym.vector.VectorWrapper):
    """Calls the slate `slate` in infos, and lists the parts of last observations among the last infos.

    Args:
        env: A batch with Dict observations and `autoreset_mode="SameStep"`; frames need no wrapper. Give this to
            `torchrl.envs.GymWrapper`.
    """

    @property
    def autoreset_mode(self) -> Any:
        """The batch's own, where TorchRL looks for it."""
        return self.env.autoreset_mode  # type: ignore[attr-defined]

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begins sessions; arguments as the batch's own `reset` takes them."""
        observation, infos = self.env.reset(**options)
        return observation, _renamed(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Shows what the actions ask for."""
        observation, rewards, terminated, truncated, infos = self.env.step(actions)
        infos = _renamed(infos)
        if "final_info" in infos:
            last = {name: np.zeros_like(part) for name, part in observation.items()}
            for row in np.flatnonzero(infos["_final_obs"]):
                for name, part in infos["final_obs"][row].items():
                    last[name][row] = part
            infos["final_info"] = _renamed(infos["final_info"]) | last
        return observation, rewards, terminated, truncated, infos


def _renamed(infos: dict[str, Any]) -> dict[str, Any]:
    return {{"items": "slate", "_items": "_slate"}.get(name, name): column for name, column in infos.items()}
