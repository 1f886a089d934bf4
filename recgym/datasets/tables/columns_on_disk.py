"""Event columns that are appended to `.npy` files and read back in pieces; a memory map would count as memory used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from recgym.errors import DataError
from recgym.log import events

_PIECE = 1 << 18  # events read back at a time, about


class Columns:
    """Event columns grouped by user, in one file each, and how many events each user has.

    Attributes:
        lengths: Events of each user so far (n_users,) int64.
        reward_range: Lowest and highest reward so far.
    """

    def __init__(self, folder: Path, types: Mapping[str, np.dtype], n_users: int) -> None:
        self.folder, self.types = folder, dict(types)
        self.lengths = np.zeros(n_users, dtype=np.int64)
        self.reward_range = (np.inf, -np.inf)
        self._files: dict[str, BinaryIO] = {}

    def append(self, users: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Adds events (m,) after all others; users rise. A column that is new with the first events is taken in."""
        if len(users) == 0:
            return
        for name, column in columns.items():
            if name not in self._files:
                self.types[name] = column.dtype
                self._files[name] = open(self._path(name), "wb")  # noqa: SIM115 - closed by finish
                self._write_header(name, 0)
            self._files[name].write(np.ascontiguousarray(column, dtype=self.types[name]).data)
        first, last = int(users[0]), int(users[-1]) + 1
        if last > len(self.lengths):
            self.lengths = np.append(self.lengths, np.zeros(max(last, 5 * len(self.lengths) // 4), dtype=np.int64))
        self.lengths[first:last] += np.bincount(users - first, minlength=last - first)
        low, high = self.reward_range
        rewards = columns["rewards"]
        self.reward_range = (min(low, float(rewards.min())), max(high, float(rewards.max())))

    def finish(self) -> dict[str, np.ndarray | Path]:
        """Closes the files, which are `.npy` files now, and returns them by column, and the offsets."""
        n_events = int(self.lengths.sum())
        for name, file in self._files.items():
            self._write_header(name, n_events)
            file.close()
        paths: dict[str, np.ndarray | Path] = {name: self._path(name) for name in self._files}
        return paths | {"offsets": np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)}

    def renumber(self, name: str, place: np.ndarray) -> None:
        """Replaces each code in a column by `place[code]`; call it after the last `append`."""
        file = self._files[name]
        file.flush()
        step = _PIECE * self.types[name].itemsize
        with open(self._path(name), "rb+") as old:
            npy.read_magic(old)
            npy.read_array_header_1_0(old)
            while codes := old.read(step):
                values = place[np.frombuffer(codes, self.types[name])]
                old.seek(-len(codes), os.SEEK_CUR)
                old.write(np.ascontiguousarray(values, dtype=self.types[name]).data)
                old.flush()

    def pieces(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yields (users, columns) of some whole users at a time; call `finish` first."""
        ends = np.cumsum(self.lengths)
        files = {name: open(self._path(name), "rb") for name in self._files}  # noqa: SIM115
        try:
            for name, file in files.items():
                file.seek(self._begin[name])
            first = user = 0
            while first < ends[-1]:
                stop = int(np.searchsorted(ends, min(first + _PIECE, ends[-1]))) + 1
                n_events = int(ends[stop - 1]) - first
                users = np.repeat(np.arange(user, stop), self.lengths[user:stop])
                yield users, {name: np.fromfile(file, self.types[name], n_events) for name, file in files.items()}
                first, user = int(ends[stop - 1]), stop
        finally:
            for file in files.values():
                file.close()

    @property
    def _begin(self) -> dict[str, int]:
        """Returns where the values begin in each file."""
        begins = {}
        for name in self._files:
            with open(self._path(name), "rb") as file:
                npy.read_magic(file)
                npy.read_array_header_1_0(file)
                begins[name] = file.tell()
        return begins

    def _write_header(self, name: str, n_events: int) -> None:
        """Writes the header at the beginning; NumPy pads it so that its size is the same for any number of events."""
        file = self._files[name]
        file.seek(0)
        description = npy.dtype_to_descr(self.types[name])
        npy.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": (n_events,)})

    def _path(self, name: str) -> Path:
        return self.folder / f"{list(self.types).index(name)}.npy"


def filtered(
    columns: Columns, ids: Mapping[str, np.ndarray], top_items: int | None, min_events: int
) -> tuple[Columns, dict[str, np.ndarray]]:
    """Returns what `log.top_items(top_items).filter_users(min_events)` keeps, in a folder beside."""
    columns.finish()
    n_items, n_users = len(ids["item_ids"]), len(ids["user_ids"])
    counts, own = np.zeros(n_items, dtype=np.int64), np.zeros(n_users, dtype=np.int64)
    items = np.arange(n_items)
    if top_items is not None:
        if not 1 <= top_items <= n_items:
            raise DataError(f"n must lie between 1 and {n_items}, the number of items, got {top_items}; ask for fewer")
        for _, piece in columns.pieces():
            counts += np.bincount(piece["items"], minlength=n_items)
        items = np.sort(np.argsort(-counts, kind="stable")[:top_items])
    place = np.full(n_items, -1, dtype=np.int32)
    place[items] = np.arange(len(items), dtype=np.int32)
    for users, piece in columns.pieces():
        own += np.bincount(users[place[piece["items"]] >= 0], minlength=n_users)
    kept = own >= max(min_events, 1)
    events.check_some_user(own, min_events)
    new_user = np.cumsum(kept) - 1
    folder = columns.folder / "filtered"
    folder.mkdir()
    smaller = Columns(folder, columns.types, int(kept.sum()))
    for users, piece in columns.pieces():
        stays = (place[piece["items"]] >= 0) & kept[users]
        piece["items"] = place[piece["items"]]
        smaller.append(new_user[users[stays]], {name: column[stays] for name, column in piece.items()})
    return smaller, {"user_ids": ids["user_ids"][kept], "item_ids": ids["item_ids"][items]}
