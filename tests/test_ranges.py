"""Ranges of a sweep, and what its commands say where something is missing."""

import sys

import numpy as np
import pytest

from benchmarks.ranges import drawn, read_ranges
from recgym.__main__ import main
from recgym.errors import DataError

GOOD = """
lr = {low = 1e-4, high = 1e-2, log = true}
dropout = {low = 0.0, high = 0.5}
layers = {low = 1, high = 3, whole = true}
hidden = [64, 128]
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "ranges.toml").write_text(text)
        return tmp_path / "ranges.toml"

    return write


def test_settings_are_drawn_from_the_whole_of_their_ranges_by_number(written):
    ranges = read_ranges(written(GOOD))
    found = [drawn(ranges, 3, trial) for trial in range(400)]
    assert found[7] == drawn(dict(reversed(ranges.items())), 3, 7) != drawn(ranges, 4, 7)
    values = {name: np.array([one[name] for one in found]) for name in ranges}
    assert set(values["layers"]) == {1, 2, 3} and set(values["hidden"]) == {64, 128}
    assert 0.0 <= values["dropout"].min() < 0.02 and 0.48 < values["dropout"].max() <= 0.5
    assert 0.4 < np.mean(values["lr"] < 1e-3) < 0.6 and values["lr"].min() >= 1e-4 and values["lr"].max() <= 1e-2
    assert {type(one["layers"]) for one in found} == {int}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name what is varied, got nothing"),
        ("lr = ", "must be a TOML file of ranges"),
        ("lr = 3", "a range must be a list or have low, high"),
        ("lr = []", "a range must be a list or have low, high"),
        ("lr = {low = 1, high = 2, step = 1}", "a range must be a list or have low, high"),
        ("lr = {low = 2, high = 1}", "a range must go from a lower number to a higher one"),
        ("lr = {low = 0, high = 1, log = true}", "above 0 where it is logarithmic"),
        ('lr = {low = "a", high = 1}', "a range must go from a lower number to a higher one"),
    ],
)
def test_what_is_no_range_is_refused(written, text, message):
    with pytest.raises(DataError, match=message):
        read_ranges(written(text))


def test_without_ray_the_command_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", "--suite", "quickstart"]) == 1
    assert 'recgym sweep needs Ray, got no such module; pip install "recgym[ray]"' in capsys.readouterr().err
