"""The interaction log: who consumed what, in order; how it is read, cleaned, split and stored."""

from recgym.log.interaction_log import InteractionLog, UserEvents

__all__ = ["InteractionLog", "UserEvents"]
