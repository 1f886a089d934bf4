"""Folders whose parts hold columns in different types become the log of a naive reading, or a DataError of ours."""

import json
import re
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from recgym import InteractionLog
from recgym.datasets.tables import out_of_core as past_memory
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.out_of_core import write_table
from recgym.datasets.tables.table import read_table
from recgym.datasets.tables.timestamps import Clock, Reading
from recgym.errors import DataError
from recgym.rewards import fitting_transform, transform_rewards

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
    """Exact seconds of a time in Python's terms, or as a word of a CSV file."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, str):
        if re.fullmatch(r"[0-9.]+", value):
            return float(value)
        value = datetime.fromisoformat(value)
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return float(value)


def is_whole(word):
    return re.fullmatch(r"-?[0-9]+(\.0*)?", word) is not None


def naive(rows, as_text):
    """(user, item, reward, second) of whole rows, user by user in time order, by plain Python."""
    rows = [row for row in rows if None not in (row["u"], row["i"], row["t"])]

    def one(value, as_text):
        if not as_text:
            return int(str(value).partition(".")[0])
        return value if isinstance(value, str) else str(int(value))

    users, items = ([one(row[name], as_text[name]) for row in rows] for name in ("u", "i"))
    made = [(user, item, row["r"], seconds(row["t"])) for user, item, row in zip(users, items, rows, strict=True)]
    made.sort(key=lambda event: event[3])
    return [(*event[:3], int(np.floor(event[3]))) for event in sorted(made, key=lambda event: event[0])]


def events(log):
    users, items = log.user_ids[log.event_users()].tolist(), log.item_ids[log.items].tolist()
    return list(zip(users, items, log.rewards.tolist(), log.times.tolist(), strict=True))


def drawn(data, n_parts, ids, times, extra):
    parts, scale = [], data.draw(st.sampled_from([1.0, 2.5, 30.0]))
    for _ in range(n_parts):
        n = data.draw(st.integers(1, 5))
        numbers = st.one_of(st.integers(0, 6), st.none())
        users, items = (IDS[data.draw(ids)](data.draw(st.lists(numbers, min_size=n, max_size=n))) for _ in range(2))
        stamps = st.one_of(st.integers(START, START + 400_000), st.none())
        when = TIMES[data.draw(times)](data.draw(st.lists(stamps, min_size=n, max_size=n)))
        more = EXTRA[data.draw(extra)]([k % 5 for k in range(n)])
        parts.append(pa.table({"u": users, "i": items, "t": when, "r": [scale * k for k in range(n)], "x": more}))
    return parts


def as_words(part):
    """Returns the rows of a part as a CSV file holds them: a word, or nothing."""

    def word(value):
        return value.isoformat() if isinstance(value, date) else str(value)

    return [{name: None if value is None else word(value) for name, value in row.items()} for row in part.to_pylist()]


def written(parts, folder, form):
    """Writes parts into a folder; returns all rows as their files hold them, and which columns of ids are text."""
    rows = [row for part in parts for row in (as_words(part) if form == "csv" else part.to_pylist())]
    for number, part in enumerate(parts):
        if form == "parquet":
            parquet.write_table(part, folder / f"{number}.parquet")
        elif form == "csv":
            pd.DataFrame(as_words(part)).to_csv(folder / f"{number}.csv", index=False)
        else:
            lines = (
                json.dumps(row, default=lambda one: one.isoformat() if isinstance(one, date) else int(one))
                for row in part.to_pylist()
            )
            (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    values = {name: [row[name] for row in rows if row[name] is not None] for name in ("u", "i")}
    if form == "csv":
        return [row | {"r": float(row["r"])} for row in rows], {
            name: not all(map(is_whole, own)) for name, own in values.items()
        }
    return rows, {name: any(isinstance(one, str) for one in own) for name, own in values.items()}


def has_zone(value):
    """Whether a time says its zone; None of what has none to say."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9.]+", value):
        value = datetime.fromisoformat(value) if len(value) > 10 else None
    return value.tzinfo is not None if isinstance(value, datetime) else None


REFUSALS = ("extra columns of a table past memory", "one kind in all parts")


def assert_naive(parts, folder, form, with_extra=False, transform="raw"):
    """Asserts that a folder of such parts is read as plain Python reads it, or refused in words of ours."""
    rows, as_text = written(parts, folder, form)
    expected, zones = naive(rows, as_text), {has_zone(row["t"]) for row in rows}
    columns = {"user": "u", "item": "i", "reward": "r", "time": "t", "extra": ["x"] if with_extra else []}
    options = make_options({**columns, "missing": "drop", "transform": transform})
    if transform == "auto":
        stars = [event[2] for event in expected]
        worth = transform_rewards(stars, fitting_transform(stars)).tolist()
        expected = [(*event[:2], own, event[3]) for event, own in zip(expected, worth, strict=True)]
    for limit in (None, "100MB"):
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(past_memory, "_ROWS", 3)
                write_table(folder, options, "parts", folder / "log", limit)
            log = InteractionLog.open(folder / "log")
        except DataError as error:
            said = str(error)
            digits_and_dates = "seconds since 1970 or dates" in said  # as text, one column is either
            if "all have a zone, or none that has" in said:
                assert {True, False} <= zones
                continue
            assert not expected or digits_and_dates or any(words in said for words in REFUSALS), said
            continue
        assert not {True, False} <= zones
        assert events(log) == expected
        assert events(read_table(folder, options)) == expected
        assert log.user_ids.tolist() == sorted(set(log.user_ids.tolist()))


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_parts_of_any_types(form, tmp_path_factory, data):
    kinds = sorted(EXTRA) if form == "parquet" else sorted(set(EXTRA) - {"list"})
    ids, times, extra = (st.sampled_from(one) for one in (sorted(IDS), sorted(TIMES), kinds))
    parts = drawn(data, data.draw(st.integers(2, 4)), ids, times, extra)
    assert_naive(
        parts,
        tmp_path_factory.mktemp("parts"),
        form,
        data.draw(st.booleans()),
        data.draw(st.sampled_from(["raw", "auto"])),
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_last_blocks_unit_planted_again_is_caught(form, tmp_path, monkeypatch):
    whole = {"u": [2, 1], "i": [1, 2], "r": [0.0, 1.0], "x": [0, 0]}
    parts = [pa.table(whole | {"t": TIMES[unit]([START, START + 1])}) for unit in ("ms", "date32")]
    (tmp_path / "right").mkdir()
    assert_naive(parts, tmp_path / "right", form)
    read = Clock.read

    def of_the_last_block(self, *args):
        self.reading, self._has_read = Reading(), False
        return read(self, *args)

    monkeypatch.setattr(Clock, "read", of_the_last_block)
    with pytest.raises(AssertionError):
        assert_naive(parts, tmp_path, form)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["007", "1.5"], [7.0, 1.5]),
        (["1.50", "x"], ["1.50", "x"]),
        (["x", "TRUE"], ["x", "TRUE"]),
        (["2024-01-05T10:00", "1.50"], ["2024-01-05T10:00", "1.50"]),
        (["", "007", "2024-01-05"], ["", "007", "2024-01-05"]),
    ],
)
def test_words_of_csv_parts_that_are_text_together_stay_as_they_are_written(words, expected, tmp_path):
    for number, word in enumerate(words):
        (tmp_path / f"{number}.csv").write_text(f"u,i,x\n1,{number},{word}\n")
    log = read_table(tmp_path, make_options({"user": "u", "item": "i", "extra": ["x"]}))
    assert pd.Series(log.extra["x"]).fillna("").tolist() == expected


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
