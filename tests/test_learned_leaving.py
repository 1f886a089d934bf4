"""Hazards of leaving: what they are fitted on, and that they come out as planted."""

import numpy as np
import pytest
from conftest import make_log

from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.users.fitted.churn import EDGES, Leaving, fit_leaving


def simulated(n_users=3000, longest=40, seed=0):
    """A log in which users leave with probability sigmoid(-3 + 2 r), r the last reward, 0 or 1."""
    random = np.random.default_rng(seed)
    rewards, lengths = [], []
    for _ in range(n_users):
        length = 0
        while length < longest:
            reward = float(random.random() < 0.5)
            rewards.append(reward)
            length += 1
            if random.random() < 1 / (1 + np.exp(3 - 2 * reward)):
                break
        lengths.append(length)
    people = np.repeat(np.arange(n_users), lengths)
    items = np.concatenate([np.arange(length) for length in lengths])
    return InteractionLog.from_events(people, items, rewards, 60 * items, reward_range=(0.0, 1.0)), np.array(lengths)


def test_planted_hazards_are_found():
    log, _ = simulated()
    leaving = fit_leaving(log, "one")
    for place in (1, 3, 8):
        for reward in (0.0, 1.0):
            expected = 1 / (1 + np.exp(3 - 2 * reward))
            assert leaving.chance(place, reward, 0.5) == pytest.approx(expected, abs=0.05)
    assert leaving.weights[0] == pytest.approx(2.0, abs=0.3) and abs(leaving.weights[1]) < 0.3


def test_lengths_come_out_as_they_went_in():
    """Everyone's length is 7 or 12: simulated lengths are so too."""
    lengths = np.tile([7, 12], 400)
    log = make_log(lengths)
    leaving = fit_leaving(log)
    survive = np.cumprod([1 - leaving.chance(place, 0.5, 0.5) for place in range(1, 13)])
    assert survive[5] > 0.95 and survive[6] == pytest.approx(0.5, abs=0.05)
    assert survive[10] == pytest.approx(0.5, abs=0.05) and survive[11] < 0.05


def test_sessions_by_pauses_and_what_is_not_known():
    """Three events, a day's pause, two events: the second session's end is not known, so it is no end."""
    times = np.array([0, 60, 120, 90_000, 90_060])
    log = InteractionLog.from_events(["a"] * 5 * 40, np.tile(range(5), 40), [0, 1] * 100, _in_a_row(times, 40))
    by_pause = fit_leaving(log, "interval", gap_seconds=3600)
    assert by_pause.chance(3, 0.5, 0.5) > 5 * by_pause.chance(1, 0.5, 0.5) and by_pause.sessions == "interval"
    whole = fit_leaving(log, "one")
    assert whole.chance(3, 0.5, 0.5) < 0.05 and whole.sessions == "one"


def _in_a_row(times, n):
    return np.concatenate([times + 180_000 * number for number in range(n)])


def test_a_censored_session_says_nothing_about_its_end():
    """Two sessions of two events each, the second at the end of the log: its end is no end, and no staying either.

    Counting it as staying would halve the hazard after the second event.
    """
    times = np.tile([0, 9, 90_000, 90_009], 200)
    log = InteractionLog.from_events(np.repeat(range(200), 4), np.tile(range(4), 200), [0.0, 1.0] * 400, times)
    leaving = fit_leaving(log, "interval", gap_seconds=3600)
    assert leaving.chance(2, 1.0, 0.5) > 0.9


def test_never():
    leaving = fit_leaving(make_log(), "never")
    assert leaving.chance(np.array([1, 500]), np.zeros(2), np.zeros(2)).tolist() == [0.0, 0.0]
    assert Leaving.from_arrays(leaving.arrays(), "never").chance(3, 1.0, 1.0) == 0


def test_every_place_has_a_group():
    assert EDGES[:64].tolist() == list(range(1, 65)) and (np.diff(EDGES) > 0).all() and EDGES[-1] > 9e5
    leaving = fit_leaving(make_log())
    assert np.isfinite(leaving.chance(np.array([1, 64, 65, 10**9]), 0.0, 0.0)).all()


def test_no_session_that_is_over():
    with pytest.raises(
        DataError, match=r"some session must be known to be over, got none of 6 with gap_seconds=99999; lo"
    ):
        fit_leaving(make_log(), "interval", gap_seconds=99_999)
