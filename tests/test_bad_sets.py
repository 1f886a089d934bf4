"""The table of bad published sets, zips and caches: each refusal names file, place and remedy."""

import io
import zipfile

import pytest
from fakes import LAYOUTS, as_folder, as_zip

from recgym import datasets
from recgym.errors import DataError, HashMismatchError, MissingDataError, StoreError


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path / "data"))
    datasets._opened.cache_clear()
    return tmp_path / "data"


# -- MovieLens ---------------------------------------------------------------------------------------------------------

LINES = {  # set, file, line that is appended -> message
    ("ml-20m", "ratings.csv", "1,2,good,5"): "column 'rating' of .*ratings.csv must hold numbers, got 'good' in line 8",
    (
        "ml-20m",
        "ratings.csv",
        "1,2,nan,5",
    ): r"column 'rating' of .* must lie between 0.5 and 5.0, got nan in line 8 \(1 of 7",
    ("ml-20m", "ratings.csv", "1,2,inf,5"): "column 'rating' of .* must lie between 0.5 and 5.0, got inf in line 8",
    ("ml-20m", "ratings.csv", "1,2,0.0,5"): "column 'rating' of .* must lie between 0.5 and 5.0, got 0.0 in line 8",
    ("ml-20m", "ratings.csv", "1,2,,5"): "column 'rating' of .* must be filled in, got nothing in line 8",
    ("ml-20m", "ratings.csv", ",2,4.0,5"): "column 'userId' of .* must be filled in, got nothing in line 8",
    ("ml-20m", "ratings.csv", "1,two,4.0,5"): "column 'movieId' of .* must hold whole numbers, got 'two' in line 8",
    ("ml-20m", "ratings.csv", "1,2,4.0,-5"): "column 'timestamp' of .* must not be negative, got -5 in line 8",
    (
        "ml-20m",
        "ratings.csv",
        "1,2,4.0",
    ): "every line of .*ratings.csv must have 4 fields, got 3 in line 8; .*cut short",
    (
        "ml-20m",
        "movies.csv",
        "9,A title, unquoted (1990),Drama",
    ): "every line of .*movies.csv must have 3 fields, got 4 in line 7",
    ("ml-1m", "ratings.dat", "1::2::x::5"): "column 'rating' of .*ratings.dat must hold numbers, got 'x' in line 5",
    ("ml-1m", "ratings.dat", "1::2::4"): "every line of .*ratings.dat must have 7 fields, got 5 in line 5",
    ("ml-1m", "ratings.dat", "1:7:2::4::5"): "ratings.dat must keep its published layout, got '7' in line 5",
    ("ml-1m", "ratings.dat", "1::2::6::5"): "column 'rating' of .* must lie between 1.0 and 5.0, got 6.0 in line 5",
    (
        "ml-1m",
        "movies.dat",
        "9::Title only",
    ): "every line of .*movies.dat must have 3 fields, .*, got '9::Title only' in line 4",
    (
        "ml-1m",
        "users.dat",
        "3::M::old::1::1",
    ): "every line of .*users.dat must have 5 fields, with whole numbers in fields",
    ("ml-100k", "u.data", "1\t2\tx\t5"): "column 'rating' of .*u.data must hold numbers, got 'x' in line 4",
    ("ml-100k", "u.data", "1\t302\t3\t5"): r"u.user must describe every user, got no line for 1 of 3, e.g. \[1\]",
    ("ml-100k", "u.item", "9|T|||u|0|1"): "every line of .*u.item must have 24 fields, .*, got .* in line 3",
}


@pytest.mark.parametrize("place", ["folder", "zip"])
@pytest.mark.parametrize("wrong", LINES, ids=lambda wrong: " ".join(wrong[1:]))
def test_bad_line_in_a_published_set(wrong, place, data):
    name, file, line = wrong
    files = LAYOUTS[name]()
    files[file] += line.encode() + b"\n"
    if place == "folder":
        as_folder(data / name, files)
    else:
        as_zip(data / f"{name}.zip", files, name)
    with pytest.raises(DataError, match=LINES[wrong]):
        datasets.load(name)


@pytest.mark.parametrize(
    "content", [b"", b"userId,movieId,rating,timestamp\n", b"userId,movieId,stars,timestamp\n1,1,1,1\n"]
)
def test_empty_or_foreign_ratings(content, data):
    as_folder(data / "ml-20m", {"ratings.csv": content})
    with pytest.raises(DataError, match=r"ratings\.csv must h"):
        datasets.load("ml-20m")


def test_half_written_ratings(data):
    files = LAYOUTS["ml-20m"]()
    as_folder(data / "ml-20m", {"ratings.csv": files["ratings.csv"][:-14]})
    with pytest.raises(DataError, match="in line 7"):
        datasets.load("ml-20m")


def test_missing_set_names_file_folder_and_alternative(data):
    with pytest.raises(MissingDataError) as caught:
        datasets.load("ml-20m")
    for part in (
        "ml-20m/ratings.csv",
        "ml-20m.zip",
        f"RECGYM_DATA={data}",
        "python -m recgym fetch ml-20m",
        "198.7 MB",
        "'synthetic'",
    ):
        assert part in str(caught.value)


def test_missing_set_without_a_data_folder(monkeypatch):
    monkeypatch.delenv("RECGYM_DATA")
    with pytest.raises(MissingDataError, match=r"RECGYM_DATA names \(it is not set\)"):
        datasets.load("ml-1m")


# -- zips --------------------------------------------------------------------------------------------------------------


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        rows = "".join(f"1,{movie},4.0,{movie * 7919 % 65537}\n" for movie in range(1, 20_000))
        archive.writestr("ml-20m/ratings.csv", "userId,movieId,rating,timestamp\n" + rows)
    return content.getvalue()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


ZIPS = {
    "truncated": (lambda: zipped()[:-500], r"ml-20m\.zip must be a whole zip archive, got BadZipFile"),
    "empty": (lambda: b"", "must be a whole zip archive, got BadZipFile"),
    "a web page": (
        lambda: b"<html>404 not found</html>",
        "must be a whole zip archive, got BadZipFile: File is not a zip",
    ),
    "a flipped byte": (lambda: flipped(zipped(), 30_000), r"must be a whole zip archive, got (BadZipFile|error)"),
}


@pytest.mark.parametrize("wrong", ZIPS)
def test_bad_zip(wrong, data):
    make, message = ZIPS[wrong]
    data.mkdir()
    (data / "ml-20m.zip").write_bytes(make())
    with pytest.raises(DataError, match=message):
        datasets.load("ml-20m")


def test_the_table_of_bad_zips_begins_with_a_good_one(data):
    data.mkdir()
    (data / "ml-20m.zip").write_bytes(zipped())
    assert datasets.load("ml-20m").n_events == 19_999


def test_zip_without_the_ratings(data):
    as_zip(data / "ml-20m.zip", {"movies.csv": b"movieId,title,genres\n"}, "ml-20m")
    with pytest.raises(MissingDataError, match=r"ml-20m must hold ratings\.csv, got no such member in .*ml-20m\.zip"):
        datasets.load("ml-20m")


def test_zip_that_unpacks_beyond_reason(data):
    as_zip(data / "ml-20m.zip", {"ratings.csv": b"0" * 20_000_000}, "ml-20m")
    with pytest.raises(DataError, match="must unpack to at most 200 times its size, got 20,000,000 bytes"):
        datasets.load("ml-20m")


def test_wrong_hash_of_a_zip_already_there(tmp_path):
    as_zip(tmp_path / "cache" / "downloads" / "ml-100k.zip", LAYOUTS["ml-100k"](), "ml-100k")
    with pytest.raises(HashMismatchError, match=r"ml-100k\.zip must have MD5 0e33842e24a9c977be4e0107933c0723, got"):
        datasets.fetch("ml-100k")


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_no_write_permission_in_the_cache(data, tmp_path):
    as_folder(data / "ml-20m", LAYOUTS["ml-20m"]())
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"cache/entries must be a folder one can write to, got .*set RECGYM_CACHE"):
        datasets.load("ml-20m")
