"""Off-policy estimators against the truth, and as choosers among policies: `python -m benchmarks.run --suite ope`.

Rows of kind `truth` hold what a policy earns, from independent sessions; rows of kind `estimate` hold one estimate
each, beside that truth; rows of kind `selection` say how well an estimator ranks the policies of one log: Spearman's
correlation with the truth, and the regret of taking the policy it puts first, relative to the best.
"""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import recgym
from benchmarks.build import Data, build
from benchmarks.suites import Entry, Suite
from recgym import RecVectorEnv, ope
from recgym.evaluation.collection import collect, true_value
from recgym.evaluation.metrics import Interval, mean_interval
from recgym.evaluation.policies import SoftmaxPolicy, StochasticPolicy
from recgym.ope.choice import HYPERPARAMETERS
from recgym.ope.report import evaluate_policy
from recgym.scorers import Popularity
from recgym.storage.store import atomic_file

COLUMNS = (
    *("kind", "data", "behaviour", "policy", "estimator", "value", "low", "high", "truth", "truth_low", "truth_high"),
    *("relative_error", "rank_correlation", "regret", "effective", "n", "horizon", "seed", "seconds"),
    *("protocol", "commit", "dirty", "versions"),
)
WORLD = Suite(
    name="ope",
    title="Off-policy estimators",
    dataset="synthetic",
    options={"n_users": 2000, "n_items": 200},
    entries=(  # what is chosen among: one line more per agent
        Entry("popularity", "recgym.policies:Popularity"),
        Entry("item_knn", "agents.baselines:ItemKNN"),
        Entry("ease", "agents.baselines:EASE"),
        Entry("ddpg", "agents:DDPG", n_steps=300, later=0.7),
    ),
    test_size=0.5,
    dim=32,
    curve_points=1,
)
SOFTNESS = ((1.0, 0.1), (0.3, 0.05))  # temperature of standardised scores, share of uniform choices
BEHAVIOURS = ("uniform", "popularity 1")
HORIZONS = (1, 5, 20)
N_SESSIONS = 2000
N_TRUTH = 20_000
Row = dict[str, object]


def run(path: Path, about: Mapping[str, str], seed: int = 0, own: Sequence[Entry] = (), *, small: bool = False) -> None:
    """Writes the rows of all data to `path`, replacing the file; `own` entries are among the policies judged."""
    world = replace(WORLD, entries=(*WORLD.entries, *own))
    world = replace(world.smoke(), test_size=WORLD.test_size) if small else world
    sizes = (60, 300) if small else (N_SESSIONS, N_TRUTH)
    data = Data.load(world)
    candidates = policies(data, seed)
    horizons = HORIZONS[:1] if small else HORIZONS
    rows = [row for horizon in horizons for row in simulated(data, candidates, horizon, seed, *sizes)]
    for campaign in () if small else ("men", "women"):
        if (folder := recgym.datasets.sources.data_dir()) and (folder / "obd").is_dir():
            rows += open_bandit(campaign)
        else:
            print(f"obd {campaign}: left out, no obd/ under RECGYM_DATA", flush=True)
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **about, "seed": seed, "protocol": protocol(world, *sizes)} for row in rows)
    summarise(rows)


def protocol(world: Suite, n_sessions: int, n_truth: int) -> str:
    """Returns in words how the simulated rows come about."""
    sizes = ", ".join(f"{name}={value}" for name, value in world.options.items())
    soft = " or ".join(f"temperature {temperature:g} with {epsilon:.0%} uniform" for temperature, epsilon in SOFTNESS)
    return (
        f"{world.dataset}({sizes}): policies fitted on {1 - world.test_size:.0%} of the users, sessions of the others; "
        f"each is a softmax of standardised scores, {soft}; logs of {n_sessions:,} sessions, truth from {n_truth:,} "
        f"others; models know items by 8 SVD directions"
    )


def policies(data: Data, seed: int) -> dict[str, StochasticPolicy]:
    """Returns what is chosen among: the agents of the suite, each as a policy that explores more or less."""
    popularity = Popularity.fit(data.train)
    made: dict[str, StochasticPolicy] = {"uniform": SoftmaxPolicy(popularity, np.inf)}
    for entry in data.suite.entries:
        scorer = build(entry, data, seed, "cpu").scorer
        for temperature, epsilon in SOFTNESS:
            made[f"{entry.name} {temperature:g}"] = SoftmaxPolicy(scorer, temperature, epsilon, standardise=True)
    return made


def simulated(
    data: Data,
    candidates: Mapping[str, StochasticPolicy],
    horizon: int,
    seed: int,
    n_sessions: int,
    n_truth: int,
) -> Iterator[Row]:
    """Yields the rows of the synthetic world: two behaviour policies, every policy evaluated."""
    catalog = recgym.embeddings.svd(data.train, dim=8)
    env = RecVectorEnv(
        256,
        users=recgym.users.ReplayUsers(data.test, data.suite.frame_size),
        catalog=catalog,
        frame_size=data.suite.frame_size,
        horizon=horizon,
        action="item",
        observation="history",
        autoreset_mode="SameStep",
    )
    place = {"data": data.suite.dataset, "horizon": horizon}
    truth = {}
    for name, policy in candidates.items():
        truth[name] = mean_interval(true_value(policy, env, n_truth, seed), n_draws=1000)
        yield {**place, "kind": "truth", "policy": name, "n": n_truth, **_ends(truth[name])}
    for behaviour in BEHAVIOURS:
        log = collect(candidates[behaviour], env, n_sessions, seed)
        found: list[Row] = []
        for name, policy in candidates.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ope.OverlapWarning)
                result = evaluate_policy(log, policy, catalog=catalog)
            what = {**place, "behaviour": behaviour, "policy": name, "n": log.n_users}
            what |= {"effective": 0.0 if result.diagnosis is None else result.diagnosis.effective}
            what |= {"seconds": time.perf_counter() - start}
            found += [{**what, **_judged(row.estimator, row.interval, truth[name])} for row in result.estimates]
        yield from found
        yield from selection(found, {name: interval.mean for name, interval in truth.items()})
        print(f"synthetic, horizon {horizon}, behaviour {behaviour}: {len(found)} estimates", flush=True)


def _ends(interval: Interval) -> Row:
    return dict(zip(("value", "low", "high"), interval, strict=True))


def _judged(estimator: str, found: Interval, truth: Interval) -> Row:
    return {
        **{"kind": "estimate", "estimator": estimator, **_ends(found)},
        **{"truth": truth.mean, "truth_low": truth.low, "truth_high": truth.high},
        **{"relative_error": abs(found.mean / truth.mean - 1.0)},
    }


def selection(found: list[Row], truth: Mapping[str, float]) -> Iterator[Row]:
    """Yields one row per estimator: how well it ranks the policies, and what choosing by it costs.

    Two floors stand beside them: a policy drawn at random, and always the first popularity policy.
    """
    values = np.array(list(truth.values()))
    shared = {name: found[0][name] for name in ("data", "behaviour", "n", "horizon")} | {"kind": "selection"}
    for estimator in dict.fromkeys(str(row["estimator"]) for row in found):
        rows = [row for row in found if row["estimator"] == estimator]
        estimates = np.nan_to_num(np.array([row["value"] for row in rows], dtype=float), nan=-np.inf)
        chosen = int(estimates.argmax())
        yield {
            **{**shared, "estimator": estimator, "policy": list(truth)[chosen], "truth": values.max()},
            **{"rank_correlation": float(spearmanr(estimates, values).statistic)},
            **{"regret": float((values.max() - values[chosen]) / values.max())},
        }
    floors = {"(any policy at random)": float(values.mean())}
    if BEHAVIOURS[1] in truth:
        floors["(always popularity)"] = truth[BEHAVIOURS[1]]
    for name, value in floors.items():
        regret = float((values.max() - value) / values.max())
        yield {**shared, "estimator": name, "truth": values.max(), "rank_correlation": 0.0, "regret": regret}


def open_bandit(campaign: str) -> list[Row]:
    """Returns the rows of the Open Bandit sample: Thompson sampling evaluated on the random log, truth from its own.

    The evaluated policy is the share of each item at each position in its own log; the truth is that log's click rate.
    """
    uniform, sampling = (recgym.datasets.load("obd", campaign=campaign, policy=name) for name in ("random", "bts"))
    n, n_items, position = uniform.n_events, uniform.n_items, uniform.extra["position"]
    shown = np.zeros((3, n_items))
    np.add.at(shown, (sampling.extra["position"], sampling.items), 1.0)
    pi_all = shown / shown.sum(axis=1, keepdims=True)  # (3, n_items)
    places, flags = np.eye(3), np.eye(n_items)
    fitted = ope.fitted_q(
        uniform.rewards[:, None],
        np.concatenate([places[position], flags[uniform.items]], axis=1)[:, None],
        np.concatenate([places[position], pi_all[position]], axis=1)[:, None],
        np.ones(n, dtype=int),
        reward_range=(0.0, 1.0),
        ridge=100.0,
        n_folds=3,
    )
    truth, beta = mean_interval(sampling.rewards, n_draws=2000), np.asarray(uniform.propensities)
    pi = pi_all[position, uniform.items]
    what = {"data": f"obd {campaign}", "behaviour": "random", "policy": "bts", "n": n, "horizon": 1}
    what["effective"] = ope.effective_samples(ope.importance_weights(pi, beta))
    estimates = bandit_estimates(uniform.rewards, pi, beta, fitted.q[:, 0], fitted.v[:, 0])
    rows: list[Row] = [
        {**what, **_judged(name, mean_interval(values, n_draws=2000), truth)} for name, values in estimates.items()
    ]
    logged = mean_interval(uniform.rewards, n_draws=2000)
    for policy, interval in (("uniform", logged), ("bts", truth)):
        rows.append({**what, "kind": "truth", "policy": policy, "behaviour": "", "effective": "", **_ends(interval)})
    print(f"obd {campaign}: {len(estimates)} estimates, truth {truth}", flush=True)
    return rows


def bandit_estimates(
    reward: np.ndarray, pi: np.ndarray, beta: np.ndarray, q: np.ndarray, v: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the values of every estimator for one decision a session, parameters chosen by `slope`."""
    tuned = {
        "clipped_ips": [ope.clipped_ips(reward, pi, beta, clip) for clip in HYPERPARAMETERS],
        "switch_dr": [ope.switch_dr(reward, pi, beta, q, v, above) for above in HYPERPARAMETERS],
        "dr_os": [ope.dr_os(reward, pi, beta, q, v, shrinkage) for shrinkage in HYPERPARAMETERS],
    }
    return {
        "direct": ope.direct(v),
        "ips": ope.ips(reward, pi, beta),
        "snips": ope.snips(reward, pi, beta),
        "doubly_robust": ope.doubly_robust(reward, pi, beta, q, v),
        "sndr": ope.sndr(reward, pi, beta, q, v),
        **{name: values[ope.slope(values)] for name, values in tuned.items()},
    }


def summarise(rows: list[Row]) -> None:
    """Prints the tables that the page shows."""
    from benchmarks.ope_report import tables

    print(tables([{name: str(value) for name, value in row.items()} for row in rows]), flush=True)
