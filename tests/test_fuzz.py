"""Damaged files, thousands of them: each is read as a plain reader reads it, or refused in our own words."""

import csv
import io
import os
import random
import re
import signal
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from fakes import as_zip, csv_layout

from recgym.datasets import movielens, sources
from recgym.datasets.tables.options import MISSING_WORDS, make_options
from recgym.datasets.tables.table import read_table
from recgym.errors import RecgymError

COLUMNS = {"user": "u", "item": "i", "reward": "r", "time": "t"}
OPTIONS = {**COLUMNS, "transform": "raw"}
PLACE = re.compile(r"line \d+|row \d+|column|header line|got an empty file|none after the header|byte \d+")
SECONDS = 20


def table():
    one = random.Random(1).randrange
    lines = [
        "u,i,r,t",
        *(",".join([f"ann{one(6)}", str(one(50)), str(one(1, 11) / 2), str(one(10**8))]) for _ in range(40)),
    ]
    return "\n".join(lines).encode() + b"\n"


def mutated(content, numbers):
    """Returns the content after one to three things that happen to files."""
    content = bytearray(content)
    for _ in range(numbers.randrange(1, 4)):
        place = numbers.randrange(len(content) + 1) if content else 0
        length = numbers.choice([1, 2, 5, 50, 400])
        kind = numbers.randrange(8)
        if kind == 0:
            content[place : place + 1] = bytes([numbers.randrange(256)])
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = bytes(numbers.randrange(256) for _ in range(length))
        elif kind == 4:
            content[place:place] = content[place : place + length]
        elif kind == 5:
            content[place:place] = numbers.choice(
                [b",", b"\n", b"\r", b'"', b"\0", b"\xff", b"-", b"e9", b"nan", b"\r\n\r\n", b"1e999", b";"]
            )
        elif kind == 6 and place < len(content):
            content[place] ^= 1 << numbers.randrange(8)
        else:
            content[place : place + length] = bytes(min(length, max(len(content) - place, 0)))
    return bytes(content)


NUMBER = re.compile(r"[ \t]*[+-]?(0|[1-9][0-9]*)(\.0*)?[ \t]*")


class Hung(BaseException):
    pass


def outcome(read):
    """Returns the log, or the message of a refusal; anything else is raised."""

    def hung(*_):
        raise Hung(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    try:
        return read()
    except RecgymError as error:
        return str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def events(log):
    times = log.times if log.times is not None else [0] * log.n_events
    users, items = log.user_ids[log.event_users()].tolist(), log.item_ids[log.items].tolist()
    return Counter(zip(map(str, users), map(str, items), log.rewards.tolist(), map(int, times), strict=True))


def plainly(content):
    """The events of a CSV file as Python's own reader sees them, incomplete ones left out; ids as text."""
    rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row]
    place = [rows[0].index(name) for name in COLUMNS.values()]
    every = [[row[k] for k in place] for row in rows[1:]]
    kept = [row for row in every if not set(row) & set(MISSING_WORDS)]
    for k in (0, 1):  # a column of whole numbers is one, however they are written
        if all(NUMBER.fullmatch(row[k]) for row in every if row[k] not in MISSING_WORDS):
            for row in kept:
                row[k] = str(int(float(row[k])))
    largest = max(abs(float(row[3])) for row in kept)
    scale = next(scale for bound, scale in ((1e17, 10**9), (1e14, 10**6), (1e11, 10**3), (0, 1)) if largest >= bound)
    return Counter((row[0], row[1], float(np.float32(row[2])), int(float(row[3]) // scale)) for row in kept)


def fuzz_csv(path, seed):
    content = mutated(table(), random.Random(seed))
    path.write_bytes(content)
    found = outcome(lambda: read_table(path, make_options({**OPTIONS, "missing": "drop"})))
    if isinstance(found, str):
        assert str(path) in found, found
        assert PLACE.search(found), found
        return "refused"
    if b'"' in content or b"\r" in content.replace(b"\r\n", b"") or b"\0" in content:
        return "read"  # dialects differ
    assert events(found) == plainly(content)
    return "read"


def fuzz_parquet(path, seed, whole):
    good = path.with_name("good.parquet")
    content = mutated(good.read_bytes(), random.Random(seed))
    path.write_bytes(content)
    found = outcome(lambda: read_table(path, make_options(OPTIONS)))
    if isinstance(found, str):
        assert str(path) in found, found
        return "refused"
    assert events(found) == whole, "other events than were written"
    return "read"


def fuzz_zip(path, seed, whole):
    good = path.with_name("good.zip")
    path.write_bytes(mutated(good.read_bytes(), random.Random(seed)))
    published = sources.PUBLISHED["ml-latest-small"]
    found = outcome(lambda: movielens.read_log(published, sources.Files("ml-latest-small", path)))
    if isinstance(found, str):
        assert path.name in found or "ml-latest-small" in found, found
        return "refused"
    assert events(found) == whole, "other events than were written"
    return "read"


def run(kind, folder, seeds):
    if kind == "csv":
        return Counter(fuzz_csv(folder / "bad.csv", seed) for seed in seeds)
    if kind == "parquet":
        pd.read_csv(io.BytesIO(table())).to_parquet(folder / "good.parquet", write_page_checksum=True)
        whole = events(read_table(folder / "good.parquet", make_options(OPTIONS)))
        return Counter(fuzz_parquet(folder / "bad.parquet", seed, whole) for seed in seeds)
    as_zip(folder / "good.zip", csv_layout(), "ml-latest-small")
    whole = events(
        movielens.read_log(sources.PUBLISHED["ml-latest-small"], sources.Files("ml-latest-small", folder / "good.zip"))
    )
    return Counter(fuzz_zip(folder / "bad.zip", seed, whole) for seed in seeds)


@pytest.mark.parametrize("kind", ["csv", "parquet", "zip"])
def test_a_hundred_damaged_files(kind, tmp_path):
    found = run(kind, tmp_path, range(100))
    assert found["refused"] > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "n"), [("csv", 2500), ("parquet", 1250), ("zip", 1250)])
def test_five_thousand_damaged_files(kind, n, tmp_path):
    found = run(kind, tmp_path, range(1000, 1000 + n))
    assert found["refused"] > n // 5
    assert found["read"] > 20
    assert len(os.listdir(tmp_path)) <= 2  # nothing is left behind


def test_the_plain_reader_reads_the_whole_file(tmp_path):
    (tmp_path / "good.csv").write_bytes(table())
    assert events(read_table(tmp_path / "good.csv", make_options(OPTIONS))) == plainly(table())
