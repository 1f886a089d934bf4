"""How far to trust a user model: measures on held-out events, and the simulator card."""

from recgym.fidelity.card import Card
from recgym.fidelity.judge import report

__all__ = ["Card", "report"]
