"""Agents from outside: a class with five methods, a ranker, a function; none of our files is touched for them."""

import copy
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import recgym
from agents.base import Agent
from benchmarks import run
from benchmarks.build import Data, Function, build, is_agent
from benchmarks.suites import SUITES, Entry
from benchmarks.template_agent import MyAgent
from recgym.errors import DataError

TEMPLATE = Path(run.__file__).parent / "template_agent.py"
OWN = """
import numpy as np

def alike(history, catalog):
    return catalog.table[history.items[:, -1]] @ catalog.embeddings.T

def numbered(history, reverse=True):
    order = np.arange(60.0)
    return np.broadcast_to(-order if reverse else order, (len(history.items), 60))

class Made:
    def __init__(self, n_items):
        self.item_ids, self.reward = np.arange(n_items), "scaled"
    def scores(self, history):
        return np.ones((len(history.items), len(self.item_ids)))

made = Made(60)

def scorer_of(log, seed):
    return Popular(log)

class Popular:
    def __init__(self, log):
        self.item_ids, self.reward = log.item_ids, log.reward
        self.counts = np.bincount(log.items, minlength=log.n_items)
    @classmethod
    def fit(cls, log):
        return cls(log)
    def scores(self, history):
        return np.broadcast_to(self.counts, (len(history.items), len(self.counts)))

class Half:
    def update(self, batch):
        return {}
    def scores(self, history):
        return None
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with somebody's package in it: a copy of the template, and rankers of other kinds."""
    package = tmp_path / "their_package"
    package.mkdir()
    shutil.copy(TEMPLATE, package / "mine.py")
    (package / "own.py").write_text(OWN)
    (package / "broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("RECGYM_DATA", raising=False)
    return tmp_path


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_an_agent_and_a_function_in_every_suite(suite, elsewhere):
    names = ["their_package.mine:MyAgent", "their_package.own:alike"]
    chosen = [part for name in names for part in ("--agent", name)]
    run.main(["--suite", suite, "--smoke", *chosen, "--device", "cpu", "--out", str(elsewhere / "out")])
    rows = rows_of(elsewhere / "out" / f"{suite}-smoke.csv")
    assert {(row["agent"], row["n_steps"]) for row in rows} == {(names[0], "3"), (names[1], "0")}
    assert {row["metric"] for row in rows} == set(SUITES[suite].metrics)


def test_an_agent_among_the_policies_that_estimators_choose_from(elsewhere):
    names = ["their_package.mine:MyAgent", "their_package.own:alike"]
    chosen = [part for name in names for part in ("--agent", name)]
    run.main(["--suite", "ope", "--smoke", *chosen, "--out", str(elsewhere / "out")])
    judged = {row["policy"] for row in rows_of(elsewhere / "out" / "ope-smoke.csv") if row["kind"] == "estimate"}
    assert {f"{name} {temperature:g}" for name in names for temperature in (1.0, 0.3)} <= judged


def test_rankers_of_every_kind_in_the_protocols_of_ranking(elsewhere):
    names = [f"their_package.own:{name}" for name in ("alike", "Popular", "scorer_of")]
    chosen = [part for name in names for part in ("--agent", name)]
    run.main(["--suite", "quality", "--smoke", "--protocol", "Q1", *chosen, "--out", str(elsewhere / "out")])
    assert [row["agent"] for row in rows_of(elsewhere / "out" / "quality-smoke" / "quality_q1.csv")] == names


def test_who_does_not_learn_is_left_out_where_agents_learn_online(elsewhere, capsys):
    chosen = ["--agent", "their_package.own:alike", "--out", str(elsewhere / "out")]
    run.main(["--suite", "quality", "--smoke", "--protocol", "Q5", *chosen])
    assert "their_package.own:alike is left out: who learns in these worlds must be an agent" in capsys.readouterr().out
    assert not (elsewhere / "out" / "quality-smoke" / "quality_q5.csv").exists()


def test_a_suite_without_agents_refuses_one(elsewhere, capsys):
    with pytest.raises(SystemExit):
        run.main(["--suite", "fidelity", "--smoke", "--agent", "their_package.mine:MyAgent", "--out", str(elsewhere)])
    assert "--agent is for suites that judge agents, got it with fidelity" in capsys.readouterr().err


def test_it_stands_beside_the_rows_of_the_suite(elsewhere):
    config = ["--config", '{"lr": 0.02}', "--steps", "2"]
    chosen = ["--rows", "popularity", "--agent", "their_package.mine:MyAgent"]
    run.main(["--suite", "quickstart", "--smoke", *chosen, *config, "--out", str(elsewhere)])
    rows = rows_of(elsewhere / "quickstart-smoke.csv")
    assert [row["agent"] for row in rows[:: len(SUITES["quickstart"].metrics)]] == ["popularity", chosen[-1]]
    assert rows[-1]["config"] == '{"lr": 0.02}'


def test_smoke_keeps_every_row_and_touches_no_results():
    for suite in SUITES.values():
        small = suite.smoke()
        assert [entry.name for entry in small.entries] == [entry.name for entry in suite.entries]
        assert small.name == f"{suite.name}-smoke" and small.dataset == "synthetic"
        assert max(entry.n_steps for entry in small.entries) == 3


# -- the template ------------------------------------------------------------------------------------------------------


def test_the_template_learns():
    log = recgym.datasets.load("synthetic", n_users=400, n_items=120)
    train, test = log.split_users(test_size=0.3)
    catalog = recgym.embeddings.svd(train, dim=16)
    agent = MyAgent(catalog, frame_size=5, device="cpu")
    assert isinstance(agent, Agent)
    before = recgym.evaluate_ranking(agent, test).values["ndcg@10"]
    losses = []
    from agents import fit

    fit(agent, recgym.FrameBatches(train, 5, 64), 300, lambda step, found: losses.append(float(found["loss"])))
    after = recgym.evaluate_ranking(agent, test).values["ndcg@10"]
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.05
    assert after.mean() > before.mean()


def test_the_template_remembers():
    log = recgym.datasets.load("synthetic", n_users=60, n_items=40)
    catalog = recgym.embeddings.svd(log, dim=8)
    one, two = (MyAgent(catalog, frame_size=5, seed=seed, device="cpu") for seed in (0, 1))
    batches = iter(recgym.FrameBatches(log, 5, 16))
    one.update(next(batches))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    batch = next(batches)
    assert one.update(batch)["loss"] == two.update(batch)["loss"]
    assert (one.matrix == two.matrix).all()


# -- other kinds of entries --------------------------------------------------------------------------------------------


@pytest.fixture
def data(elsewhere):
    return Data.load(SUITES["quickstart"].smoke())


def scores(name, data, **config):
    scorer = build(Entry(name, f"their_package.own:{name}", config), data, 0).scorer
    history = recgym.History(np.array([[3, 4, 5]]), np.ones((1, 3), dtype=np.float32), np.array([3]))
    return scorer, scorer.scores(history)[0]


def test_every_kind_of_ranker(data):
    function, found = scores("numbered", data)
    assert isinstance(function, Function) and found.argmax() == 0
    assert scores("numbered", data, reverse=False)[1].argmax() == 59
    assert scores("alike", data)[1].argmax() == (data.catalog.embeddings @ data.catalog.embeddings[5]).argmax()
    assert scores("made", data)[1].tolist() == [1.0] * 60
    counts = np.bincount(data.train.items, minlength=60)
    assert (scores("Popular", data)[1] == counts).all() and (scores("scorer_of", data)[1] == counts).all()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("their_package.own", r"an entry point must read 'package\.module:Name', got 'their_package\.own'"),
        ("their_package.none:A", r"Python must find 'their_package\.none', got no such module; run from its folder"),
        ("nobody.none:A", r"Python must find 'nobody\.none', got no such module"),
        ("their_package.own:A", "their_package.own must define 'A', got none; mend the name"),
        ("their_package.own:Half", r"must have scores, act, .* got Half without act, state_dict, load_state_dict; add"),
    ],
)
def test_what_is_wrong_is_said(name, match, elsewhere):
    with pytest.raises(DataError, match=match):
        run.main(["--suite", "quickstart", "--smoke", "--agent", name, "--out", str(elsewhere)])


def test_a_module_that_lacks_another_says_which(elsewhere):
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        run.main(["--suite", "quickstart", "--smoke", "--agent", "their_package.broken:A", "--out", str(elsewhere)])


def test_only_classes_with_update_are_agents():
    assert is_agent(MyAgent) and not is_agent(lambda history: None)
    assert not is_agent(dict.fromkeys) and not is_agent(recgym.scorers.Popularity)
