"""What polars reads of a file is what pyarrow would read of it, wherever plain lines end; the rest it leaves alone."""

import io
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recgym.datasets.tables import fast_csv as plain
from recgym.datasets.tables import text
from recgym.datasets.tables.text import Text, read_blocks
from recgym.errors import DataError

CODED = pa.dictionary(pa.int32(), pa.string())
TYPES = {"a": CODED, "b": pa.float64(), "c": None}
WORDS = ("", "NA")


def of(content, **options):
    return Text("it", partial(io.BytesIO, content), **options)


def read(content, types=TYPES, words=WORDS, **options):
    """Returns rows as text, the type of the guessed column, and how many blocks were plain; or the message."""
    guessed = {}
    while True:
        try:
            tables = list(read_blocks(of(content, **options), types, words, guessed))
            break
        except text.TooNarrow as found:
            guessed[found.column] = found.wider
        except DataError as error:
            return str(error), None, 0
    n_plain = sum(not pa.types.is_dictionary(table.column("a").type) for table in tables)
    rows = [row for table in tables for row in zip(*(table.column(k).to_pylist() for k in "abc"), strict=True)]
    return [(None if a is None else str(a), repr(b), repr(c)) for a, b, c in rows], tables[0].column("c").type, n_plain


def by_pyarrow(content, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "may_be", lambda *_: False)
        return read(content, **options)[:2]


FIELD = st.sampled_from(
    [
        *(
            "0",
            "1",
            "7",
            "10",
            "20000000",
            "9" * 18,
            "9" * 19,
            "9" * 20,
            "-3",
            "-0",
            "-0.5",
            "007",
            "00",
            "0.5",
            "1.50",
        ),
        *("5.", ".5", "-.5", ".", "1.2.3", "-", "1-2", "+5", "1e3", " 4", "0x1F", "nan", "inf", "", "NA", "x", '"6"'),
        *("0.1000000000000000055511151231257827", "123456789.123456789", "4.35", "179769313486231570000.0", "/"),
    ]
)
ORDINARY = st.sampled_from(["1", "2", "33", "4044"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(*(st.one_of(*[ORDINARY] * 12, FIELD) for _ in range(3))), min_size=1, max_size=60),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
    st.sampled_from([128, 200, 1 << 20]),
)
@example([("1", "1", "1")] * 30 + [("2", "2", "2.5")], "\n", True, 128)
@example([("1", "1", "1")] * 30 + [("007", "2", "2")], "\n", True, 128)
@example([("-0", "1", "1"), ("0", "2", "2")], "\n", True, 1 << 20)
def test_any_fields_are_read_as_pyarrow_reads_them(rows, end, ends, size):
    content = ("a,b,c" + end + end.join(",".join(row) for row in rows) + end * ends).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", size)
        found = read(content)[:2]
    assert found == by_pyarrow(content)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e300).map(lambda x: format(x, "f")), min_size=1, max_size=30))
def test_numbers_of_many_digits_are_the_nearest_float(numbers):
    content = "".join(f"1,{number},1\n" for number in numbers).encode()
    rows, _, n_plain = read(b"a,b,c\n" + content)
    assert [float(row[1]) for row in rows] == list(map(float, numbers))
    assert n_plain == 1


PLAIN = b"a,b,c\n" + b"1,0.5,3\n" * 50


@pytest.mark.parametrize(
    ("content", "n_plain"),
    [
        (PLAIN, 4),
        (PLAIN[:-1], 4),
        (PLAIN.replace(b"\n", b"\r\n"), 4),
        (b"\xef\xbb\xbf" + PLAIN, 4),
        (b'"a",b,c\n1,2,3\n', 0),  # a quoted name might hold a line end
        (b"\na,b,c\n1,2,3\n", 0),
        (PLAIN + b"007,1,1\n", 3),  # the block before the last is whole
        (PLAIN + b"1,1,1,1\n", 0),  # refused
    ],
)
def test_what_is_plain(content, n_plain, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 100)
    found = read(content)
    assert found[2] == n_plain
    assert found[:2] == by_pyarrow(content)


@pytest.mark.parametrize("border", range(120, 136))
def test_a_leading_zero_across_a_border_of_windows_is_seen(border, monkeypatch):
    monkeypatch.setattr(plain, "_WINDOW", 128)
    lines = b"1,2,3\n" * 50
    lines = lines[: border - border % 6] + b"1,2,03\n" + lines
    assert plain._count_marks(lines) is None
    assert plain._count_marks(lines.replace(b",03", b",30")) == lines.count(b"\n") * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ("", "0")),
        ({"separator": "."}, WORDS),
        ({"separator": "-"}, WORDS),
        ({"separator": "\u00a6"}, WORDS),
        ({"encoding": "utf-16"}, WORDS),
    ],
)
def test_what_cannot_be_plain(options, words):
    assert not plain.may_be(TYPES, options.get("separator", ","), options.get("encoding", "utf-8"), words)


def test_text_columns_beside_are_not_plain_but_empty_ones_are():
    content = b"a,b,c,d\n1,2,3,x\n"
    assert read(content)[2] == 0
    assert read(b"d,a,b,c\n,1,2,3\n")[2] == 1
    assert read(b"a,b,c,d\n1,2,3,\n")[2] == 0  # a line that ends too early looks the same


def test_a_column_of_unknown_type_is_real_where_its_first_block_is():
    rows, kind, n_plain = read(b"a,b,c\n1,2,3\n1,2,3.5\n")
    assert kind == pa.float64()
    assert n_plain == 1
    assert [row[2] for row in rows] == ["3.0", "3.5"]


def test_a_column_once_whole_that_is_real_further_on_is_read_again_as_real(monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 16)
    with pytest.raises(text.TooNarrow) as found:
        list(read_blocks(of(b"a,b,c\n" + b"1,2,3\n" * 9 + b"1,2,3.5\n"), TYPES, WORDS))
    assert found.value.column == "c"


def test_what_is_left_can_be_read_in_any_pieces():
    joined = plain._Joined(b"abcde", io.BytesIO(b"fgh"))
    assert [joined.read(2), joined.read(2), joined.read(2), joined.read(2), joined.read()] == [
        b"ab",
        b"cd",
        b"e",
        b"fg",
        b"h",
    ]
    assert np.all(joined.readable())
