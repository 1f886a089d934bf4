"""Paired differences are matched by person: an order is no pairing, and a missing person is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import run
from recgym.errors import DataError
from recgym.evaluation.evaluate import SessionReturns
from recgym.evaluation.metrics import paired_difference

GAIN = 0.25 + np.linspace(0.0, 0.1, 30)
BASE = np.arange(30.0)[::-1] ** 1.5  # differs far more between people than the two sides do


def compared(monkeypatch, ours, theirs):
    found = []
    results = SimpleNamespace(
        finished=lambda: {"a", "b"},
        units=lambda name, seed, metric: {"a": ours, "b": theirs}[name],
        put=found.extend,
    )
    monkeypatch.setattr(run, "run_key", lambda suite, entry, seed, data: entry)
    monkeypatch.setattr(run, "_row", lambda about, data, metric, interval, n, unit: (interval, n, unit))
    suite = SimpleNamespace(entry=lambda name: name, pair_metrics=("ndcg@10",))
    run.compare("a", "b", SimpleNamespace(suite=suite, hash="h"), results, 0, False)
    return found


def test_rows_are_matched_by_person_whatever_their_order(monkeypatch):
    ours = {f"p{i}": BASE[i] + GAIN[i] for i in range(30)}
    theirs = {f"p{i}": BASE[i] for i in np.random.default_rng(0).permutation(30)}
    assert list(ours) != list(theirs)
    ((interval, n, unit),) = compared(monkeypatch, ours, theirs)
    assert (n, unit) == (30, "pairs") and interval == pytest.approx(paired_difference(BASE + GAIN, BASE))
    assert interval.high - interval.low < 0.03  # by place it would be wider than 10
    del theirs["p3"]
    with pytest.raises(SystemExit, match="a and b must have ndcg@10 of the same users, got 30 and 29; run both"):
        compared(monkeypatch, ours, theirs)


def test_evaluations_of_other_people_or_another_order_are_refused():
    def of(values, users):
        return SessionReturns({"session_return": values}, {}, users, "sessions")

    users = np.arange(30)
    difference = of(BASE + GAIN, users).difference(of(BASE, users), "session_return")
    assert difference.mean == pytest.approx(GAIN.mean())
    for kept in (users[::-1], users[:-1]):
        with pytest.raises(DataError, match="a paired difference needs the same units under the same protocol, got 30"):
            of(BASE + GAIN, users).difference(of(BASE[kept], kept), "session_return")
