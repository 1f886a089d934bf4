"""Lists for everybody in a log: those of `recommend`, whole or not there, resumed where interrupted."""

import dataclasses

import numpy as np
import pytest
from conftest import make_log
from pyarrow import parquet

import agents
import recgym
from recgym.__main__ import main
from recgym.commands.runs import load_served
from recgym.errors import DataError
from recgym.serving.served import Served
from recgym.serving.whole_log import recommend_log


def lists_in(path):
    table = parquet.read_table(path).to_pydict()
    found = {}
    for user, place, item in zip(table["user_id"], table["place"], table["item_id"], strict=True):
        found.setdefault(user, []).append(item)
        assert len(found[user]) == place
    return found


def test_lists_are_those_of_recommend(trained_run, log, tmp_path):
    served, agent = load_served(trained_run), agents.load(trained_run, device="cpu")
    assert recommend_log(served, log, tmp_path / "recs.parquet", 4, batch_size=4) == 4 * log.n_users
    found = lists_in(tmp_path / "recs.parquet")
    stars = log.rewards * 2.5 + 2.5
    for user, (begin, end) in enumerate(zip(log.offsets[:-1], log.offsets[1:], strict=True)):
        past = list(zip(log.item_ids[log.items[begin:end]].tolist(), stars[begin:end].tolist(), strict=True))
        assert found[f"u{user}"] == recgym.recommend(agent, past, 4)
    long = make_log(lengths=(38, 3))
    assert recommend_log(served, long, tmp_path / "recs.parquet", 10) == 2 + 10  # replaced; fewer where fewer are left


def test_an_interrupted_work_goes_on(trained_run, log, tmp_path):
    served, asked = load_served(trained_run), []
    scores = served.scorer.scores

    def failing(history):
        asked.append(len(history.items))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return scores(history)

    out = tmp_path / "recs.parquet"
    served.scorer.scores = failing
    with pytest.raises(KeyboardInterrupt):
        recommend_log(served, log, out, 4, part=2)
    assert not out.exists() and asked == [2, 2, 2]
    recommend_log(served, log, out, 4, part=2)
    assert asked == [2, 2, 2, 2]  # the third part alone
    first = lists_in(out)
    recommend_log(load_served(trained_run), log, tmp_path / "whole.parquet", 4)
    assert first == lists_in(tmp_path / "whole.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["recs.parquet", "whole.parquet"]


def test_a_table_of_plays_by_the_command(trained_run, log, tmp_path, capsys):
    plays = [(user, log.item_ids[item]) for user, item in zip(log.event_users(), log.items, strict=True)]
    lines = [f"u{user},{item}" for user, item in plays] + ["u0,new", "nobody,new"]
    (tmp_path / "plays.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
    options = ["--data", str(tmp_path / "plays.csv"), "--user", "user", "--item", "item", "--k", "3"]
    out = str(tmp_path / "recs.parquet")
    assert main(["recommend", str(trained_run), *options, "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "passed over: 2 of" in printed and "21 rows for 7 users" in printed
    agent = agents.load(trained_run, device="cpu")
    past = [(item, 5.0) for user, item in plays if user == 1]
    assert lists_in(out)["u1"] == recgym.recommend(agent, past, 3)
    assert len(lists_in(out)["nobody"]) == 3  # what is popular
    assert main(["recommend", str(trained_run), *options, "--out", str(tmp_path / "recs.csv")]) == 1
    assert "out must end in .parquet, got 'recs.csv'" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(trained_run, log, tmp_path):
    served, out = load_served(trained_run), tmp_path / "recs.parquet"
    with pytest.raises(DataError, match="k must be between 1 and the run's 40 items, got 41"):
        recommend_log(served, log, out, 41)
    with pytest.raises(DataError, match="the log's rewards must be those of the run, 'scaled', got 'recnn'"):
        recommend_log(served, dataclasses.replace(log, reward="recnn"), out)
    strange = dataclasses.replace(log, item_ids=np.arange(40))
    with pytest.raises(DataError, match="must have items that the run knows, got none of its 40"):
        recommend_log(served, strange, out)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(DataError, match="out must be free or a file"):
        recommend_log(served, log, tmp_path / "folder.parquet")
    counting = Served(recgym.scorers.Popularity(log.item_ids, np.arange(40), "scaled"))
    assert recommend_log(counting, log, out, 1) == log.n_users
