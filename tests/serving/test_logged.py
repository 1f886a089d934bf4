"""Lists that were served are a log with propensities: nothing acknowledged is lost, and estimates from it hold."""

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest
import requests
from servers import in_process, in_thread, recommend

import agents
import recgym
from recgym.__main__ import main
from recgym.errors import DataError, StoreError
from recgym.evaluation.policies import SoftmaxPolicy, slate_propensities
from recgym.log import shown
from recgym.rng import RowRandom
from recgym.scorers import Popularity
from recgym.serving.exploring import Explorer

HISTORY = [["i03", 5.0], ["i07", 2.0], ["i20", 4.5]]


# -- propensities ------------------------------------------------------------------------------------------------------


def test_propensities_are_those_of_what_is_drawn():
    scores, allowed, k = np.array([3.0, 1.0, 0.5, 0.0, -1.0, 2.0]), np.array([True, True, True, True, True, False]), 3
    explorer = Explorer(Popularity(np.arange(6), np.ones(6)), 0.8, 0.1, seed=1)
    policy = explorer.policy
    chances = policy.of_scores(policy.standardised(scores[None]), allowed[None])[0]
    assert chances[5] == 0 and chances.sum() == pytest.approx(1)
    joint = {}
    for order in itertools.permutations(range(5), k):
        left = 1.0 - np.cumsum([0.0, *chances[list(order)]])[:-1]
        joint[order] = float(np.prod(chances[list(order)] / left))
    exact = np.zeros((k, 6))
    for order, chance in joint.items():
        exact[np.arange(k), list(order)] += chance
    counts = dict.fromkeys(joint, 0)
    for _ in range(1_500):
        items, told = explorer.draw(scores, allowed, k)
        counts[tuple(items.tolist())] += 1
        assert np.prod(told.given_above) == pytest.approx(joint[tuple(items.tolist())])
        assert told.marginal[:2] == pytest.approx(exact[np.arange(2), items[:2]])
        assert abs(told.marginal[2] - exact[2, items[2]]) < 6 * told.error[2] + 1e-9
    for order, chance in joint.items():
        assert abs(counts[order] - 1_500 * chance) < 5 * np.sqrt(1_500 * chance) + 1
    marginal, given, _ = slate_propensities(chances[None], items[None], RowRandom.from_seeds([0]), drawn=True)
    assert told.given_above == pytest.approx(given[0]) and told.marginal[:2] == pytest.approx(marginal[0, :2])


def test_a_list_of_nearly_certain_items_is_whole():
    explorer = Explorer(Popularity(np.arange(50), np.ones(50)), 0.02, 0.001, seed=2)
    items, told = explorer.draw(np.arange(50.0) ** 2, np.ones(50, dtype=bool), 12)
    assert len(set(items.tolist())) == 12 and (told.given_above > 0).all() and (told.marginal <= 1).all()
    with pytest.raises(DataError, match="a list needs 3 items with a chance, got"):
        Explorer(Popularity(np.arange(3), np.ones(3)), 1e-4).draw(np.array([9.0, 1.0, 0.0]), np.ones(3, dtype=bool), 3)


# -- the folder --------------------------------------------------------------------------------------------------------


def test_what_is_shown_and_answered_is_a_log(trained_run, tmp_path):
    settings = {"log": tmp_path / "log", "explore": 0.5, "epsilon": 0.1, "wait_ms": 0.0}
    with in_thread(trained_run, **settings) as (address, _):
        lists = [recommend(address, history=HISTORY[:n], user=f"u{n}", k=4).json() for n in (0, 1, 3)]
        answers = [
            {"list": lists[2]["list"], "item": lists[2]["items"][1]["id"], "reward": reward} for reward in (1, 0.5)
        ]
        for one in answers:
            assert requests.post(f"{address}/feedback", json={"answers": [one]}, timeout=5).json() == {"written": 1}
        wrong = {"list": lists[1]["list"], "item": "i03"}
        refused = requests.post(f"{address}/feedback", json={"answers": [wrong]}, timeout=5)
        assert refused.status_code == 422 and "answers[0].item must be in its list" in refused.json()["detail"]
        stranger = {"list": "0" * 32, "item": "i03"}
        assert requests.post(f"{address}/feedback", json={"answers": [stranger]}, timeout=5).status_code == 200
        assert recommend(address, exclude_seen=False).status_code == 422
        assert recommend(address, by="popularity").json()["list"] is None
    log = recgym.datasets.load(str(tmp_path / "log"))
    assert log.n_users == 3 and log.users["user_id"].tolist() == ["u0", "u1", "u3"] and log.reward == "scaled"
    assert log.source["answers of lists or items that were not shown"] == 1
    assert log.item_ids.tolist() == agents.load(trained_run, device="cpu").item_ids.tolist()
    events = log.user(2)
    assert log.item_ids[events.items].tolist() == ["i03", "i07", "i20", *(one["id"] for one in lists[2]["items"])]
    assert events.rewards.tolist() == pytest.approx([1.0, -0.2, 0.8, 0.0, 0.5, 0.0, 0.0])
    told = [one["propensity"] for one in lists[2]["items"]]
    assert log.propensities[-4:].tolist() == pytest.approx(told, rel=1e-5)
    with pytest.raises(recgym.errors.OptionError, match="options of a folder of served lists must be among model, k"):
        recgym.datasets.load(str(tmp_path / "log"), user="x")


def test_lists_of_several_lengths_models_and_candidates(trained_run, tmp_path):
    with in_thread(trained_run, log=tmp_path / "log", explore=0.5, wait_ms=0.0) as (address, _):
        for k in (2, 2, 3):
            recommend(address, history=["i00"], k=k)
        recommend(address, history=["i00"], k=2, candidates=["i00", "i01", "i02", "i03"])
        assert recommend(address, candidates=[]).json()["items"] == []
    with pytest.raises(DataError, match=r"must hold lists of one length, got 2 \(3\), 3 \(1\); pass k="):
        shown.read(tmp_path / "log")
    log = shown.read(tmp_path / "log", k=2)
    assert log.extra["candidates"].shape == (9, 40)
    assert sorted(set(log.extra["candidates"][-1].tolist()) - {40}) == [0, 1, 2, 3]
    with pytest.raises(DataError, match="must hold lists of deadbeef, got those of"):
        shown.read(tmp_path / "log", model="deadbeef")


def test_damage_is_seen_and_a_cut_line_is_passed_over(tmp_path):
    lists = shown.ShownLists(tmp_path / "log")
    lists.know("m", ["a", "b"], "raw", None, {})
    line = {"time": 1, "model": "m", "user": None, "history": [], "items": ["a"], "marginal": [0.5], "given": [0.5]}
    lists.write([line | {"list": f"{n:032x}", "error": [0.0], "allowed": None} for n in range(3)])
    lists.close()
    (path,) = (tmp_path / "log").glob("lines-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert shown.read(tmp_path / "log").n_users == 2
    for place in range(5, len(whole) - 1, 37):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(StoreError, match=r"must hold the lines that were written, got line|readable lines"):
            shown.read(tmp_path / "log")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        shown.ShownLists(tmp_path / "mine")


def test_what_the_disk_refuses_is_not_shown(trained_run, tmp_path, monkeypatch):
    with in_thread(trained_run, log=tmp_path / "log", wait_ms=0.0) as (address, _):
        assert recommend(address).status_code == 200
        real = os.write

        def short(handle, text):
            return real(handle, text[:20] if text.startswith(b'{"list"') else text)

        monkeypatch.setattr(os, "write", short)
        answer = recommend(address)
        assert answer.status_code == 503 and "nothing is shown that cannot be written down" in answer.json()["detail"]
        monkeypatch.undo()
        assert recommend(address).status_code == 200
    assert shown.read(tmp_path / "log").n_users == 2


def test_nothing_acknowledged_is_lost_by_a_kill(trained_run, tmp_path):
    """kill -9 under load: every list and answer that a client was told of is in the folder, and it reads."""
    lists, answers = [], []

    def client(address):
        while True:
            try:
                found = recommend(address, history=HISTORY, k=3).json()
                lists.append(found["list"])
                one = {"list": found["list"], "item": found["items"][0]["id"]}
                if requests.post(f"{address}/feedback", json={"answers": [one]}, timeout=5).ok:
                    answers.append(found["list"])
            except (requests.RequestException, ValueError):
                return

    with in_process(trained_run, "--log", tmp_path / "log", "--explore", "0.5") as (address, process):
        threads = [threading.Thread(target=client, args=(address,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 20
        while len(answers) < 60 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(answers) >= 60
    log = shown.read(tmp_path / "log")
    assert set(lists) <= set(log.user_ids.tolist())
    clicked = {user for user in range(log.n_users) if log.user(user).rewards[-3:].max() > 0}
    assert set(answers) <= set(log.user_ids[sorted(clicked)].tolist())


# -- from serving to estimates -----------------------------------------------------------------------------------------


def test_a_simulated_day_is_estimated_from_its_log(trained_run, tmp_path, capsys):
    """People click by a law of their own; the log estimates what the served policy earns, and another."""
    day = np.random.default_rng(4)
    taste = day.random((8, 40)) * 0.5  # chance that a kind of person clicks an item
    pasts = [[[f"i{item:02d}", 4.0] for item in day.permutation(40)[:3]] for _ in range(8)]
    settings = {"log": tmp_path / "log", "explore": 0.7, "epsilon": 0.1, "wait_ms": 0.0, "seed": 5}
    with in_thread(trained_run, **settings) as (address, _), requests.Session() as session:
        for _ in range(30):
            people = day.integers(8, size=32)
            body = {"histories": [pasts[one] for one in people], "k": 1}
            lists = session.post(f"{address}/recommend", json=body, timeout=20).json()["lists"]
            clicks = [
                {"list": one["list"], "item": one["items"][0]["id"]}
                for person, one in zip(people, lists, strict=True)
                if day.random() < taste[person, int(one["items"][0]["id"][1:])]
            ]
            session.post(f"{address}/feedback", json={"answers": clicks}, timeout=20)
    log = recgym.datasets.load(str(tmp_path / "log"))
    agent = agents.load(trained_run, device="cpu")

    def truth(policy):
        worth = []
        for person, past in enumerate(pasts):
            items = [int(item[1:]) for item, _ in past]
            history = recgym.evaluation.scoring.padded([(items, [0.6] * 3)], 40, None)
            allowed = np.ones((1, 40), dtype=bool)
            allowed[0, items] = False
            worth.append((policy.probabilities(history, allowed)[0] * taste[person]).sum())
        return np.mean(worth)

    served = SoftmaxPolicy(agent, 0.7, 0.1, standardise=True)
    found = recgym.evaluate_policy(log, served)
    assert found["ips"].mean == pytest.approx(found.logged.mean, rel=1e-4)  # it is the logged policy
    assert found["ips"].low <= truth(served) <= found["ips"].high
    other = SoftmaxPolicy(agent, 1.5, 0.1, standardise=True)
    estimate = recgym.evaluate_policy(log, other)["snips"]
    assert estimate.low <= truth(other) <= estimate.high
    options = [
        "--data",
        str(tmp_path / "log"),
        "--policy",
        str(trained_run),
        "--temperature",
        "0.7",
        "--epsilon",
        "0.1",
    ]
    assert main(["evaluate-policy", *options]) == 0
    printed = capsys.readouterr().out
    assert f"{found['ips'].mean:.3f}" in printed and "snips" in printed
