"""What an observation may hold beside the frame or history: who the user is, what time it is, what may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from recgym.catalog import Catalog
from recgym.errors import DataError
from recgym.options import check_choice
from recgym.rng import RowRandom

if TYPE_CHECKING:
    from recgym.envs.sessions import Sessions
    from recgym.users.base import UserModel

CONTEXT = ("user", "time", "candidates", "candidate_vectors")
_LONGEST = 36525.0  # days that are told apart


class Context:
    """The parts of an observation that are asked for, by name.

    | name | keys of the observation |
    |---|---|
    | `"user"` | `user_features` Box (m,) float32: the users' own (see the option `user_features`) |
    | `"time"` | `hour` Discrete(24), `weekday` Discrete(7) from Monday, `day` Box (1,) float32 since the beginning |
    | `"candidates"` | `candidates` MultiDiscrete of C in 0..n: what may be shown next; n pads |
    | `"candidate_vectors"` | `candidate_vectors` Box (C, d) float32: their vectors; zero pads |

    Args:
        names: Some of `CONTEXT`.
        users: How users answer.
        catalog: The items.
        frame_size: F.

    Raises:
        DataError: if a name is unknown, or the users have no features, times or candidates.
    """

    def __init__(self, names: Sequence[str], users: UserModel, catalog: Catalog, frame_size: int) -> None:
        if not isinstance(names, list | tuple):
            raise DataError(f"context must be a list of some of {CONTEXT}, got {names!r}; give e.g. ['time']")
        for name in names:
            check_choice("context", name, CONTEXT)
        self.names, self.users, self.catalog = names, users, catalog
        self.spaces: dict[str, spaces.Space] = {}
        features = getattr(users, "features", None)
        if "user" in names:
            if features is None:
                raise DataError(
                    "context 'user' needs users with features, got none; name some with user_features, where the data "
                    "have any"
                )
            low, high = getattr(users, "features_range", (features.min(axis=0), features.max(axis=0)))
            self.spaces["user_features"] = spaces.Box(low, high, dtype=np.float32)
        one, row = RowRandom.from_seeds([0]), np.zeros(1, dtype=np.int64)
        state = users.start(one, row, frame_size, users.servable[:1])[0] if len(names) else None
        if "time" in names:
            if not hasattr(users, "when"):
                raise DataError(
                    f"context 'time' needs users who know the time, got {type(users).__name__}; leave it out"
                )
            users.when(state)  # says what is missing
            self.spaces |= {"hour": spaces.Discrete(24), "weekday": spaces.Discrete(7)}
            self.spaces["day"] = spaces.Box(0.0, _LONGEST, (1,), np.float32)
        if {"candidates", "candidate_vectors"} & {*names}:
            listed = users.candidates(one, row, state)
            if listed is None:
                raise DataError(
                    "context 'candidates' needs users who have candidates, got users to whom any item may be shown; "
                    "leave it out, or give n_candidates where the id has it"
                )
            width = np.shape(listed)[1]
            if "candidates" in names:
                sizes = np.full(width, catalog.n_items + 1)
                self.spaces["candidates"] = spaces.MultiDiscrete(sizes, dtype=np.int32)
            if "candidate_vectors" in names:
                self.spaces["candidate_vectors"] = spaces.Box(-1.0, 1.0, (width, catalog.dim), np.float32)

    def space(self, plain: spaces.Space) -> spaces.Space:
        """Returns the space of one row's observation, given that without context: a Dict, a frame under `frame`."""
        if not self.names:
            return plain
        parts = dict(plain.spaces) if isinstance(plain, spaces.Dict) else {"frame": plain}
        return spaces.Dict(parts | self.spaces)

    def beside(self, plain: Any, now: Sessions, rows: Any) -> Any:
        """Returns the observation of rows (an index array or slice), given that without context."""
        if not self.names:
            return plain
        parts = plain if isinstance(plain, dict) else {"frame": plain}
        users: Any = self.users
        if "user" in self.names:
            parts["user_features"] = users.features[now.user[rows]]
        if "time" in self.names:
            clock = users.when(now.state)
            parts["hour"] = np.array(clock.hour, dtype=np.int64)[rows]
            parts["weekday"] = np.array(clock.weekday, dtype=np.int64)[rows]
            parts["day"] = np.clip(np.asarray(clock.day)[rows], 0.0, _LONGEST)[:, None].astype(np.float32)
        if {"candidates", "candidate_vectors"} & {*self.names}:
            listed = np.array(now.candidates(), dtype=np.int32)[rows]  # (R, C)
            if "candidates" in self.names:
                parts["candidates"] = listed
            if "candidate_vectors" in self.names:
                parts["candidate_vectors"] = self.catalog.table[listed]
        return parts
