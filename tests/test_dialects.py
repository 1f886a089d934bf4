"""Files as people have them: quotes, comments, separators, headers, packing, folders; read right or refused."""

import bz2
import gzip
import lzma
import uuid
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from recgym import datasets
from recgym.datasets.tables import text
from recgym.errors import DataError, MissingDataError

NAMES = {"user": "u", "item": "i"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))


def pairs(source, **options):
    log = datasets.load("table", path=source, **(NAMES | options))
    return list(zip(log.user_ids[log.event_users()].tolist(), log.item_ids[log.items].tolist(), strict=True))


def file(tmp_path, content, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


STRAY = 'u\ti\n1\tabba\n2\t"hello\n2\tbjork\n3\tabba"\n4\tx\n'


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (STRAY, {"separator": "\t", "quote": None}, [(1, "abba"), (2, '"hello'), (2, "bjork"), (3, 'abba"'), (4, "x")]),
        ("u,i\n1,'a,b'\n2,c\n", {"quote": "'"}, [(1, "a,b"), (2, "c")]),
        ("u,i\n1,a\\,b\n2,c\n", {"escape": "\\"}, [(1, "a,b"), (2, "c")]),
        ("1,a\n2,b\n", {"header": None, "names": ["u", "i"]}, [(1, "a"), (2, "b")]),
        ("1,a\n2,b\n", {"header": None, "user": "0", "item": "1"}, [(1, "a"), (2, "b")]),
        ("1,5\n2,6\n", {"header": None, "user": 0, "item": 1}, [(1, 5), (2, 6)]),
        ("x,x\n1,a\n2,b\n", {"names": ["u", "i"]}, [(1, "a"), (2, "b")]),
        ("\nx,x\n1,5\n2,6\n", {"names": ["u", "i"]}, [(1, 5), (2, 6)]),
        ("# by us\nu,i\n1,a\n#2,b\n3,c\n", {"comment": "#"}, [(1, "a"), (3, "c")]),
        ('u,i\n1,"a\n#b"\n#2,b\n3,c\n', {"comment": "#"}, [(1, "a\n#b"), (3, "c")]),
        ("u::i\n1::5\n2::6\n", {"separator": "::"}, [(1, 5), (2, 6)]),
        ('u::i\n1::"a::b"\n2::c:d\n', {"separator": "::"}, [(1, "a::b"), (2, "c:d")]),
        ("u||i\n1||é\n", {"separator": "||", "encoding": "latin-1"}, [(1, "é")]),
        ("u::i\n1::é\n", {"separator": "::", "encoding": "utf-16"}, [(1, "é")]),
    ],
)
def test_dialects(content, options, expected, tmp_path):
    path = file(tmp_path, content, encoding=options.get("encoding", "utf-8"))
    assert pairs(path, **options) == expected
    assert pairs(path, **options, memory_limit="100MB") == expected
    assert pairs(path, **options, transforms=[lambda frame: frame]) == expected


def test_decimal_commas(tmp_path):
    path = file(tmp_path, "u;i;r;t\na;x;3,5;1700000000\na;y;4;1700000001\n")
    log = datasets.load("table", path=path, **NAMES, reward="r", time="t", separator=";", decimal=",", transform="raw")
    assert log.rewards.tolist() == [3.5, 4.0]


def test_words_for_true_are_rewards_in_any_file(tmp_path):
    path = file(tmp_path, "u,i,r\na,x,True\na,y,false\na,z,TRUE\n")
    assert datasets.load("table", path=path, **NAMES, reward="r").rewards.tolist() == [1.0, 0.0, 1.0]
    frame = pd.DataFrame({"u": "a", "i": ["x", "y"], "r": [True, False]})
    assert datasets.load("table", path=frame, **NAMES, reward="r").rewards.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, pa.Codec("zstd").compress])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.txt"])
def test_packed_text_is_read_whatever_its_name(pack, name, tmp_path):
    packed = pack(b"u,i\n1,a\n2,b\n")
    assert pairs(file(tmp_path, bytes(packed), name)) == [(1, "a"), (2, "b")]


def test_parquet_under_another_name(tmp_path):
    pd.DataFrame({"u": [1], "i": ["a"]}).to_parquet(tmp_path / "t.csv", engine="pyarrow")
    assert pairs(tmp_path / "t.csv") == [(1, "a")]


@pytest.mark.parametrize(
    ("begin", "kind"), [(b"ARROW1\0\0", "Feather or Arrow"), (b"\x89HDF\r\n", "HDF5"), (b"SQLite format 3", "SQLite")]
)
def test_other_files_are_named(begin, kind, tmp_path):
    with pytest.raises(DataError, match=rf"t\.csv must be text, Parquet or JSON lines, got a file of {kind}; read it"):
        pairs(file(tmp_path, begin + bytes(100)))


# -- folders -----------------------------------------------------------------------------------------------------------


def test_hive_folders_empty_parts_and_litter(tmp_path):
    root = tmp_path / "plays"
    for day, users, items in (("2024-05-01", [1, 2], ["a", "b"]), ("2024-05-02", [], []), ("2024-05-03", [3], ["c"])):
        (root / f"day={day}").mkdir(parents=True)
        table = pa.table({"u": pa.array(users, pa.int64()), "i": pa.array(items, pa.string())})
        parquet.write_table(table, root / f"day={day}" / "part.parquet")
    file(root, b"x", "._part.parquet")
    file(root, b"", "_SUCCESS")
    file(root, b"x", "other/part.parquet")
    assert pairs(root) == [(1, "a"), (2, "b"), (3, "c")]
    log = datasets.load("table", path=root, **NAMES, time="day")
    assert log.times.tolist() == [1714521600, 1714521600, 1714694400]
    (root / "day=2024-05-03").rename(root / "day=2024-05-04")
    assert datasets.load("table", path=root, **NAMES, time="day").times.max() == 1714780800  # no old log is served


def test_hive_folders_may_hold_ids_and_text(tmp_path):
    for user in ("7", "10", "__HIVE_DEFAULT_PARTITION__"):
        file(tmp_path, f"i\na{user[:2]}\n,\n"[:-2], f"d/u={user}/p.csv")
    assert pairs(tmp_path / "d", missing="drop") == [(7, "a7"), (10, "a10")]


@pytest.mark.parametrize("line", ['{"i": "a%s"}\n', '{"i": "a%s", "u": "spoilt"}\n'])
def test_hive_folders_of_json_lines(line, tmp_path):
    for user in ("7", "10"):
        file(tmp_path, line % user, f"d/u={user}/day=2024-05-01/p.jsonl")
    assert pairs(tmp_path / "d") == [(7, "a7"), (10, "a10")]
    assert datasets.load("table", path=tmp_path / "d", **NAMES, time="day").times.tolist() == [1714521600] * 2
    shouted = datasets.load("table", path=tmp_path / "d", **NAMES, transforms=[lambda f: f.assign(i=f.i.str.upper())])
    assert shouted.item_ids.tolist() == ["A10", "A7"]


@pytest.mark.parametrize(
    ("files", "error", "match"),
    [
        ({"README.md": ""}, MissingDataError, r"must hold \.parquet files, or \.jsonl or \.csv ones, got none"),
        ({"a.csv": "u,i\n", "b.csv": ""}, DataError, "must hold a header line and events, got an empty file"),
        ({"d=1/a.csv": "u,i\n1,2\n", "b.csv": "u,i\n1,2\n"}, DataError, r"folders of the same columns, got \[\] and"),
        ({"a.csv": "u,i\n1,2\n", "b.csv": "u,j\n1,2\n"}, DataError, r"b\.csv must have the column 'i', got 'u', 'j'"),
    ],
)
def test_bad_folders(files, error, match, tmp_path):
    for name, content in files.items():
        file(tmp_path / "d", content, name)
    with pytest.raises(error, match=match):
        pairs(tmp_path / "d")


# -- ids and columns of a DataFrame ------------------------------------------------------------------------------------

UUIDS = [uuid.UUID(int=5), uuid.UUID(int=2**100)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (UUIDS, list(map(str, UUIDS))),
        ([Decimal(12), Decimal(7)], [7, 12]),
        ([2**70, 1], [1, 2**70]),
        ([np.int64(3), "a"], ["3", "a"]),
        (np.array([3, 5], np.float16), [3, 5]),
    ],
)
def test_ids_of_many_kinds(ids, expected, tmp_path):
    log = datasets.load("table", path=pd.DataFrame({"u": ids, "i": 1}), **NAMES)
    assert sorted(log.user_ids.tolist(), key=str) == sorted(expected, key=str)
    log.save(tmp_path / "log")
    assert datasets.load(tmp_path / "log").user_ids.tolist() == log.user_ids.tolist()


def test_columns_called_by_numbers():
    frame = pd.DataFrame([[1, "a"], [2, "b"]])
    assert pairs(frame, user=0, item=1) == pairs(frame, user="0", item="1") == [(1, "a"), (2, "b")]


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"separator": "\n"}, "separator must be one character or several"),
        ({"quote": ""}, "quote must be one character or None, got ''"),
        ({"quote": ","}, "separator, quote, escape and comment must differ, got"),
        ({"decimal": ","}, "decimal must be '.' or ',' and not the separator"),
        ({"header": 3}, r"header must be 0 \(the first line holds names\) or None"),
        ({"names": ["u", "u"]}, r"names must differ, got \['u', 'u'\]"),
        ({"limits": {"rows": 5}}, r"limits must be whole numbers from 1 on of columns, .*, got rows=5"),
        ({"names": ["u", "i", "x"]}, "names must be one per column of .*, got 3 for 2"),
    ],
)
def test_wrong_options(options, match, tmp_path):
    with pytest.raises(DataError, match=match):
        pairs(file(tmp_path, "u,i\n1,2\n"), **options)


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        (
            'u,i\n1,a\n2,"b\n3,c\n4,d"\n5\n',
            {},
            r"must have 2 fields, got 1 in line 6 \(a quoted field runs from line 3 to line 5: pass quote=None",
        ),
        ("u::i\n1::a\x1fb\n", {"separator": "::"}, r"must not hold the letter \\x1f where its separator is '::'"),
        ("u::i\n1::a\n2\n", {"separator": "::"}, "must have 2 fields, got 1 in line 3"),
        ("#c\nu,i\n#c\n1,a\n2\n", {"comment": "#"}, "must have 2 fields, got 1 in line 5"),
        ("1,a\n2\n", {"header": None, "names": ["u", "i"]}, "must have 2 fields, got 1 in line 2"),
        ("x,y\n1,a\n2\n", {"names": ["u", "i"]}, "must have 2 fields, got 1 in line 3"),
        (
            "u,i,r\n1,a,5\n2,b,five\n",
            {"names": ["u", "i", "r"], "reward": "r"},
            "must hold numbers, got 'five' in line 3",
        ),
        ("u,i,n,r\n1,2," + "x" * 200_000 + ",3\n1,3,ok,five\n", {"reward": "r"}, "column 'r' .* got 'five' in line 3"),
        ("u,i\n1,a\n".encode("utf-16-le"), {"encoding": "utf-16"}, "must be text in utf-16, got bytes that are not in"),
    ],
)
def test_errors_name_the_line(content, options, match, tmp_path):
    with pytest.raises(DataError, match=match):
        pairs(file(tmp_path, content), **options)


def test_an_id_that_holds_whole_lines_is_warned_of(tmp_path):
    path = file(tmp_path, STRAY)
    with pytest.warns(UserWarning, match="ids of column 'i' hold separators and line ends.*pass quote=None"):
        assert len(pairs(path, separator="\t")) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs(file(tmp_path, 'u,i\n1,"two\nlines"\n'))


def test_line_ends_in_quotes_stay_wherever_blocks_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 64)
    path = file(tmp_path, b"u,i\n" + b'1,"line one\r\nline two"\n' * 300)
    assert set(pairs(path)) == {(1, "line one\r\nline two")}


# -- bounded -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "match"),
    [
        (
            ",".join(map(str, range(300))),
            {"limits": {"columns": 200}},
            r"at most 200 columns, got 300; .* limits={.columns.: 300}",
        ),
        ("u" * 5000, {"limits": {"header": 4096}}, r"must end within 4,096 bytes, got a longer one"),
        (
            bytes(pa.Codec("zstd").compress(b"u,i,x\n" + (b"1,2," + b"x" * 999 + b"\n") * 300_000)),
            {},
            r"unpack to at most 64 times its size, got over .*limits",
        ),
    ],
)
def test_what_is_too_large_is_refused_soon(content, options, match, tmp_path):
    with pytest.raises(DataError, match=match):
        pairs(file(tmp_path, content), **options)


@pytest.mark.timeout(20)
def test_many_columns_take_time_in_line_with_their_number(tmp_path):
    names = [f"c{number}" for number in range(60_000)]
    content = ",".join(["u", "i", *names]) + "\n" + ",".join(["1"] * 60_002) + "\n"
    assert pairs(file(tmp_path, content)) == [(1, 1)]


def test_parquet_of_very_many_rows_is_refused_before_they_are_read(tmp_path):
    column = pa.array(np.ones(20_000_000, dtype=np.int8))
    parquet.write_table(pa.table({"u": column, "i": column}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"unpack to at most 64 times its size, got over .*expansion"):
        pairs(tmp_path / "t.parquet")


def test_deep_json_is_refused(tmp_path):
    good = b'{"u":1,"i":2,"x":[[{"y":"[[["}]]}\n' * 5000
    path = file(tmp_path, good + b'{"u":1,"i":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "t.jsonl")
    with pytest.raises(
        DataError, match=r"lines of .* at most 100 brackets within brackets, got 100001; mend that line"
    ):
        pairs(path)
    assert len(pairs(file(tmp_path, good, "t.jsonl"))) == 5000


def test_a_key_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"t\.jsonl must .*, got .*'utf-8' codec can't decode byte 0xa2"):
        pairs(file(tmp_path, b'{"u":1,"i":2,"\xa2":3}\n', "t.jsonl"))
