"""How far to trust a user model: measures on held-out events, the simulator card, and a card for any simulator."""

from recgym.fidelity.card import Card
from recgym.fidelity.judge import report
from recgym.fidelity.shapes import as_gymnasium
from recgym.fidelity.simulator import SimulatorCard, judge

__all__ = ["Card", "SimulatorCard", "as_gymnasium", "judge", "report"]
