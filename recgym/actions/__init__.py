"""Action mappers: from what an agent says to the items that are shown, and the searches behind them."""

from recgym.actions.mappers import ActionMapper, EmbeddingActions, ItemActions, top_k

__all__ = ["ActionMapper", "EmbeddingActions", "ItemActions", "top_k"]
