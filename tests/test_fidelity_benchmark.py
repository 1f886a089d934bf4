"""The rows of the suite `fidelity`, and what the README makes of them."""

import csv

import numpy as np
import pytest

from benchmarks import fidelity, fidelity_report, report, run
from recgym import InteractionLog
from recgym.fidelity.baselines import Choice, tuned


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("results")
    run.main(["--suite", "fidelity", "--smoke", "--out", str(path)])
    (path / "fidelity-smoke.csv").rename(path / "fidelity.csv")
    return path


def rows_of(folder):
    with open(folder / "fidelity.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_every_measure_of_every_model(folder):
    rows = rows_of(folder)
    assert list(rows[0]) == list(fidelity.COLUMNS)
    found = {(row["model"], row["measure"]): row for row in rows}
    for model in ("mf", "biases", "als"):
        row = found[model, "RMSE of the reward"]
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert 0.5 < float(row["value"]) < 1.5  # stars
    assert float(found["mf", "seconds of fit and report"]["value"]) > float(rows[0]["seconds"])


def test_readme_gets_the_tables(folder):
    text = report.filled("a\n<!-- results:fidelity -->\n<!-- /results:fidelity -->\nb", folder)
    assert "| RMSE (stars) |" in text
    assert "Made by `python -m benchmarks.run --suite fidelity`" in text
    assert text.startswith("a\n<!-- results:fidelity -->\n")


def test_coat_table_has_a_line_per_way_of_fitting():
    shared = {"data": "coat", "fits": "5", "n_users": "290", "protocol": "judged so", "commit": "c", "dirty": "no"}
    rows = [
        {**shared, "model": model, "measure": measure, "value": "0.05", "low": low, "high": low, "validation": known}
        for model, known in (("mf", "0.44"), ("als, doubly robust", ""))
        for measure, low in zip(fidelity_report._COAT, ("0.01", "0.01", "", "0.01", "-0.02", "0.01"), strict=True)
    ]
    text = fidelity_report.tables(rows)
    assert "| mf | 0.050 [0.010, 0.010] | 0.050 [0.010, 0.010] | 0.050 |" in text
    assert "| +5.0% [-2.0%, -2.0%] | +5.0% [+1.0%, +1.0%] | 0.4400 |" in text
    assert text.splitlines()[-1].endswith("|  |")


def test_doubly_robust_fitting_mends_propensities_or_the_guess():
    """Users rate what they like; both corrections know it, plain fitting does not."""
    random = np.random.default_rng(0)
    liked = random.random((100, 40)) < 0.3
    propensity = np.where(liked, 0.8, 0.2)
    who, items = np.nonzero(random.random(liked.shape) < propensity)
    log = InteractionLog.from_events(
        who, items, liked[who, items].astype(float), propensities=propensity[who, items], item_ids=range(40)
    )
    who, items = np.divmod(np.arange(4000), 40)
    world = InteractionLog.from_events(who, items, liked.ravel().astype(float), item_ids=range(40))
    guess = tuned(log, [Choice(0, 4.0)])
    made = fidelity.doubly_robust(log, world, guess, 0)
    assert guess.model.predict(who, items).mean() > 0.5
    assert made.predicted.mean() == pytest.approx(0.3, abs=0.05)
