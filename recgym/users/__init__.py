"""User models: who opens a session, how they answer a slate, when they leave."""

from recgym.users.base import Opening, Response, UserModel
from recgym.users.replay import ReplayUsers

__all__ = ["Opening", "ReplayUsers", "Response", "UserModel"]
