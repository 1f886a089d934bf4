"""Lists for everybody in a log, as one Parquet file: streamed, resumable, whole or not there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recgym.batches import histories
from recgym.errors import DataError
from recgym.evaluation.scoring import as_scores, best_lists, own_users, unseen_items
from recgym.export.unfinished import begun, content_hash, item_ids_as_text
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.rewards import transform_rewards
from recgym.serving.served import Served, liked_rating
from recgym.storage import store

PART = 1 << 16  # users of a part that is kept when the work is interrupted
Columns = dict[str, np.ndarray]


def recommend_log(
    served: Served,
    log: InteractionLog,
    out: str | Path,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    batch_size: int = 256,
    part: int = PART,
) -> int:
    """Writes the k items a scorer puts first for every user of a log, after all their events; returns how many rows.

    The file has a row per user and place: `user_id`, `place` (1 to k), `item_id` and `score`, users in the log's order,
    best first; fewer than k rows where fewer items are left, none where the scorer tells no item from another. Ids that
    are no numbers stand as text. What an interrupted work had done is kept beside `out`, and the same work asked for
    again goes on there. A log without ratings, all its rewards 1 and raw, counts as one of liked items.

    Args:
        served: What ranks the items.
        log: Whose events; those of items that the scorer does not know are passed over.
        out: A name that ends in `.parquet`.
        k: Items for each.
        exclude_seen: Whether items of a user's past are left out.
        batch_size: Users scored together.
        part: Users of each part that is kept.

    Raises:
        DataError: if k is out of range, the log has no item the scorer knows, or rewards of another kind.
        StoreError: if the file cannot be written, or the same work is being done by another process.
    """
    from pyarrow import parquet

    out = Path(out)
    if out.suffix != ".parquet":
        raise DataError(f"out must end in .parquet, got {out.name!r}; name such a file")
    if not 1 <= k <= served.n_items:
        raise DataError(f"k must be between 1 and the run's {served.n_items} items, got {k}; ask for fewer")
    if out.is_dir():
        raise DataError(f"out must be free or a file, got the folder {out}; name a file")
    log = _in_rewards_of(served, _of_known_items(served, log))
    key: dict[str, Any] = {"content": content_hash(log, None), "users": _hash_of(log.user_ids), "model": served.mark}
    key |= {"k": k, "exclude_seen": exclude_seen, "part": part, "version": 1}
    size = log.n_users * k * 24
    with begun(out, size, key) as folder:
        files = []
        with tqdm(total=log.n_users, desc=out.name, unit="user", unit_scale=True, disable=None) as bar:
            for number, first in enumerate(range(0, log.n_users, part)):
                files.append(folder / f"part-{number:05d}.parquet")
                last = min(first + part, log.n_users)
                if not files[-1].exists():
                    with store.atomic_file(files[-1]) as temporary:
                        _write(temporary, _blocks(served, log, range(first, last), k, exclude_seen, batch_size, bar))
                else:
                    bar.update(last - first)
        with store.atomic_file(out) as temporary:
            writer, n_rows = None, 0
            for file in files:
                table = parquet.read_table(file, page_checksum_verification=True)
                writer = writer or parquet.ParquetWriter(temporary, table.schema, write_page_checksum=True)
                writer.write_table(table)
                n_rows += table.num_rows
            if writer is not None:
                writer.close()
    return n_rows


def _blocks(
    served: Served, log: InteractionLog, users: range, k: int, exclude_seen: bool, batch_size: int, bar: Any
) -> Iterator[Columns]:
    """Yields the rows of users, a batch at a time."""
    item_ids, n_items = np.asarray(served.scorer.item_ids), served.n_items
    text, ids = item_ids_as_text(item_ids), item_ids_as_text(log.user_ids)
    place_of = _places(served, log)
    own = own_users(served.scorer, log.user_ids)
    for first in range(users.start, users.stop, batch_size):
        these = np.arange(first, min(first + batch_size, users.stop))
        past = histories(log, these, log.lengths[these])
        items = past.items if place_of is None else place_of[past.items]
        history = History(items, past.rewards, past.length, None if own is None else own[these])
        scores = as_scores(served.scorer.scores(history), len(these), n_items)
        allowed = unseen_items(items if exclude_seen else items[:, :0], n_items)
        upto = [min(k, int(np.count_nonzero(row))) for row in allowed]
        lists = best_lists(scores, allowed, upto, served.popularity, errors=True)
        found = [np.zeros(0, dtype=np.int64) if isinstance(one, DataError) else one for one in lists]  # all suit alike
        counts = np.array([len(one) for one in found])
        flat = np.concatenate(found)
        yield {
            "user_id": np.repeat(ids[these], counts),
            "place": np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in counts]),
            "item_id": text[flat],
            "score": scores[np.repeat(np.arange(len(these)), counts), flat],
        }
        bar.update(len(these))


def _write(path: Path, blocks: Iterator[Columns]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    tables = [pa.table(block) for block in blocks]
    parquet.write_table(pa.concat_tables(tables), path, write_page_checksum=True)


def _of_known_items(served: Served, log: InteractionLog) -> InteractionLog:
    """Returns the log without events of items that the scorer does not know."""
    known = np.array([served.find(one) is not None for one in log.item_ids.tolist()])
    if known.all():
        return log
    if not known.any():
        raise DataError(
            f"{log.name!r} must have items that the run knows, got none of its {log.n_items} among the run's "
            f"{served.n_items}, e.g. {log.item_ids[:3].tolist()}; name the column of item ids"
        )
    keep = known[log.items]
    print(f"passed over: {np.count_nonzero(~keep):,} of {log.n_events:,} events, of {np.count_nonzero(~known):,} items "
          "that the run does not know")  # fmt: skip
    return log.select_events(keep, drop_empty=False)


def _places(served: Served, log: InteractionLog) -> np.ndarray | None:
    """Returns the scorer's index of each item of the log, padding last (n_items + 1,); None where they are the same."""
    if np.array_equal(log.item_ids, np.asarray(served.scorer.item_ids)):
        return None
    found = [served.find(one) for one in log.item_ids.tolist()]
    return np.array([served.n_items if one is None else one for one in [*found, None]], dtype=np.int32)


def in_units_of(reward: str, log: InteractionLog) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what makes a log's rewards those that a scorer knows, by the name of its transform.

    Raises:
        DataError: if the log's are neither those nor what stands in the file.
    """
    if log.reward == reward:
        return np.asarray
    if log.reward != "raw" or reward.startswith("label:"):
        raise DataError(
            f"the log's rewards must be those of the run, {reward!r}, got {log.reward!r}; load it with that "
            "(--transform for a table, --reward for a data set by name)"
        )
    if np.all(log.rewards == 1.0):  # a table without ratings: each event says that something was taken
        liked = transform_rewards([liked_rating(reward)], reward)
        return lambda rewards: np.broadcast_to(liked, rewards.shape)
    return lambda rewards: transform_rewards(rewards, reward)


def _in_rewards_of(served: Served, log: InteractionLog) -> InteractionLog:
    """Returns the log with rewards as the scorer knows them."""
    if log.reward == served.reward:
        return log
    rewards = in_units_of(served.reward, log)(log.rewards)
    return replace(log, rewards=np.array(rewards), reward=served.reward, reward_range=None)


def _hash_of(ids: np.ndarray) -> str:
    return hashlib.sha256("\n".join(map(repr, ids.tolist())).encode("utf-8", "surrogatepass")).hexdigest()
