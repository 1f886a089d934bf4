"""A log of the shape of MovieLens-20M, of any size, streamed to CSV or Parquet in bounded memory, for measurements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from recgym.errors import DataError
from recgym.rng import key_words, philox, uniforms
from recgym.storage.store import atomic_file

ML20M_ROWS, ML20M_USERS = 20_000_263, 138_493
ITEMS, HIGHEST_ID = 26_744, 131_262
SHORTEST, LONGEST = 20, 9_254  # events of a user
_STARS = np.array([239125, 680732, 279252, 1430997, 883398, 4291193, 2200156, 5561926, 1534824, 2898660])  # 0.5 to 5
_BEGIN, _END = 789_652_009, 1_427_784_002  # first and last second
_GAP = 20  # seconds between two ratings of one session, about
_CHUNK = 1 << 20  # events made at a time, about
_EVENT, _LENGTHS, _IDS, _STARTS = range(4)  # streams of random numbers


class Events(NamedTuple):
    """Some users' events, in the order of the published file: by user, then item."""

    users: np.ndarray  # (n,) int32, from 1
    items: np.ndarray  # (n,) int32, sparse ids from 1 to 131,262
    halves: np.ndarray  # (n,) int8, half stars from 1 to 10
    times: np.ndarray  # (n,) int64, seconds


class Shape(NamedTuple):
    """What a generated log looks like before its events are drawn."""

    lengths: np.ndarray  # (n_users,) int32, events of each user
    item_ids: np.ndarray  # (n_items,) int32, most popular first
    popularity: np.ndarray  # (n_items,) float64, cumulated shares


def shape(rows: int, seed: int = 0) -> Shape:
    """Returns users' lengths and the items of a log of exactly `rows` events.

    Users grow with the rows (138,493 at 20,000,263) and items do not: 26,744 where there are rows enough. Lengths are
    20 and more, a log-normal number with the median and mean of MovieLens-20M (68 and 144), at most 9,254. The item of
    popularity rank r is met in proportion to (1 + r / 395) ** -2.33, which gives the first 0.34 % of all events and
    the middle one 18 of 20 million.

    Raises:
        DataError: if there are fewer than 2,000 rows, which have no such shape.
    """
    if rows < 2_000:
        raise DataError(f"rows must be at least 2000, got {rows}; a smaller log has no such shape, use 'synthetic'")
    n_users = max(round(rows * ML20M_USERS / ML20M_ROWS), 1)
    rank = np.argsort(uniforms(seed, n_users, _LENGTHS), kind="stable")
    quantile = (np.arange(n_users) + 0.5) / n_users
    n_items = min(ITEMS, rows // 8)  # few enough that users of 20 events can meet them all
    longest = min(LONGEST, n_items)
    by_rank = SHORTEST + np.exp(np.log(48.5) + 1.42 * ndtri(quantile))
    lengths = np.empty(n_users, dtype=np.int64)
    lengths[rank] = _summing_to(rows, by_rank, longest)
    weight = (1.0 + np.arange(n_items) / 395.0) ** -2.33
    ids = np.sort(np.argsort(uniforms(seed, HIGHEST_ID, _IDS), kind="stable")[:n_items]) + 1
    ids[-1] = HIGHEST_ID
    shuffled = ids[np.argsort(uniforms(seed + 1, n_items, _IDS), kind="stable")]
    return Shape(lengths.astype(np.int32), shuffled.astype(np.int32), np.cumsum(weight) / weight.sum())


def chunks(rows: int, seed: int = 0, shaped: Shape | None = None) -> Iterator[Events]:
    """Yields the events of a log of `rows` rows, about a million at a time; the same for the same rows and seed.

    A user's items differ, and every item is met. Times lie within a session from the user's own first second on.
    """
    shaped = shaped or shape(rows, seed)
    ends = np.cumsum(shaped.lengths, dtype=np.int64)
    borders = np.searchsorted(ends, np.arange(_CHUNK, ends[-1], _CHUNK)) + 1
    for first, last in zip([0, *borders.tolist()], [*borders.tolist(), len(ends)], strict=True):
        if first < last:
            yield _events(shaped, first, last, int(ends[first - 1]) if first else 0, seed)


def generate(path: str | Path, rows: int = ML20M_ROWS, seed: int = 0) -> Path:
    """Writes a log of `rows` events as MovieLens-20M's `ratings.csv` is written, or as Parquet; all or nothing.

    Columns are userId, movieId, rating and timestamp; the file is in the order of users, then items, not of times.

    Args:
        path: What to write; its ending chooses the format.
        rows: How many events.
        seed: Another seed gives another log of the same shape.

    Raises:
        DataError: if there are fewer than 2,000 rows.
        StoreError: if the file cannot be written.
    """
    from tqdm import tqdm

    path, shaped = Path(path), shape(rows, seed)
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    with (
        atomic_file(path) as temporary,
        tqdm(total=rows, unit="row", unit_scale=True, disable=None) as bar,
        _parquet(temporary) if is_parquet else _csv(temporary) as writer,
    ):
        for events in chunks(rows, seed, shaped):
            writer.write_table(_table(events, as_text=not is_parquet))
            bar.update(len(events.users))
    return path


def _events(shaped: Shape, first: int, last: int, before: int, seed: int) -> Events:
    """Returns the events of users `first` to `last`, of whom the first has `before` events of others before his."""
    lengths = shaped.lengths[first:last].astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    users = np.repeat(np.arange(first, last), lengths)  # (n,)
    place = np.arange(len(users)) - np.repeat(starts, lengths)
    number = before + np.arange(len(users), dtype=np.int64)
    words = philox((number & 0xFFFFFFFF, number >> 32, np.int64(0), np.int64(_EVENT)), key_words(seed))
    jitter, star, moment = (word * 2.0**-32 for word in words[:3])
    ranks = _ranks(shaped, users, place, lengths, jitter)
    items = shaped.item_ids[ranks]
    session = _BEGIN + (uniforms(seed, last, _STARTS)[first:] * (_END - _BEGIN - _GAP * LONGEST)).astype(np.int64)
    times = np.repeat(session, lengths) + (moment * np.repeat(lengths * _GAP, lengths)).astype(np.int64)
    halves = 1 + np.searchsorted(np.cumsum(_STARS) / _STARS.sum(), star, side="right")
    order = np.argsort(users * np.int64(HIGHEST_ID + 1) + items, kind="stable")
    return Events(*(column[order] for column in (users.astype(np.int32) + 1, items, halves.astype(np.int8), times)))


def _ranks(shaped: Shape, users: np.ndarray, place: np.ndarray, lengths: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """Returns popularity ranks (n,) that rise within each user: one from each of his equal shares of all events.

    Where two would meet, the later one moves on to the next rank; so a rank that is asked for is always there.
    """
    n_items, own = len(shaped.item_ids), np.repeat(lengths, lengths)
    ranks = np.searchsorted(shaped.popularity, (place + jitter) / own, side="right")
    owed = -(-n_items // len(shaped.lengths))  # ranks each user must ask for, so that every item is met
    asked = users * owed + place
    ranks = np.where((place < owed) & (asked < n_items), asked, np.minimum(ranks, n_items - 1))
    step = np.int64(2 * n_items)  # keeps users apart
    ranks = np.sort(users * step + ranks) - users * step
    pushed = np.maximum.accumulate(users * step + ranks - place) - users * step + place
    return np.minimum(pushed, n_items - own + place)


def _summing_to(total: int, wanted: np.ndarray, longest: int) -> np.ndarray:
    """Returns whole lengths near those wanted, rising, from 20 to the longest, whose sum is `total`."""
    low, high = 0.0, 64.0  # bisect the factor of what exceeds 20
    for _ in range(60):
        middle = (low + high) / 2
        if _scaled(wanted, middle, longest).sum() <= total:
            low = middle
        else:
            high = middle
    lengths = _scaled(wanted, low, longest)
    lacking = total - int(lengths.sum())
    able = np.flatnonzero(lengths < longest)[-lacking:] if lacking else np.array([], dtype=np.int64)
    if len(able) < lacking:
        raise DataError(f"rows must suit the shape, got {total} that leave {lacking} over; give some more")
    lengths[able] += 1
    return lengths


def _scaled(wanted: np.ndarray, factor: float, longest: int) -> np.ndarray:
    return np.minimum(SHORTEST + np.floor((wanted - SHORTEST) * factor), longest).astype(np.int64)


def _table(events: Events, as_text: bool) -> pa.Table:
    stars = np.arange(1, 11) / 2
    ratings = pa.array([str(star) for star in stars]) if as_text else pa.array(stars)
    columns = {"userId": pa.array(events.users), "movieId": pa.array(events.items)}
    columns["rating"] = ratings.take(pa.array(events.halves - 1))
    return pa.table(columns | {"timestamp": pa.array(events.times)})


def _csv(path: Path) -> Any:
    from pyarrow import csv

    kinds = {"userId": pa.int32(), "movieId": pa.int32(), "rating": pa.string(), "timestamp": pa.int64()}
    options = csv.WriteOptions(quoting_style="none", quoting_header="none")
    path.touch()
    return csv.CSVWriter(str(path), pa.schema(kinds), write_options=options)


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    kinds = {"userId": pa.int32(), "movieId": pa.int32(), "rating": pa.float64(), "timestamp": pa.int64()}
    return parquet.ParquetWriter(str(path), pa.schema(kinds), write_page_checksum=True)
