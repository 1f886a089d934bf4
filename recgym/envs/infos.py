"""What an environment says besides observations: infos with their masks, last observations, and views to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.envs.render import View
from recgym.envs.sessions import Sessions
from recgym.envs.spaces import one_row

MOST_LISTED = 20  # candidates that a view names; more are left out


class Infos:
    """Makes the infos of a vector environment; ids stand in the type a batch of them has.

    Args:
        catalog: The items.
        user_ids: Outside ids of the users (n_users,).
        candidates: How the items that may be shown next are told: None (not), `"index"` or `"vector"`.
        masked: Whether infos of all rows have masks.
    """

    def __init__(
        self, catalog: Catalog, user_ids: np.ndarray, candidates: str | None = None, masked: bool = True
    ) -> None:
        self.catalog, self.candidates = catalog, candidates
        self.user_ids = scalar_ids(user_ids)
        self.item_ids = padded_ids(catalog.item_ids)
        self.masked = masked

    def of(self, now: Sessions, rows: np.ndarray | None = None) -> dict[str, Any]:
        """Returns the infos of every row, or of rows (B,) bool, as new arrays with their masks."""
        columns = {
            "user": now.user.copy(),
            "user_id": self.user_ids[now.user],
            "items": now.slate.copy(),
            "item_ids": self.item_ids[now.slate],
            "answered": now.answered.copy(),
            "item_rewards": now.worth.copy(),
        }
        if now.behaviours.shape[2]:
            columns["behaviours"] = now.behaviours.copy()
        if now.late is not None:
            columns |= {"shown": now.shown.copy(), "late_rewards": now.rest.copy()}
        if hasattr(now.users, "told"):
            columns |= now.users.told(now.state)
        if self.candidates is not None:
            listed = np.array(now.candidates(), dtype=np.int64)  # (B, C)
            columns["candidates"] = listed if self.candidates == "index" else self.catalog.table[listed]  # (B, C, d)
        return masked_infos(columns, rows) if self.masked else columns

    def last(self, now: Sessions, done: np.ndarray, observations: Any) -> dict[str, Any]:
        """Returns `final_obs` and `final_info` of the rows that are done (B,) bool.

        Args:
            now: The sessions.
            done: Which rows ended.
            observations: The last observations of these rows, in their order.
        """
        final_obs = np.full(len(done), None, dtype=object)
        for place, row in enumerate(np.flatnonzero(done)):
            final_obs[row] = one_row(observations, place)
        final = {"final_obs": final_obs, "final_info": self.of(now, done)}
        return final | {f"_{name}": done.copy() for name in final}

    def view(self, now: Sessions, row: int) -> View:
        """Returns what `recgym.envs.render` draws of one row."""
        places = [(int(item), bool(said)) for item, said in zip(now.slate[row], now.answered[row], strict=True)]
        places = [(item, said) for item, said in places if item != now.n_items]
        told = getattr(now.users, "story", None)
        story = (
            [] if told is None else [(one.name, float(one.value[row]), one.low, one.high) for one in told(now.state)]
        )
        listed = now.candidates()
        n_listed = 0 if listed is None or np.shape(listed)[1] > MOST_LISTED else np.shape(listed)[1]
        offered = [int(item) for item in listed[row] if item != now.n_items] if n_listed else []
        frame = zip(now.items[row].tolist(), now.rewards[row].tolist(), strict=True)
        return View(
            user=str(self.user_ids[now.user[row]]),
            step=int(now.random.step[row]),
            horizon=now.horizon,
            total=float(now.total[row]),
            shown=[self._title(item) for item, _ in places],
            answered=[said for _, said in places],
            frame=[(self._title(item), reward) for item, reward in frame if item != now.n_items],
            story=story,
            candidates=[self._title(item) for item in offered],
            n_candidates=n_listed,
        )

    def _title(self, item: int) -> str:
        """Returns what to call an item: its title, and its topic where it has one."""
        topic = self.catalog.features.get("topic")
        return self.catalog.title(item) + ("" if topic is None else f" (topic {topic[item]})")


def padded_ids(item_ids: np.ndarray) -> np.ndarray:
    """Returns ids (n_items + 1,) whose last, for an empty place, is -1, NaN or None; text becomes Python objects.

    (Gymnasium's checker compares arrays of infos as numbers, unless they hold objects.)
    """
    if item_ids.dtype.kind in "iub":
        return np.append(item_ids.astype(np.int64), -1)
    if item_ids.dtype.kind == "f":
        return np.append(item_ids.astype(np.float64), np.nan)
    return np.fromiter([*item_ids.tolist(), None], dtype=object, count=len(item_ids) + 1)


def scalar_ids(user_ids: np.ndarray) -> np.ndarray:
    """Returns ids (n_users,) in the type a batch of them has in infos: int64, float64, or Python objects."""
    if user_ids.dtype.kind in "iub":
        return user_ids.astype(np.int64)
    if user_ids.dtype.kind == "f":
        return user_ids.astype(np.float64)
    return np.fromiter(user_ids.tolist(), dtype=object, count=len(user_ids))


def masked_infos(columns: dict[str, np.ndarray], rows: np.ndarray | None) -> dict[str, Any]:
    """Returns infos as a vector environment gives them: every column with a mask `_name` of the rows that have it.

    Args:
        columns: By name, each (B,) or (B, k); they are not copied where all rows have them.
        rows: Which rows have an info (B,) bool, or None for all; the others hold zeros, or None in object columns.
    """
    infos: dict[str, Any] = {}
    for name, column in columns.items():
        if rows is None:
            infos[name], infos[f"_{name}"] = column, np.ones(len(column), dtype=np.bool_)
            continue
        empty = np.full(column.shape, None) if column.dtype == object and column.ndim == 1 else np.zeros_like(column)
        empty[rows] = column[rows]
        infos[name], infos[f"_{name}"] = empty, rows.copy()
    return infos
