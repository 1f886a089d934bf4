"""Folders whose parts hold columns in different types become the log of a naive reading, or a DataError of ours."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recgym import InteractionLog
from recgym.datasets import past_memory
from recgym.datasets.past_memory import write_table
from recgym.datasets.table import make_options, read_table
from recgym.errors import DataError

START = 1_700_000_000
IDS = {  # how a part holds ids, and what they are then
    "int8": lambda n: pa.array([None if k is None else k % 100 for k in n], pa.int8()),
    "int16": lambda n: pa.array(n, pa.int16()),
    "int32": lambda n: pa.array(n, pa.int32()),
    "int64": lambda n: pa.array([None if k is None else k * 2**33 for k in n], pa.int64()),
    "uint64": lambda n: pa.array([None if k is None else k + 2**63 * (k == 3) for k in n], pa.uint64()),
    "float32": lambda n: pa.array(n, pa.float32()),
    "float64": lambda n: pa.array(n, pa.float64()),
    "decimal": lambda n: pa.array(n, pa.decimal128(20, 0)),
    "text": lambda n: pa.array([None if k is None else str(k) for k in n], pa.string()),
    "large text": lambda n: pa.array([None if k is None else f"u{k}" for k in n], pa.large_string()),
    "category": lambda n: pa.array([None if k is None else str(k) for k in n], pa.string()).dictionary_encode(),
    "nothing": lambda n: pa.nulls(len(n)),
    "nothing of text": lambda n: pa.nulls(len(n), pa.string()),
}
TIMES = {
    "s": lambda n: pa.array(n, pa.timestamp("s")),
    "ms": lambda n: pa.array([None if k is None else k * 1000 + 500 for k in n], pa.timestamp("ms")),
    "us": lambda n: pa.array([None if k is None else k * 10**6 for k in n], pa.timestamp("us", "UTC")),
    "ns": lambda n: pa.array([None if k is None else k * 10**9 for k in n], pa.timestamp("ns")),
    "date32": lambda n: pa.array(
        [None if k is None else datetime.fromtimestamp(k, UTC).date() for k in n], pa.date32()
    ),
    "int": lambda n: pa.array(n, pa.int64()),
    "uint32": lambda n: pa.array(n, pa.uint32()),
    "float": lambda n: pa.array([None if k is None else k + 0.25 for k in n], pa.float64()),
    "text": lambda n: pa.array(
        [None if k is None else datetime.fromtimestamp(k, UTC).isoformat() for k in n], pa.string()
    ),
    "digits": lambda n: pa.array([None if k is None else str(k) for k in n], pa.string()),
    "nothing": lambda n: pa.nulls(len(n)),
    "nothing of ns": lambda n: pa.nulls(len(n), pa.timestamp("ns")),
    "nothing of text": lambda n: pa.nulls(len(n), pa.string()),
}
EXTRA = {
    "int8": lambda n: pa.array(n, pa.int8()),
    "int64": lambda n: pa.array(n, pa.int64()),
    "float": lambda n: pa.array(n, pa.float64()),
    "text": lambda n: pa.array([None if k is None else f"x{k}" for k in n]),
    "nothing": lambda n: pa.nulls(len(n)),
    "list": lambda n: pa.array([[1]] * len(n)),
}


def seconds(value):
    """Exact seconds of a time in Python's terms."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, str):
        return float(value) if value.isdecimal() else datetime.fromisoformat(value).timestamp()
    return float(value)


def naive(parts, as_text):
    """(user, item, reward, second) of whole rows, user by user in time order, by plain Python."""
    rows = [row for part in parts for row in part.to_pylist() if None not in (row["u"], row["i"], row["t"])]

    def one(value):
        return value if isinstance(value, str) else int(value)

    users, items = ([str(one(row[name])) if as_text[name] else one(row[name]) for row in rows] for name in ("u", "i"))
    made = [(user, item, row["r"], seconds(row["t"])) for user, item, row in zip(users, items, rows, strict=True)]
    made.sort(key=lambda event: event[3])
    return [(*event[:3], int(np.floor(event[3]))) for event in sorted(made, key=lambda event: event[0])]


def events(log):
    users, items = log.user_ids[log.event_users()].tolist(), log.item_ids[log.items].tolist()
    return list(zip(users, items, log.rewards.tolist(), log.times.tolist(), strict=True))


def drawn(data, n_parts, ids, times, extra):
    parts = []
    for _ in range(n_parts):
        n = data.draw(st.integers(1, 5))
        numbers = st.one_of(st.integers(0, 6), st.none())
        users, items = (IDS[data.draw(ids)](data.draw(st.lists(numbers, min_size=n, max_size=n))) for _ in range(2))
        stamps = st.one_of(st.integers(START, START + 400_000), st.none())
        when = TIMES[data.draw(times)](data.draw(st.lists(stamps, min_size=n, max_size=n)))
        more = EXTRA[data.draw(extra)]([k % 5 for k in range(n)])
        parts.append(pa.table({"u": users, "i": items, "t": when, "r": [float(k) for k in range(n)], "x": more}))
    return parts


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_parts_of_any_types(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("parts")
    one_kind = st.sampled_from(sorted(EXTRA))
    parts = drawn(
        data, data.draw(st.integers(2, 4)), st.sampled_from(sorted(IDS)), st.sampled_from(sorted(TIMES)), one_kind
    )
    for number, part in enumerate(parts):
        parquet.write_table(part, folder / f"{number}.parquet")
    is_text = {
        name: any(
            part.column(name).null_count < part.num_rows and isinstance(part.column(name).drop_null()[0].as_py(), str)
            for part in parts
        )
        for name in ("u", "i")
    }
    expected = naive(parts, is_text)
    with_extra = data.draw(st.booleans())
    options = make_options(
        {"user": "u", "item": "i", "reward": "r", "time": "t", "missing": "drop", "extra": ["x"] if with_extra else []}
    )
    for limit in (None, "100MB"):
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(past_memory, "_ROWS", 3)
                write_table(folder, options, "parts", folder / "log", limit)
            log = InteractionLog.open(folder / "log")
        except DataError as error:
            said = str(error)
            digits_and_dates = "seconds since 1970 or dates" in said  # as text, one column is either
            assert not expected or digits_and_dates or "extra columns" in said or "one kind in all parts" in said, said
            continue
        assert events(log) == expected
        assert events(read_table(folder, options)) == expected
        assert log.user_ids.tolist() == sorted(set(log.user_ids.tolist()))


# -- the faults that made this mechanism -------------------------------------------------------------------------------


def load(folder, frames, **options):
    for number, frame in enumerate(frames):
        pd.DataFrame(frame).to_parquet(folder / f"{number}.parquet")
    return read_table(folder, make_options({"user": "u", "item": "i"} | options))


def test_a_last_part_without_times_says_nothing_of_their_unit(tmp_path):
    stamps = pd.to_datetime(["2024-01-01 10:00", "2024-01-02 10:00"])
    frames = [{"u": [2, 1], "i": [1, 2], "t": stamps}, {"u": [1, 2], "i": [3, 4], "t": [pd.NaT, pd.NaT]}]
    log = load(tmp_path, frames, time="t", missing="drop")
    assert log.times.tolist() == [1704189600, 1704103200]
    assert log.summary()["dropped"] == {"t": 2}


@pytest.mark.parametrize("second", ["datetime64[us]", "datetime64[s]", "int64"])
def test_times_of_different_units_are_one_unit(second, tmp_path):
    first = pd.to_datetime(["2024-02-01", "2024-02-02"]).astype("datetime64[ns]")
    later = pd.to_datetime(["2025-01-01", "2025-01-02"]).astype("datetime64[s]").astype(second)
    log = load(tmp_path, [{"u": [1, 1], "i": [1, 2], "t": first}, {"u": [1, 1], "i": [3, 4], "t": later}], time="t")
    assert log.times.tolist() == [1706745600, 1706832000, 1735689600, 1735776000]
    assert log.item_ids[log.items].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([[300, 44], np.array([44], np.int8)], [44, 300]),
        ([[2**40], np.array([5], np.int32)], [5, 2**40]),
        ([[-3], np.array([2**63 + 1], np.uint64)], [-3, 2**63 + 1]),
        ([np.array([2**63 + 1], np.uint64), np.array([7], np.uint8)], [7, 2**63 + 1]),
        ([[1, 20], ["a", "1"]], ["1", "20", "a"]),
        ([["a", "1"], [1, 20]], ["1", "20", "a"]),
        ([["x", str(2**40)], [2**40]], [str(2**40), "x"]),
        ([np.array([3, 4], np.float32), [3, 2**40]], [3, 4, 2**40]),
    ],
)
def test_ids_of_different_types_are_as_wide_as_the_widest(parts, expected, tmp_path):
    log = load(tmp_path, [{"u": ids, "i": ids} for ids in parts])
    assert log.user_ids.tolist() == expected
    assert log.item_ids.tolist() == expected


def test_repeats_written_in_two_ways_are_repeats(tmp_path):
    log = load(tmp_path, [{"u": [1, 1], "i": ["7", "a"]}, {"u": [1], "i": [7]}], duplicates="first")
    assert log.n_events == 2
