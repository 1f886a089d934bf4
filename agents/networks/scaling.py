"""How large rewards are: the scale at which networks see them, worked out from the training log, and what looks wrong.

Networks learn from numbers around 1, and imitation weighs a decision by exp(bc_reward * reward): rewards of seconds or
counts as they are would let one decision of a batch decide everything.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from recgym.batches.sequence_batches import SequenceBatch
from recgym.errors import DataError

_FEW = 0.1  # share of decisions below which imitation is said to learn from too few
_UNEVEN = 100.0  # how many times nine tenths of the rewards the largest may be
_LOOKED_AT = 1 << 20  # rewards that suffice to see how they are spread


def scale_for(rewards: Any) -> float:
    """Returns what rewards must be multiplied by for the largest magnitude to be 1; 1.0 if that is 0.5 to 1 already.

    Raises:
        DataError: if a reward is not finite.

    Example:
        >>> scale_for([-0.8, 1.0]), scale_for([1.0, 5.0]), scale_for([60.0, 250.0]), scale_for([0.0])
        (1.0, 0.2, 0.004, 1.0)
    """
    given = np.asarray(rewards)
    largest = float(np.abs(given).max(initial=0))
    if not np.isfinite(largest):
        n_bad = int((~np.isfinite(given)).sum())
        raise DataError(f"rewards must be finite, got NaN or infinity in {n_bad} of {given.size}; mend or drop them")
    return 1.0 if largest == 0.0 or 0.5 <= largest <= 1.0 else 1.0 / largest


def effective_share(rewards: Any, sharpness: float) -> float:
    """Returns how many of n decisions imitation learns from, as a share: (sum w)**2 / (n * sum w**2).

    Weights are w = exp(sharpness * reward).

    Source: Kish (1965), Survey sampling, section 11.7, for the effective size of a weighted sample.

    Example:
        >>> round(effective_share([1.0, 1.0, 1.0, 1.0], 2.0), 2), round(effective_share([0.0, 0.0, 0.0, 90.0], 2.0), 2)
        (1.0, 0.25)
    """
    exponents = sharpness * np.asarray(rewards, dtype=np.float64).ravel()
    weights = np.exp(exponents - exponents.max(initial=-np.inf))
    return float(weights.sum() ** 2 / (weights.size * np.square(weights).sum()))


def reward_scale(agent: Any) -> float:
    """Returns what an agent's networks see rewards multiplied by: as its config says, or as was worked out; else 1."""
    given = agent.config.reward_scale
    return float(agent.constants.get("reward_scale", 1.0) if given is None else given)


def settle_on_log(agent: Any, log: Any) -> None:
    """Works out an agent's scale of rewards from the log it is about to learn from, unless it has one, and looks at it.

    Warns:
        UserWarning: if imitation would learn from few decisions, or one reward dwarfs nearly all others.
    """
    rewards = np.asarray(log.rewards)
    if agent.config.reward_scale is None and "reward_scale" not in agent.constants and rewards.any():
        agent.constants["reward_scale"] = scale_for(rewards)
    seen = reward_scale(agent) * rewards[:: max(len(rewards) // _LOOKED_AT, 1)]
    sharpness = getattr(agent.config, "bc_reward", 0.0) if getattr(agent.config, "bc_weight", 1.0) > 0 else 0.0
    if len(seen) and (share := effective_share(seen, sharpness)) < _FEW:
        warnings.warn(
            f"imitation should learn from many decisions, got an effective share of {share:.1%} of them: they count "
            f"exp(bc_reward * reward), with bc_reward={sharpness:g} and rewards seen from {seen.min():g} to "
            f"{seen.max():g}; leave reward_scale out, lower bc_reward, or load the log with reward='log1p'",
            UserWarning,
            stacklevel=3,
        )
    sizes = np.abs(rewards[rewards != 0][:_LOOKED_AT])
    most = float(np.quantile(sizes, 0.9)) if len(sizes) else 0.0
    if len(sizes) and float(np.abs(rewards).max()) > _UNEVEN * most:
        warnings.warn(
            f"rewards should be of one size, got one of {np.abs(rewards).max():g} while nine in ten are at most "
            f"{most:g}: divided by the largest they say next to nothing; load the log with reward='log1p'",
            UserWarning,
            stacklevel=3,
        )


def settle_on_batch(agent: Any, batch: Any) -> None:
    """Works out an agent's scale of rewards from the first batch it learns from, where no log was there to tell."""
    if agent.config.reward_scale is not None or "reward_scale" in agent.constants:
        return
    later = batch.target_rewards if isinstance(batch, SequenceBatch) else batch.reward
    given = [np.asarray(part.cpu() if hasattr(part, "cpu") else part).ravel() for part in (batch.rewards, later)]
    rewards = np.concatenate(given)
    if rewards.any():
        agent.constants["reward_scale"] = scale_for(rewards)
