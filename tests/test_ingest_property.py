"""Any small table, of ids of any kind, with ties, duplicates and gaps, becomes the log that plain loops make of it."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.table import read_table

COLUMNS = {"user": "u", "item": "i", "reward": "r", "time": "t", "missing": "drop", "transform": "raw"}
KINDS = {
    "int": st.integers(-3, 12),
    "long": st.integers(0, 4).map(lambda n: n * 10**17),
    "text": st.sampled_from(["a", "b", "ab", "7", "07", "zz top", "\u00e9", "9" * 30]),
    "mixed": st.one_of(st.integers(0, 5), st.sampled_from(["0", "1", "a"]), st.tuples(st.integers(0, 1), st.just("x"))),
}


def in_one_kind(column):
    """Numbers among text are text."""
    if not {int, str} <= set(map(type, column)):
        return column
    return [str(one) if isinstance(one, int) else one for one in column]


def naive(rows, duplicates):
    """Every user's events as lists of (item, reward, time), by plain loops."""
    by_user = {}
    for user, item, reward, time in rows:
        if None not in (user, item, reward, time):
            by_user.setdefault(user, []).append((item, float(np.float32(reward)), time))
    for user, events in by_user.items():
        events.sort(key=lambda event: event[2])  # stable
        if duplicates == "keep":
            continue
        kept = []
        for event in events if duplicates == "first" else events[::-1]:
            if event[0] not in [one[0] for one in kept]:
                kept.append(event)
        by_user[user] = kept if duplicates == "first" else kept[::-1]
    return by_user


def assert_naive(log, expected):
    assert set(log.user_ids.tolist()) == set(expected)
    assert set(log.item_ids.tolist()) == {event[0] for events in expected.values() for event in events}
    for user, user_id in enumerate(log.user_ids.tolist()):
        own = log.user(user)
        found = zip(log.item_ids[own.items].tolist(), own.rewards.tolist(), own.times.tolist(), strict=True)
        assert list(found) == expected[user_id]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_dataframes(data):
    users, items = (KINDS[data.draw(st.sampled_from(sorted(KINDS)))] for _ in range(2))
    gaps = data.draw(st.booleans())

    def column(values):
        return st.one_of(st.none(), values) if gaps else values

    row = st.tuples(column(users), column(items), column(st.integers(-4, 9).map(lambda n: n / 2)), st.integers(0, 4))
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    duplicates = data.draw(st.sampled_from(["keep", "first", "last"]))
    expected = naive(list(zip(*map(in_one_kind, zip(*rows, strict=True)), strict=True)), duplicates)
    if not expected:
        return
    frame = pd.DataFrame({name: pd.Series([row[k] for row in rows], dtype=object) for k, name in enumerate("uirt")})
    frame["t"] = frame["t"].astype("int64")
    options = {**COLUMNS, "duplicates": duplicates}
    assert_naive(read_table(frame, make_options(options)), expected)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_csv_files(tmp_path_factory, data):
    field = st.sampled_from(["1", "2", "10", "-3", "ann", "bob", "007", "9" * 25, "", "NA"])
    row = st.tuples(
        field, field, st.sampled_from(["1", "2.5", "-3e1", "", "nan"]), st.sampled_from(["1", "2", "3", ""])
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    duplicates = data.draw(st.sampled_from(["keep", "first", "last"]))

    def value(text, kind):
        return None if text in ("", "NA", "nan") else kind(text)

    kinds = []
    whole = [row for row in rows if not set(row) & {"", "NA", "nan"}]
    for k in range(2):
        words = {row[k] for row in rows} - {"", "NA"}
        kinds.append(
            int
            if all(word.lstrip("-").isdigit() and str(int(word)) == word and len(word) < 19 for word in words)
            else str
        )
    expected = naive([(*map(value, row, (*kinds, float, int)),) for row in rows], duplicates)
    if not whole:
        return
    path = tmp_path_factory.mktemp("property") / "p.csv"
    path.write_text("u,i,r,t\n" + "".join(",".join(row) + "\n" for row in rows))
    options = {**COLUMNS, "duplicates": duplicates}
    assert_naive(read_table(path, make_options(options)), expected)
