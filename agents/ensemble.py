"""Several scorers that rank together, by the mean of their log probabilities.

Papers: Hansen and Salamon (1990), Neural network ensembles, IEEE PAMI 12(10); Heskes (1998), Selecting weighting
factors in logarithmic opinion pools, NeurIPS, for the mean of logarithms, which is the score of their product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.training import saving
from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.frames import History
from recgym.scorers import Scorer


class Ensemble:
    """Scorers as one: an item's score is the mean over members of its log softmax over their scores.

    That takes members whose softmax means something, such as agents trained by cross-entropy or REINFORCE from several
    seeds. Where it means nothing, as of similarities, members have as much say as their scores are large.

    Args:
        members: At least one scorer, all of the same items and reward.

    Attributes:
        members: The scorers.
        device: Where the first of them lives; scores are made there.

    Raises:
        DataError: if there is no member, or they differ in their items or reward.

    Example:
        >>> from recgym.scorers import Popularity
        >>> one, other = (Popularity(np.arange(3), counts) for counts in ([3, 1, 2], [1, 1, 2]))
        >>> both = Ensemble([one, other])
        >>> both.scores(History(np.array([[0]]), np.zeros((1, 1)), np.array([1]))).argsort(descending=True).tolist()
        [[2, 0, 1]]
    """

    def __init__(self, members: Sequence[Scorer]) -> None:
        if not members:
            raise DataError("members must have at least one scorer, got none; give some")
        self.members = tuple(members)
        self.item_ids, self.reward = members[0].item_ids, members[0].reward
        self.device = torch.device(getattr(members[0], "device", "cpu"))
        for place, member in enumerate(members):
            if not np.array_equal(member.item_ids, self.item_ids) or member.reward != self.reward:
                raise DataError(
                    f"members must have the same items and reward, got {len(member.item_ids)} items and "
                    f"{member.reward!r} in member {place}, {len(self.item_ids)} and {self.reward!r} in the first; "
                    "make them from one log"
                )

    @property
    def popularity(self) -> np.ndarray | None:
        """Events of each item (n_items,), of the first member that knows them; see `recommend`."""
        known = (getattr(member, "popularity", None) for member in self.members)
        return next((popularity for popularity in known if popularity is not None), None)

    def write_parts(self, folder: Path) -> int:
        """Writes the members into a folder, each as one of its own; see `agents.save`."""
        for place, member in enumerate(self.members):
            (folder / f"member-{place}").mkdir()
            saving.write(member, folder / f"member-{place}")
        return len(self.members)

    @classmethod
    def read_parts(cls, folder: Path, parts: int, catalog: Catalog | None, **options: Any) -> Ensemble:
        """Returns the ensemble of the members in a folder; see `agents.load`."""
        return cls([saving.load(folder / f"member-{place}", **options) for place in range(parts)])

    def scores(self, history: History) -> torch.Tensor:
        """Returns the mean log probabilities (B, n_items) float32 of the members."""
        given = (member.scores(history) for member in self.members)
        found = [part if isinstance(part, torch.Tensor) else torch.tensor(np.asarray(part)) for part in given]
        return torch.stack([part.to(self.device).float().log_softmax(dim=1) for part in found]).mean(dim=0)
