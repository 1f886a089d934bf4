"""Off-policy estimators against the truth, and as choosers among policies: `python -m benchmarks.run --suite ope`.

Rows of kind `estimate` hold one estimate each, with the truth from independent sessions; rows of kind `selection` say
how well an estimator ranks the policies of one log: Spearman's correlation with the truth, and the regret of taking the
policy it puts first, relative to the best.
"""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import recgym
from agents.baselines import EASE, ItemKNN
from recgym import InteractionLog, RecVectorEnv, ope
from recgym.collection import collect, true_value
from recgym.policies import Popularity, Scorer
from recgym.policy_report import HYPERPARAMETERS, evaluate_policy
from recgym.stochastic import SoftmaxPolicy, StochasticPolicy
from recgym.store import atomic_file

COLUMNS = (
    *("kind", "data", "behaviour", "policy", "estimator", "value", "low", "high", "truth", "relative_error"),
    *("rank_correlation", "regret", "effective", "n", "horizon", "seed", "seconds", "commit", "dirty", "versions"),
)
WORLD: dict[str, Any] = {"n_users": 2000, "n_items": 200}
HORIZONS = (1, 5, 20)
N_SESSIONS = 2000
N_TRUTH = 20_000
Row = dict[str, object]


def run(path: Path, about: Mapping[str, str], seed: int = 0) -> None:
    """Writes the rows of all data to `path`, replacing the file."""
    rows: list[Row] = []
    for horizon in HORIZONS:
        rows += simulated(horizon, seed)
    for campaign in ("men", "women"):
        if (folder := recgym.datasets.sources.data_dir()) and (folder / "obd").is_dir():
            rows += open_bandit(campaign)
        else:
            print(f"obd {campaign}: left out, no obd/ under RECGYM_DATA", flush=True)
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **about, "seed": seed} for row in rows)
    summarise(rows)


def policies(train: InteractionLog) -> dict[str, StochasticPolicy]:
    """Returns what is chosen among: the project's closed-form rankers, each as a policy that explores more or less."""
    scorers: dict[str, Scorer] = {
        "popularity": Popularity.fit(train),
        "item_knn": ItemKNN.fit(train),
        "ease": EASE.fit(train),
    }
    made: dict[str, StochasticPolicy] = {"uniform": SoftmaxPolicy(scorers["popularity"], np.inf)}
    for name, scorer in scorers.items():
        for temperature, epsilon in ((1.0, 0.1), (0.3, 0.05)):
            made[f"{name} {temperature:g}"] = SoftmaxPolicy(scorer, temperature, epsilon, standardise=True)
    return made


def simulated(horizon: int, seed: int) -> list[Row]:
    """Returns the rows of the synthetic world: two behaviour policies, every policy evaluated."""
    train, test = recgym.datasets.load("synthetic", **WORLD).split_users(test_size=0.5, seed=0)
    catalog = recgym.embeddings.svd(train, dim=8)
    env = RecVectorEnv(
        256,
        users=recgym.users.ReplayUsers(test),
        catalog=catalog,
        horizon=horizon,
        action="item",
        observation="history",
        autoreset_mode="SameStep",
    )
    candidates = policies(train)
    truth = {name: float(true_value(policy, env, N_TRUTH, seed).mean()) for name, policy in candidates.items()}
    rows = []
    for behaviour in ("uniform", "popularity 1"):
        log = collect(candidates[behaviour], env, N_SESSIONS, seed)
        found = []
        for name, policy in candidates.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ope.OverlapWarning)
                result = evaluate_policy(log, policy, catalog=catalog)
            seconds = time.perf_counter() - start
            effective = 0.0 if result.diagnosis is None else result.diagnosis.effective
            for estimate in result.estimates:
                value, low, high = estimate.interval
                found.append(
                    {
                        **{"kind": "estimate", "data": "synthetic", "behaviour": behaviour, "policy": name},
                        **{"estimator": estimate.estimator, "value": value, "low": low, "high": high},
                        **{"truth": truth[name], "relative_error": abs(value / truth[name] - 1.0)},
                        **{"effective": effective, "n": log.n_users, "horizon": horizon, "seconds": seconds},
                    }
                )
        rows += found + list(selection(found, truth))
        print(f"synthetic, horizon {horizon}, behaviour {behaviour}: {len(found)} estimates", flush=True)
    return rows


def selection(found: list[Row], truth: Mapping[str, float]) -> Iterator[Row]:
    """Yields one row per estimator: how well it ranks the policies, and what choosing by it costs."""
    values = np.array(list(truth.values()))
    for estimator in dict.fromkeys(str(row["estimator"]) for row in found):
        rows = [row for row in found if row["estimator"] == estimator]
        estimates = np.nan_to_num(np.array([row["value"] for row in rows], dtype=float), nan=-np.inf)
        chosen = int(estimates.argmax())
        yield {
            **{name: rows[0][name] for name in ("data", "behaviour", "estimator", "n", "horizon")},
            **{"kind": "selection", "policy": list(truth)[chosen], "truth": values.max()},
            **{"rank_correlation": float(spearmanr(estimates, values).statistic)},
            **{"regret": float((values.max() - values[chosen]) / values.max())},
        }


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
    truth, beta = float(sampling.rewards.mean()), np.asarray(uniform.propensities)
    estimates = bandit_estimates(uniform.rewards, pi_all[position, uniform.items], beta, fitted.q[:, 0], fitted.v[:, 0])
    effective = ope.effective_samples(ope.importance_weights(pi_all[position, uniform.items], beta))
    rows: list[Row] = []
    for name, values in estimates.items():
        value, low, high = recgym.metrics.mean_interval(values, n_draws=2000)
        rows.append(
            {
                **{"kind": "estimate", "data": f"obd {campaign}", "behaviour": "random", "policy": "bts"},
                **{"estimator": name, "value": value, "low": low, "high": high, "truth": truth, "n": n, "horizon": 1},
                **{"relative_error": abs(value / truth - 1.0), "effective": effective},
            }
        )
    print(f"obd {campaign}: {len(rows)} estimates, truth {truth:.4f}", flush=True)
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
    """Prints, per data set, horizon and estimator, the median relative error, rank correlation and regret."""
    groups = dict.fromkeys((str(row["data"]), row["horizon"], str(row["estimator"])) for row in rows)
    print(f"{'data':12} {'T':>3} {'estimator':20} {'median error':>12} {'rank corr.':>10} {'regret':>8}")
    for data, horizon, estimator in groups:
        here = [r for r in rows if (str(r["data"]), r["horizon"], str(r["estimator"])) == (data, horizon, estimator)]
        names = ("relative_error", "rank_correlation", "regret")
        columns = [np.array([row[name] for row in here if name in row], dtype=float) for name in names]
        error, correlation, regret = (float(np.median(column)) if len(column) else np.nan for column in columns)
        print(f"{data:12} {horizon:>3} {estimator:20} {error:12.1%} {correlation:10.2f} {regret:8.1%}", flush=True)
