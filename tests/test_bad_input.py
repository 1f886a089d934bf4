"""The table of bad tables: each is refused with a message that names file, place and remedy."""

import pandas as pd
import pytest

from recgym import datasets
from recgym.errors import DataError, MissingDataError
from recgym.storage import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))


# -- CSV ---------------------------------------------------------------------------------------------------------------

GOOD = "u,i,r,t\na,x,1,10\nb,y,2,20\n"
TABLES = {  # what is wrong -> the file, the message
    "empty file": ("", r"bad\.csv must hold a header line and events, got an empty file"),
    "only blank lines": ("\n\n\n", "must hold a header line and events, got an empty file"),
    "header only": ("u,i,r,t\n", "must hold at least one event, got none after the header"),
    "missing column": ("u,i,r\na,x,1\n", r"bad\.csv must have the column 't', got 'u', 'i', 'r'; name the columns"),
    "missing columns": ("a,b\n1,2\n", "must have the columns 'u', 'i', 'r', 't', got 'a', 'b'"),
    "column twice": ("u,i,r,t,r\na,x,1,10,2\n", r"columns of .* must have different names, got \['r'\] more than once"),
    "unparsable rating": (
        GOOD + "c,x,five,30\n",
        r"column 'r' of .*bad\.csv must hold numbers, got 'five' in line 4; mend or remove that line",
    ),
    "unparsable rating after blank and two-line rows": (
        'u,i,r,t\n\na,"x\ny",1,10\n\nb,y,?,20\n',
        "column 'r' of .* must hold numbers, got '\\?' in line 6",
    ),
    "NaN rating": (
        GOOD + "c,x,NaN,30\n",
        r"column 'r' of .* must be filled in .*, got nothing in line 4 \(1 of 3 rows\)",
    ),
    "empty rating": (GOOD + "c,x,,30\n", "column 'r' of .* must be filled in .*, got nothing in line 4"),
    "infinite rating": (GOOD + "c,x,inf,30\n", r"column 'r' of .* must be finite, got inf in line 4 \(1 of 3 rows\)"),
    "rating beyond 32 bits": (GOOD + "c,x,1e39,30\n", "column 'r' of .* must fit into 32 bits, got 1e\\+39 in line 4"),
    "minus infinite rating": ("u,i,r,t\nc,x,-inf,30\n", "column 'r' of .* must be finite, got -inf in line 2"),
    "no user": (GOOD + ",x,1,30\n", r'column \'u\' of .* must be filled in \(or pass missing="drop".* in line 4'),
    "no item": (GOOD + "c,null,1,30\n", "column 'i' of .* must be filled in .* in line 4"),
    "no time": (GOOD + "c,x,1,\n", "column 't' of .* must be filled in .* in line 4"),
    "negative time": (GOOD + "c,x,1,-5\n", r"column 't' of .* must not be before 1970 \(negative\), got -5 in line 4"),
    "unreadable time": (
        GOOD + "c,x,1,soon\n",
        "column 't' of .* must hold seconds since 1970 or dates .*, got soon in line 4",
    ),
    "date of another order": (
        "u,i,r,t\na,x,1,31/12/2020\n",
        "must hold seconds since 1970 or dates like .*time_format.*got 31/12/2020 in line 2",
    ),
    "impossible date": (
        "u,i,r,t\na,x,1,2020-02-30\n",
        "must hold seconds since 1970 or dates .*, got 2020-02-30 in line 2",
    ),
    "infinite time": ("u,i,r,t\na,x,1,inf\n", "column 't' of .* must hold seconds since 1970 .*, got inf in line 2"),
    "time of day only": ("u,i,r,t\na,x,1,12:30:00\n", "column 't' of .* must be seconds since 1970 .*, got time32"),
    "line cut short": (GOOD + "c,x", r"every line of .* must have 4 fields, got 2 in line 4; .*cut short"),
    "line too long": (GOOD + "c,x,1,30,9\n", "every line of .* must have 4 fields, got 5 in line 4"),
    "another separator": (GOOD.replace(",", ";"), "must have the columns 'u', 'i', 'r', 't', got 'u;i;r;t'"),
}


@pytest.mark.parametrize("wrong", TABLES)
def test_bad_csv(wrong, tmp_path):
    text, message = TABLES[wrong]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=tmp_path / "bad.csv", user="u", item="i", reward="r", time="t")
    assert cache.entries() == []  # nothing half made is kept


def test_the_table_of_bad_csv_begins_with_a_good_one(tmp_path):
    (tmp_path / "good.csv").write_text(GOOD)
    assert datasets.load("table", path=tmp_path / "good.csv", user="u", item="i", reward="r", time="t").n_events == 2


BYTES = {
    "another encoding in a field": (
        "u,i\na,é\n".encode("latin-1"),
        r"must be text in utf-8, got bytes .* line 2, column 'i'",
    ),
    "another encoding in the header": (
        "ü,i\na,x\n".encode("latin-1"),
        "must be text in utf-8, got .*in the header line",
    ),
    "UTF-16": ("u,i\na,x\n".encode("utf-16"), 'must be text in utf-8, .*its first bytes say encoding="utf-16"'),
    "UTF-32": ("u,i\na,x\n".encode("utf-32"), 'must be text in utf-8, .*its first bytes say encoding="utf-32"'),
    "UTF-16 without a mark": ("u,i\na,x\n".encode("utf-16-le"), 'its first bytes say encoding="utf-16-le"'),
    "UTF-16 the other way round": ("u,i\na,x\n".encode("utf-16-be"), 'its first bytes say encoding="utf-16-be"'),
    "binary": (bytes(range(256)) * 100, "must be text in utf-8, got bytes that are not in the header line"),
    "no line end for ever": (b"u" * 1_000_000, r"must have the columns 'u', 'i', got 'u{80}\.\.\.'; name"),
}


@pytest.mark.parametrize("wrong", BYTES)
def test_bad_bytes(wrong, tmp_path):
    content, message = BYTES[wrong]
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=tmp_path / "bad.csv", user="u", item="i")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_encoding_a_message_names_reads_the_file(encoding, tmp_path):
    (tmp_path / "bad.csv").write_bytes("u,i\na,é\n".encode(encoding))
    log = datasets.load("table", path=tmp_path / "bad.csv", user="u", item="i", encoding=encoding)
    assert log.item_ids.tolist() == ["é"]


@pytest.mark.parametrize("options", [{}, {"time": "t"}, {"memory_limit": "50MB"}])
def test_a_header_that_stands_there_again_is_no_event(options, tmp_path):
    (tmp_path / "two.csv").write_text("u,i,t\na,x,1\nu,i,t\nb,y,2\n")  # cat one.csv other.csv
    with pytest.raises(DataError, match=r"got u in line 3 .*that is the header again: remove that line"):
        datasets.load("table", path=tmp_path / "two.csv", user="u", item="i", **options)
    (tmp_path / "one.csv").write_text("u,i,t\na,x,1\nu,y,2\nb,i,2\n")  # somebody is called so, and something
    assert datasets.load("table", path=tmp_path / "one.csv", user="u", item="i").n_events == 3


def test_wrong_encoding_named_by_the_user(tmp_path):
    (tmp_path / "bad.csv").write_bytes("u,i\na,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="must be text in ascii"):
        datasets.load("table", path=tmp_path / "bad.csv", user="u", item="i", encoding="ascii")


def test_bad_labels_and_transforms(tmp_path):
    (tmp_path / "p.csv").write_text(GOOD)
    names = {"path": tmp_path / "p.csv", "user": "u", "item": "i"}
    with pytest.raises(DataError, match=r"every label must have a value, got .*'2'"):
        datasets.load("table", **names, reward="r", transform="label:1=1")
    with pytest.raises(DataError, match=r"a reward transform must be .* got 'stars'"):
        datasets.load("table", **names, reward="r", transform="stars")
    with pytest.raises(DataError, match=r"duplicates must be one of .*, got 'all'"):
        datasets.load("table", **names, duplicates="all")
    with pytest.raises(DataError, match="time_unit must be one of s, ms, us, ns, D, excel, got 'h'"):
        datasets.load("table", **names, time="t", time_unit="h")


def test_propensity_out_of_range(tmp_path):
    (tmp_path / "p.csv").write_text("u,i,p\na,x,0.5\na,y,1.5\n")
    with pytest.raises(DataError, match=r"propensities must be above 0 and at most 1, got 1.5"):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", propensity="p")


def test_duplicate_rows_by_choice(tmp_path):
    (tmp_path / "p.csv").write_text("u,i\na,x\na,x\na,y\n")
    with pytest.raises(DataError, match="each user may meet an item once, got 1 of 3 events that repeat"):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", duplicates="error")


def test_every_row_lacks_something(tmp_path):
    (tmp_path / "p.csv").write_text("u,i\na,\n,x\n")
    with pytest.raises(DataError, match="must hold at least one whole event, got 2 rows that each lack something"):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", missing="drop")


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match=r"a table must be a file, got no such file at .*p\.csv"):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i")


@pytest.mark.parametrize(("name", "content"), [("p.parquet", b"PAR1 half a file"), ("p.csv.gz", b"\x1f\x8b no gzip")])
def test_damaged_parquet_and_gzip(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} must be readable, got"):
        datasets.load("table", path=tmp_path / name, user="u", item="i")


def test_truncated_parquet(tmp_path):
    path = tmp_path / "p.parquet"
    pd.DataFrame({"u": ["a"] * 1000, "i": range(1000)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"p\.parquet must be readable, got"):
        datasets.load("table", path=path, user="u", item="i")


FRAMES = {
    "missing column": ({"u": ["a"], "r": [1], "t": [1]}, "the DataFrame must have the column 'i', got 'u', 'r', 't'"),
    "no row": ({"u": [], "i": [], "r": [], "t": []}, "the DataFrame must hold at least one event, got no row"),
    "text as rating": (
        {"r": ["1", "x"]},
        "column 'r' of the DataFrame must hold numbers, got 'x' in row 1 counted from 0",
    ),
    "rating called nan": ({"r": ["1", "nan"]}, "column 'r' of the DataFrame must hold numbers, got 'nan' in row 1"),
    "NaN rating": (
        {"r": [float("nan"), 1]},
        "column 'r' of the DataFrame must be filled in .* in row 0 counted from 0",
    ),
    "infinite rating": ({"r": [float("inf"), 1]}, "column 'r' of the DataFrame must be finite, got inf in row 0"),
    "date as rating": (
        {"r": pd.to_datetime(["2020-01-01"] * 2)},
        "column 'r' of the DataFrame must hold numbers, got timestamp",
    ),
    "lists as rating": ({"r": [[1], [2]]}, "column 'r' of the DataFrame must hold numbers, got list"),
    "mixed ratings": ({"r": [1, object()]}, "column 'r' of the DataFrame must hold values of one kind"),
    "null id": ({"u": ["a", None]}, "column 'u' of the DataFrame must be filled in .* in row 1"),
    "null among mixed ids": ({"u": [1, None, "b"]}, "column 'u' of the DataFrame must be filled in .* in row 1"),
    "half ids": ({"u": [0.5, 1.0]}, "column 'u' of the DataFrame must hold whole numbers or text as ids, got double"),
    "infinite id": ({"u": [1.0, float("inf")]}, "whole numbers or text as ids, got double with inf in row 1 counted"),
    "ids beyond what floats tell apart": (
        {"u": [1e19, 2e19]},
        r"column 'u' of the DataFrame must hold whole .* got double with 1e\+19 in row 0 .*below 2\*\*53\); convert it",
    ),
    "dates as categories": (
        {"i": pd.Categorical(pd.to_datetime(["2020-01-01"] * 2))},
        "column 'i' of .* must hold whole numbers or text as ids, got timestamp",
    ),
    "NA among mixed ids": ({"u": [1, "b", pd.NA]}, "column 'u' of the DataFrame must be filled in .* in row 2"),
    "dates as ids": (
        {"i": pd.to_datetime(["2020-01-01"] * 2)},
        "column 'i' of .* must hold whole numbers or text as ids",
    ),
    "negative time": (
        {"t": [-1, 5]},
        r"column 't' of the DataFrame must not be before 1970 \(negative\), got -1 in row 0",
    ),
    "NaT": ({"t": pd.to_datetime(["2020-01-01", None])}, "column 't' of the DataFrame must be filled in .* in row 1"),
    "bools as time": ({"t": [True, False]}, "column 't' of the DataFrame must be seconds since 1970 .*, got bool"),
}


@pytest.mark.parametrize("wrong", FRAMES)
def test_bad_dataframe(wrong):
    given, message = FRAMES[wrong]
    length = len(next(iter(given.values())))
    whole = {"u": ["a"] * length, "i": ["x"] * length, "r": [1.0] * length, "t": [1] * length}
    columns = given if wrong in ("missing column", "no row") else {**whole, **given}
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=pd.DataFrame(columns), user="u", item="i", reward="r", time="t")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda frame: None, "a table transform must return a DataFrame, got NoneType from <lambda>"),
        (lambda frame: frame.drop(columns="i"), "what <lambda> returned must have the column 'i', got 'u'"),
        (lambda frame: frame.head(0), "what <lambda> returned must hold at least one event"),
        ("nowhere:clean", "a table transform must be named 'module:function', got 'nowhere:clean': No module"),
        ("json:clean", "a table transform must be named 'module:function', got 'json:clean'"),
        ("clean", "a table transform must be named 'module:function', got 'clean'"),
    ],
)
def test_bad_functions(function, message, tmp_path):
    (tmp_path / "p.csv").write_text("u,i\na,x\n")
    with pytest.raises(DataError, match=message):
        datasets.load("table", path=tmp_path / "p.csv", user="u", item="i", transforms=[function])


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"item": "i"}, "a table needs user= and item=, the names of its columns, got no user"),
        ({"user": "u", "item": "i", "colour": 1}, "options of a table must be among user, item, .*, got colour"),
        ({"user": "u", "item": "i", "missing": "guess"}, "missing must be 'error' or 'drop', got 'guess'"),
        ({"user": "u", "item": "i", "extra": "c"}, "extra must be a list, got 'c'"),
        ({"user": "u", "item": "i", "separator": ""}, "separator must be one character or several, got ''"),
        ({"user": "u", "item": "i", "encoding": "morse"}, "encoding must be one Python knows, got 'morse'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(DataError, match=message):
        datasets.load("table", path="p.csv", **options)


@pytest.mark.parametrize("source", [None, ["p.csv"], {"u": [1]}, 3, pd.Series([1, 2])])
def test_what_is_no_table(source):
    kind = type(source).__name__
    with pytest.raises(DataError, match=f"a table must be the path of a CSV or Parquet file, or .*, got {kind}; pass"):
        datasets.load("table", path=source, user="u", item="i")


def test_columns_of_one_name_in_memory():
    twice = pd.DataFrame([["a", "b", "x"]], columns=["u", "u", "i"])
    with pytest.raises(DataError, match=r"columns of the DataFrame must have different names, got \['u'\] more than"):
        datasets.load("table", path=twice, user="u", item="i")


def test_table_needs_a_path():
    with pytest.raises(DataError, match="a table needs path="):
        datasets.load("table", user="u", item="i")


@pytest.mark.parametrize(
    "option, value, must",
    [
        ("user", None, "text"),
        ("user", ["u"], "text"),
        ("transform", {"a": 1}, "text"),
        ("separator", 5, "text"),
        ("encoding", 5, "text"),
        ("time_format", 5, "text"),
        ("missing_words", 5, "a list"),
        ("extra", 5, "a list"),
        ("names", 5, "a list"),
        ("transforms", 5, "a list"),
        ("transforms", [5], "functions or their names"),
        ("min_events", "3", "a whole number"),
        ("top_items", "x", "a whole number"),
        ("limits", 5, "a dictionary"),
    ],
)
def test_an_option_of_another_type_is_refused(option, value, must, tmp_path):
    (tmp_path / "good.csv").write_text("u,i\na,x\n")
    with pytest.raises(DataError, match=f"^{option} must be {must}, got "):
        datasets.load("table", **({"path": tmp_path / "good.csv", "user": "u", "item": "i"} | {option: value}))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_columns_between_other_separators_are_told_so(separator, tmp_path):
    (tmp_path / "other.csv").write_text("u,i,t\na,x,1\n".replace(",", separator))
    with pytest.raises(DataError, match="or name its separator, which looks like") as raised:
        datasets.load("table", path=tmp_path / "other.csv", user="u", item="i", time="t")
    assert str(raised.value).endswith(repr(separator))
