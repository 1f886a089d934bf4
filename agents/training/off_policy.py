"""What a logged decision counts in off-policy REINFORCE: by its return, its likelihood, and the lists it stands in."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from agents.networks.whole_batch import lowest_of, mean_of
from recgym.errors import DataError
from recgym.options import is_number

CORRECTIONS = ("none", "off_policy", "top_k")


class Corrected(Protocol):
    """The hyperparameters that say how; of an algorithm's `Config`."""

    @property
    def correction(self) -> str:
        """One of `CORRECTIONS`."""

    @property
    def k(self) -> int:
        """K, items of a list."""

    @property
    def weight_cap(self) -> float:
        """Importance weights are cut off here."""

    @property
    def baseline(self) -> float | str | None:
        """Subtracted from every return; `"lowest"` is the lower of -1 and the batch's lowest, None its mean."""

    @property
    def normalise(self) -> bool:
        """Whether gains are divided by their batch's mean magnitude."""


class Gains(NamedTuple):
    """What N decisions count, and two factors of it; no gradient passes through any."""

    gain: torch.Tensor  # (N,)
    weight: torch.Tensor  # (N,) min(pi / beta, cap)
    top_k: torch.Tensor  # (N,) K * (1 - pi) ** (K - 1)


@torch.no_grad()
def gains(log_pi: torch.Tensor, log_beta: torch.Tensor, returns: torch.Tensor, config: Corrected) -> Gains:
    """Returns what decisions count, `weight * top_k * (return - baseline)`, by the paper's three forms.

    Source: Chen et al. (2019), Top-K off-policy correction for a REINFORCE recommender system, WSDM, equations 3 and 8
    and section 4.4.

    Args:
        log_pi: Log probability of the logged item by the policy (N,).
        log_beta: The same by the behaviour policy.
        returns: What came of it (N,).
        config: Hyperparameters.
    """
    weight, top_k = torch.ones_like(log_pi), torch.ones_like(log_pi)
    if config.correction != "none":
        weight = torch.exp(log_pi - log_beta).clamp(max=config.weight_cap)
    if config.correction == "top_k":
        top_k = config.k * (1.0 - log_pi.exp()) ** (config.k - 1)
    gain = weight * top_k * (returns - baseline_of(returns, config.baseline))
    if config.normalise:
        gain = gain / mean_of(gain.abs()).clamp(min=1e-6)
    return Gains(gain, weight, top_k)


def baseline_of(returns: torch.Tensor, baseline: float | str | None) -> torch.Tensor | float:
    """Returns what is subtracted from returns (N,)."""
    if baseline == "lowest":  # at most -1, so that what is liked counts at most twice what leaves one cold
        return lowest_of(returns, -1.0)
    return mean_of(returns) if baseline is None else float(baseline)


def check_correction(correction: str, baseline: Any = None) -> None:
    """Raises a DataError if there is no such form, or the baseline is none."""
    if baseline is not None and baseline != "lowest" and not is_number(baseline):
        raise DataError(f"baseline must be a number, 'lowest' or None, got {baseline!r}; leave it out for 'lowest'")
    if correction not in CORRECTIONS:
        known = ", ".join(CORRECTIONS)
        raise DataError(f"correction must be one of {known}, got {correction!r}; choose one of them")
