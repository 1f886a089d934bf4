"""Lists that a server showed, and what became of them: written line by line as they are acknowledged, read as a log.

A folder holds `manifest.json`, `models/MARK.json` (the items of each scorer served, in index order) and a file of lines
per process, `lines-*.jsonl`: a JSON object each, whose last value is the CRC-32 of what stands before it. A line is on
the disk before anyone is told of it. A process that dies may leave its last line cut, which nobody was told of.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recgym.errors import DataError, StoreError
from recgym.ids import as_ids, from_json, to_json
from recgym.log.interaction_log import InteractionLog
from recgym.storage import store
from recgym.storage.disk import sync_folder

KIND, VERSION = "served lists", 1
_LARGEST = 1 << 26  # bytes after which a process begins another file
_MOST_CANDIDATES = 1 << 28  # places of the table of candidates, sessions by items
_MISSING = "open a copy from before, or leave the line out by hand"


class ShownLists:
    """Appends lines to a folder of served lists; `write` returns when they are on the disk.

    Args:
        folder: An empty or new one, or one that holds such lines; several processes may write to one.

    Raises:
        StoreError: if it holds anything else, or cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if store.kind_of(self.folder) != KIND:
            with store.atomic_folder(self.folder, keep=lambda there: store.kind_of(there) == KIND) as temporary:
                store.write_manifest(temporary, KIND, VERSION, {})
        store.read_manifest(self.folder, KIND, VERSION)
        self._handle, self._size = -1, 0

    def know(self, mark: str, item_ids: Sequence[Any], reward: str, titles: Any, about: Mapping[str, Any]) -> None:
        """Writes down a scorer that lists will be of: its items in index order, and what else is told of it."""
        ids = to_json(np.fromiter(item_ids, dtype=object, count=len(item_ids)))
        known = {"mark": mark, "item_ids": ids, "reward": reward, "titles": titles, "about": dict(about)}
        with store.atomic_file(self.folder / "models" / f"{mark}.json") as temporary:
            temporary.write_text(json.dumps(known, default=str), encoding="utf-8")

    def write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Appends lines, all or none.

        Raises:
            StoreError: if the disk does not take them.
        """
        text = b"".join(_line(one) for one in lines)
        with store.explained(self.folder, "free the disk: nothing is shown that cannot be written down"):
            if self._handle < 0 or self._size > _LARGEST:
                self._begin()
            try:
                written = os.write(self._handle, text)
                if written != len(text):
                    raise OSError(f"{written} of {len(text)} bytes were written")
                os.fsync(self._handle)
            except OSError:
                os.ftruncate(self._handle, self._size)
                raise
        self._size += len(text)

    def close(self) -> None:
        """Ends the file of this process."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _begin(self) -> None:
        self.close()
        name = f"lines-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}.jsonl"
        self._handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        sync_folder(self.folder)


def packed(allowed: np.ndarray | None) -> str | None:
    """Returns which items could be shown (n_items,) bool as text; None for all."""
    return None if allowed is None else base64.b64encode(zlib.compress(np.packbits(allowed).tobytes())).decode()


def read(folder: str | Path, *, model: str | None = None, k: int | None = None) -> InteractionLog:
    """Returns served lists as a log that `evaluate_policy` takes: a session for each, its history before it.

    The columns are those of `recgym.collect`. What a shown item earned is what was answered for it last, else 0;
    rewards of histories are as the served run knows them. `users` holds `user_id`; `extra["candidates"]`, which items
    could be shown, is there where a request left some out beside its history. Lists without an item are left out.

    Args:
        folder: What `recgym serve --log` wrote.
        model: Mark of the run whose lists are meant; needed if runs with different items were served.
        k: Length of the lists that are meant; needed if there were several.

    Raises:
        StoreError: if the folder holds no such lists, or damaged ones.
        DataError: if there is none, or more than one model or length to choose from.
    """
    folder = Path(folder)
    store.read_manifest(folder, KIND, VERSION)
    shown, answers, n_strange = _joined(folder)
    known, shown = _of_one_model(folder, shown, model)
    shown = _of_one_length(folder, [one for one in shown if one["items"]], k)
    item_ids = as_ids(from_json(known["item_ids"]))
    index_of = {item_id: index for index, item_id in enumerate(item_ids.tolist())}
    with store.readable(folder, "hold lists of the items of its models", _MISSING):
        sessions = [_session(one, index_of, answers.get(one["list"], {})) for one in shown]
        narrowed = _candidates(folder, shown, len(item_ids))
    columns = {name: np.concatenate([one[name] for one in sessions]) for name in sessions[0]}
    lengths = np.array([len(one["items"]) for one in sessions])
    if narrowed is not None:
        columns["candidates"] = np.repeat(narrowed, lengths, axis=0)
    earned = columns["rewards"][columns["position"] >= 0]
    longest = max(len(one["history"]) for one in shown)
    return InteractionLog(
        items=columns.pop("items").astype(np.int32),
        rewards=columns.pop("rewards").astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        user_ids=np.array([one["list"] for one in shown]),
        item_ids=item_ids,
        times=np.repeat(np.array([one["time"] for one in shown], dtype=np.int64), lengths),
        propensities=columns.pop("propensities").astype(np.float32),
        extra=columns,
        users={
            "user_id": np.fromiter((_plain(one["user"]) for one in shown), dtype=object, count=len(shown)),
            "frame_size": np.full(len(shown), max(longest, 1)),
            "terminated": np.zeros(len(shown), dtype=bool),
        },
        titles=None if known["titles"] is None else np.array(known["titles"], dtype=object),
        reward=known["reward"],
        reward_range=(min(0.0, float(earned.min())), max(1.0, float(earned.max()))),
        name=folder.name,
        source={"lists": len(shown), "answers of lists or items that were not shown": n_strange},
    )


# -- lines -------------------------------------------------------------------------------------------------------------


def _line(values: Mapping[str, Any]) -> bytes:
    text = json.dumps(values, allow_nan=False)[:-1].encode()
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def lines_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of all processes, file by file in the order they were begun.

    Raises:
        StoreError: if a line is damaged, but for the last one of a file that was cut.
    """
    for path in sorted(folder.glob("lines-*.jsonl")):
        with store.readable(path, "be readable lines", _MISSING), path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut: its process died, and nobody was told of it
                text, _, crc = line.rpartition(b',"crc":"')
                if crc != b'%08x"}\n' % zlib.crc32(text):
                    raise StoreError(
                        f"{path} must hold the lines that were written, got line {number} changed; {_MISSING}"
                    )
                yield json.loads(line)


def _joined(folder: Path) -> tuple[list[dict[str, Any]], dict[str, dict[Any, float]], int]:
    """Returns the shown lists, the last answer by list and item, and how many answers fit no list."""
    shown: dict[str, dict[str, Any]] = {}
    answered: list[dict[str, Any]] = []
    for line in lines_of(folder):
        if "answer" in line:
            answered.append(line)
        else:
            shown[line["list"]] = line
    answers: dict[str, dict[Any, float]] = {}
    n_strange = 0
    for line in sorted(answered, key=lambda one: one["at"]):
        item, there = _plain(line["item"]), shown.get(line["answer"])
        if there is None or item not in map(_plain, there["items"]):
            n_strange += 1
        else:
            answers.setdefault(line["answer"], {})[item] = line["reward"]
    return list(shown.values()), answers, n_strange


def _plain(value: Any) -> Any:
    """Returns an id as it was: a list stands for a tuple."""
    return tuple(_plain(part) for part in value) if isinstance(value, list) else value


# -- which lists are meant ---------------------------------------------------------------------------------------------


def _of_one_model(
    folder: Path, shown: list[dict[str, Any]], model: str | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    counts = Counter(one["model"] for one in shown)
    if not counts or (model is not None and model not in counts):
        found = f"those of {', '.join(counts)}" if counts else "none"
        raise DataError(f"{folder} must hold lists{f' of {model}' if model else ''}, got {found}; serve some")
    with store.readable(folder / "models", "hold the items of every model", _MISSING):
        known = {mark: store.read_json(folder / "models" / f"{mark}.json") for mark in counts}
    chosen = known[model] if model is not None else next(iter(known.values()))
    alike = {mark for mark, one in known.items() if one["item_ids"] == chosen["item_ids"]}
    alike = {mark for mark in alike if known[mark]["reward"] == chosen["reward"]}
    if model is None and alike != set(counts):
        told = ", ".join(f"{mark} ({count:,})" for mark, count in counts.items())
        raise DataError(f"{folder} must be of runs of the same items, got {told}; pass model=, one of them")
    return chosen, [one for one in shown if one["model"] == model or model is None]


def _of_one_length(folder: Path, shown: list[dict[str, Any]], k: int | None) -> list[dict[str, Any]]:
    counts = Counter(len(one["items"]) for one in shown)
    if not counts or (k is not None and k not in counts) or (k is None and len(counts) > 1):
        told = ", ".join(f"{size} ({count:,})" for size, count in sorted(counts.items())) or "none"
        raise DataError(f"{folder} must hold lists of one length{'' if k is None else f', {k}'}, got {told}; pass k=")
    return [one for one in shown if k is None or len(one["items"]) == k]


def _candidates(folder: Path, shown: list[dict[str, Any]], n_items: int) -> np.ndarray | None:
    """Returns which items each list was chosen from (n, C), padded with n_items; None if no request left some out."""
    if all(one["allowed"] is None for one in shown):
        return None
    masks = []
    for one in shown:
        bits = zlib.decompress(base64.b64decode(one["allowed"])) if one["allowed"] else b"\xff" * (n_items // 8 + 1)
        masks.append(np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[:n_items]))
    widest = max(map(len, masks))
    if len(masks) * widest > _MOST_CANDIDATES:
        raise DataError(
            f"{folder} must fit a table of {_MOST_CANDIDATES:,} candidates, got {len(masks):,} lists of up to "
            f"{widest:,}; log what is narrowed by few candidates, or read parts of the folder"
        )
    table = np.full((len(masks), widest), n_items, dtype=np.int32)
    for row, items in enumerate(masks):
        table[row, : len(items)] = items
    return table


def _session(
    one: Mapping[str, Any], index_of: Mapping[Any, int], answers: Mapping[Any, float]
) -> dict[str, np.ndarray]:
    """Returns the event columns of a list: its history, then what was shown."""
    n, k = len(one["history"]), len(one["items"])
    ids = [_plain(item) for item in one["items"]]
    earned = [answers.get(item, 0.0) for item in ids]
    given = np.array(one["given"], dtype=np.float64)
    before = np.ones(n)

    def joined(first: Any, second: Any, kind: Any = np.float64) -> np.ndarray:
        return np.concatenate([np.asarray(first, dtype=kind), np.asarray(second, dtype=kind)])

    items = [index_of[_plain(item)] for item, _ in one["history"]]
    return {
        "items": joined(items, [index_of[item] for item in ids], np.int64),
        "rewards": joined([reward for _, reward in one["history"]], earned),
        "propensities": joined(before, one["marginal"]),
        "step": joined(np.full(n, -1), np.zeros(k), np.int32),
        "position": joined(np.full(n, -1), np.arange(k), np.int32),
        "enters": joined(before, np.array(earned) != 0.0, bool),
        "given_above": joined(before, given),
        "slate_propensity": joined(before, np.full(k, given.prod())),
        "propensity_error": joined(0.0 * before, one["error"]),
    }
