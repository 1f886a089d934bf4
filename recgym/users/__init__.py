"""User models: who opens a session, how they answer a slate, when they leave."""

from recgym.users.base import Opening, Response, UserModel
from recgym.users.clicks import Clicks
from recgym.users.drr import DRRUsers
from recgym.users.fitted.fitting import fit
from recgym.users.fitted.learned import LearnedUsers
from recgym.users.fitted.penalties import Guards
from recgym.users.playlist import PlaylistUsers
from recgym.users.replay import ReplayUsers
from recgym.users.simulated import SimulatedUsers

__all__ = [
    "Clicks",
    "DRRUsers",
    "Guards",
    "LearnedUsers",
    "Opening",
    "PlaylistUsers",
    "ReplayUsers",
    "Response",
    "SimulatedUsers",
    "UserModel",
    "fit",
]
