"""The generated log has the shape of MovieLens-20M, is the same every time, and takes bounded memory."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from recgym import datasets
from recgym.__main__ import main
from recgym.datasets import generator
from recgym.errors import DataError


def test_full_shape():
    shaped = generator.shape(generator.ML20M_ROWS)
    lengths = shaped.lengths
    assert (len(lengths), int(lengths.sum()), len(shaped.item_ids)) == (138_493, 20_000_263, 26_744)
    assert (lengths.min(), lengths.max()) == (20, 9_254)
    assert 60 <= np.median(lengths) <= 76  # 68 in the original
    assert (shaped.item_ids.min() >= 1, shaped.item_ids.max()) == (True, 131_262)
    assert len(np.unique(shaped.item_ids)) == 26_744
    share = np.diff(shaped.popularity, prepend=0.0)
    assert 0.002 < share[0] < 0.005  # 67,310 of 20,000,263 in the original
    assert share[: 26_744 // 100].sum() > 0.3  # a hundredth of the items has a third of the events


@pytest.mark.parametrize("rows", [2_000, 5_000, 300_000])
def test_events(rows, monkeypatch):
    monkeypatch.setattr(generator, "_CHUNK", 20_000)
    parts = list(generator.chunks(rows))
    events = pd.DataFrame(
        {name: np.concatenate([getattr(part, name) for part in parts]) for name in generator.Events._fields}
    )
    shaped = generator.shape(rows)
    assert len(events) == rows
    assert not events.duplicated(["users", "items"]).any()
    assert set(events["items"]) == set(shaped.item_ids.tolist())  # every item is met
    np.testing.assert_array_equal(np.bincount(events["users"])[1:], shaped.lengths)
    assert shaped.lengths.min() >= 20
    assert events[["users", "items"]].equals(events[["users", "items"]].sort_values(["users", "items"]))
    assert events["halves"].between(1, 10).all()
    assert events["times"].between(789_652_009, 1_427_784_002).all()


def test_ratings_follow_the_histogram_and_popular_items_are_popular():
    events = next(generator.chunks(1_000_000))
    share = np.bincount(events.halves, minlength=11)[1:] / len(events.halves)
    expected = generator._STARS / generator._STARS.sum()
    assert np.abs(share - expected).max() < 0.003
    counts = np.bincount(events.items, minlength=131_263)
    shaped = generator.shape(1_000_000)
    assert counts[shaped.item_ids[:100]].sum() > 20 * counts[shaped.item_ids[5_000:5_100]].sum()


def test_chunks_do_not_change_the_events(monkeypatch):
    whole = np.concatenate([part.items for part in generator.chunks(20_000)])
    monkeypatch.setattr(generator, "_CHUNK", 3_000)
    parts = list(generator.chunks(20_000))
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate([part.items for part in parts]), whole)


def test_same_seed_same_file_and_both_formats_agree(tmp_path):
    one, two, other = (
        generator.generate(tmp_path / f"{name}.csv", 5_000, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    digest = hashlib.sha256(one.read_bytes()).hexdigest()
    assert digest.startswith("95154b2efec126c1"), digest  # a new stream of numbers would be another log
    lines = one.read_text().splitlines()
    assert lines[0] == "userId,movieId,rating,timestamp"
    assert lines[1].count(",") == 3
    parquet = generator.generate(tmp_path / "a.parquet", 5_000)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), pd.read_csv(one), check_dtype=False)


def test_command_line_and_loading(tmp_path, capsys):
    path = tmp_path / "ml-20m" / "ratings.csv"
    assert main(["generate", str(path), "--rows", "3000"]) == 0
    assert "3,000 rows" in capsys.readouterr().out
    log = datasets.load("table", path=path, user="userId", item="movieId", reward="rating", time="timestamp")
    assert log.n_events == 3000
    assert log.lengths.min() >= 20


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows must be at least 2000, got 10; .*use 'synthetic'"):
        generator.generate(tmp_path / "r.csv", 10)
    assert os.listdir(tmp_path) == []


PEAK = """
import re, sys
from recgym.datasets import generator
for events in generator.chunks(int(sys.argv[1])):
    pass
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1000)
"""


def test_memory_does_not_grow_with_the_rows():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", PEAK, str(rows)],
                env={**os.environ, "PYTHONPATH": root},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for rows in (1_500_000, 6_000_000)
    ]
    assert peaks[1] < peaks[0] + 60
