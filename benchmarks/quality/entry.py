"""One row of a ranking protocol, as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One row: something that scores items, how it is made, and what its hyperparameters have cost.

    A learner's step sizes rise over the first twentieth of its updates and fall to zero from there on, if `decays`.
    """

    name: str  # what tables call it
    build: str  # "package.module:Name", as in `benchmarks.suites.Entry`
    config: Mapping[str, Any]  # further keyword arguments of the above
    trials: str = "nothing to choose"  # what was tried to find them, in words
    n_steps: int = 0  # updates; learners only
    batch_size: int = 256
    later: float = 0.0  # share of decisions whose action is any later event of the user (see `FrameBatches`)
    frame_size: int = 10
    vectors: str = "svd"  # what makes item vectors, see `recgym.embeddings`
    dim: int = 128  # of item vectors
    vector_options: Mapping[str, float] = field(default_factory=dict)  # further arguments of what makes them
    min_history: int = 0  # events before a decision that frames are cut for; 0 takes all of `frame_size`
    pieces: int = 0  # users are cut into pieces of so many steps, for those that learn from sequences; 0 leaves them
    decays: bool = False
    n_looks: int = 10  # at the validation split
    seeds: int = 1  # how many seeds the table asks for
    rl: bool = False  # whether it learns from rewards
    begins_with: Entry | None = None  # whose network at its best is where this one's begins
    serving: Mapping[str, Any] = field(default_factory=dict)  # of the config, what differs once it has learned
    together: Entry | None = None  # what ranks together here: this one, from `n_together` seeds
    n_together: int = 4

    def key(self, data_hash: str, seed: int) -> str:
        """Returns what identifies a run."""
        if self.together is not None:
            return _digest([self.together.key(data_hash, member) for member in self.members(seed)])
        config = {**self.config}
        parts = [self.build, config, self.n_steps, self.batch_size, self.later, self.frame_size, self.vectors, self.dim]
        parts += [dict(self.vector_options), self.min_history] if self.vector_options or self.min_history else []
        parts += [self.begins_with.key(data_hash, seed)] if self.begins_with else []
        return _digest([*parts, self.pieces, self.decays, self.n_looks, data_hash, seed])

    def members(self, seed: int) -> range:
        """Returns the seeds of those that rank together in a run."""
        return range(self.n_together * seed, self.n_together * (seed + 1))

    def smoke(self) -> Entry:
        """Returns the entry at a size that ends in a moment."""
        small = {"width": 8, "dim": 8, "n_users": 0} | ({"factors": 4, "iterations": 2} if self.name == "ials" else {})
        return replace(
            self,
            config={name: small.get(name, value) for name, value in self.config.items()},
            dim=8,
            frame_size=min(self.frame_size, 5),
            pieces=min(self.pieces, 9),
            n_steps=min(self.n_steps, 3),
            batch_size=min(self.batch_size, 32),
            n_looks=1,
            seeds=1,
            begins_with=self.begins_with and self.begins_with.smoke(),
            together=self.together and self.together.smoke(),
            n_together=2,
        )


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
