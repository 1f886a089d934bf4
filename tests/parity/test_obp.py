"""Our estimates equal those that obp 0.5.7 gave for the same inputs (recorded by record_obp.py).

Two differences, neither in an estimate: obp's self-normalised estimators return w r / mean(w) per decision, ours are
linearised (the same mean, another spread); and obp's `SLOPE` sorts the list of candidates it is given.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import recgym
from recgym import ope

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "obp.json").read_text())
LAMBDAS = [float(value) for value in RECORDED["about"]["lambdas"]]
OBD = Path(os.environ.get("RECGYM_DATA", "")) / "obd"
needs_obd = pytest.mark.skipif(not (OBD / "random").is_dir(), reason="needs obd/ under RECGYM_DATA")


@pytest.fixture(scope="module")
def arrays():
    with np.load(HERE / "obp.npz") as stored:
        return {name: stored[name].astype(np.float64) for name in stored}


def our_values(reward, pi, beta, q, v):
    tuned = candidates(reward, pi, beta, q, v)
    values = {
        "direct": ope.direct(v),
        "ips": ope.ips(reward, pi, beta),
        "clipped_ips 2": ope.clipped_ips(reward, pi, beta, 2.0),
        "clipped_ips 10": ope.clipped_ips(reward, pi, beta, 10.0),
        "snips": ope.snips(reward, pi, beta),
        "doubly_robust": ope.doubly_robust(reward, pi, beta, q, v),
        "sndr": ope.sndr(reward, pi, beta, q, v),
        "switch_dr 2": ope.switch_dr(reward, pi, beta, q, v, 2.0),
        "switch_dr 10": ope.switch_dr(reward, pi, beta, q, v, 10.0),
        "dr_os 2": ope.dr_os(reward, pi, beta, q, v, 2.0),
        "dr_os 50": ope.dr_os(reward, pi, beta, q, v, 50.0),
    }
    return values | {f"{name} slope": of_name[ope.slope(of_name)] for name, of_name in tuned.items()}


def candidates(reward, pi, beta, q, v):
    return {
        "clipped_ips": [ope.clipped_ips(reward, pi, beta, value) for value in LAMBDAS],
        "switch_dr": [ope.switch_dr(reward, pi, beta, q, v, value) for value in LAMBDAS],
        "dr_os": [ope.dr_os(reward, pi, beta, q, v, value) for value in LAMBDAS],
    }


def check(recorded, reward, pi, beta, q, v):
    ours = {name: float(values.mean()) for name, values in our_values(reward, pi, beta, q, v).items()}
    assert set(ours) == set(recorded["values"])
    assert ours == pytest.approx(recorded["values"], abs=1e-6)
    chosen = {name: ope.slope(of_name) for name, of_name in candidates(reward, pi, beta, q, v).items()}
    assert chosen == recorded["slope"]
    values = ope.ips(reward, pi, beta)
    interval = ope.bernstein_interval(values, (0.0, float(values.max())), confidence=0.9)
    assert interval.low == pytest.approx(recorded["bernstein low, 90 %"], abs=1e-6)


def test_synthetic_bandit(arrays):
    check(RECORDED["synthetic"], *(arrays[name] for name in ("reward", "pi", "beta", "q", "v")))


@needs_obd
@pytest.mark.parametrize("campaign", ["men", "women"])
def test_open_bandit(arrays, campaign):
    recorded = RECORDED["open bandit"][campaign]
    log = recgym.datasets.load("obd", campaign=campaign, policy="random")
    position, pi, q = log.extra["position"], arrays[f"pi {campaign}"], arrays[f"q {campaign}"]
    assert log.n_events == recorded["n"]
    v = ope.expected(pi.T, q.T)[position]
    check(recorded, log.rewards, pi[log.items, position], log.propensities, q[log.items, position], v)
    behaved = recgym.datasets.load("obd", campaign=campaign, policy="bts")
    assert float(behaved.rewards.mean()) == pytest.approx(recorded["on policy"], abs=1e-6)


def test_slates(arrays):
    def both(name):
        return arrays[f"slate pi {name}"], arrays[f"slate beta {name}"]

    def conditional(cumulated):
        return np.column_stack([cumulated[:, 0], cumulated[:, 1:] / cumulated[:, :-1]])

    rewards, q, v = (arrays[f"slate {name}"] for name in ("reward", "q", "v"))
    joint = [column[:, 0] for column in both("pscore")]
    given = [conditional(column) for column in both("pscore_cascade")]
    ours = {
        "slate_ips": ope.slate_ips(rewards, *joint),
        "independent_ips": ope.independent_ips(rewards, *both("pscore_item_position")),
        "reward_interaction_ips": ope.reward_interaction_ips(rewards, *given),
        "sn_trajectory_is": ope.sn_trajectory_is(rewards, *given),
        "sn_per_decision_is": ope.sn_per_decision_is(rewards, *given),
        "sequential_dr": ope.sequential_dr(rewards, *given, q, v),
    }
    means = {name: float(values.mean()) for name, values in ours.items()}
    assert means == pytest.approx(RECORDED["slate"]["values"], abs=1e-6)
    assert ope.per_decision_is(rewards, *given).mean() == pytest.approx(means["reward_interaction_ips"])
    assert ope.trajectory_is(rewards, *given).mean() == pytest.approx(means["slate_ips"])


def test_a_changed_input_is_seen(arrays):
    reward, pi, beta, q, v = (arrays[name] for name in ("reward", "pi", "beta", "q", "v"))
    with pytest.raises(AssertionError):
        check(RECORDED["synthetic"], reward, pi, beta, q + 1e-3, v)
