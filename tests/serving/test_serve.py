"""Over HTTP: the lists that `recommend` gives, whatever is asked for, and an answer to whatever is sent."""

import asyncio
import concurrent.futures
import json
import random
import shutil
import signal
import socket
import sys
import time

import numpy as np
import pytest
import requests
from servers import in_process, in_thread, recommend, until

import agents
import recgym
from agents.training import checkpoint
from recgym.__main__ import main
from recgym.commands.runs import load_served
from recgym.serving.batching import Batcher
from recgym.serving.served import Served

HISTORY = [["i03", 5.0], ["i07", 2.0], ["i20", 4.5]]


@pytest.fixture(scope="module")
def server(trained_run):
    with in_thread(trained_run, second=load_served(trained_run), wait_ms=0.0) as (address, _):
        yield address


@pytest.fixture(scope="module")
def agent(trained_run):
    return agents.load(trained_run, device="cpu")


def ids(answer):
    return [item["id"] for item in answer.json()["items"]]


# -- a run that was moved ----------------------------------------------------------------------------------------------


def test_only_the_run_folder_is_needed(trained_run, agent, tmp_path):
    """Moved elsewhere, served by a fresh process, asked by a real client, replaced under way, and ended politely."""
    there = tmp_path / "elsewhere" / "moved"
    shutil.copytree(trained_run, there)
    expected = [(one[0], pytest.approx(one[1], abs=1e-5)) for one in agents_list(agent, HISTORY)]
    token = {"RECGYM_RELOAD_TOKEN": "a token of some length"}
    with in_process(there, "--wait-ms", "200", env=token) as (address, process):
        answer = recommend(address, history=HISTORY, k=10)
        assert [(item["id"], item["score"]) for item in answer.json()["items"]] == expected
        first = answer.json()["model"]
        agent2 = agents.load(there, device="cpu")
        agent2.nets.actor.load_state_dict({k: v + 0.1 for k, v in agent2.nets.actor.state_dict().items()})
        checkpoint.save(there, 6, agent2)
        assert recommend(address, history=HISTORY).json()["model"] == first
        process.send_signal(signal.SIGHUP)
        until(lambda: requests.get(f"{address}/health", timeout=5).json()["model"] != first)
        assert ids(recommend(address, history=HISTORY)) == [one[0] for one in agents_list(agent2, HISTORY)]
        assert requests.post(f"{address}/reload", headers={"Authorization": "Bearer no"}, timeout=5).status_code == 401
        headers = {"Authorization": f"Bearer {token['RECGYM_RELOAD_TOKEN']}"}
        assert requests.post(f"{address}/reload", headers=headers, timeout=20).status_code == 200
        manifest = there / "step-000000006" / "manifest.json"
        manifest.write_text("{}")
        assert requests.post(f"{address}/reload", headers=headers, timeout=20).status_code == 409
        assert recommend(address, history=HISTORY).status_code == 200
        with concurrent.futures.ThreadPoolExecutor(8) as pool:  # what it has been asked is answered
            asked = [pool.submit(recommend, address, history=HISTORY) for _ in range(8)]
            until(lambda: "recgym_waiting_lists 8\n" in requests.get(f"{address}/metrics", timeout=5).text)
            process.terminate()
            assert {one.result().status_code for one in asked} == {200}
        assert process.wait(20) in (0, -signal.SIGTERM)


def agents_list(agent, history, k=10):
    return recgym.recommend(agent, history, k, with_scores=True)


def test_what_keeps_a_server_from_starting_is_said(trained_run, tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(trained_run), "--port", str(taken.getsockname()[1])]) == 1
    assert "must be free to listen at, got" in capsys.readouterr().err
    for options, message in (
        ([str(tmp_path)], "must hold a checkpoint, got none"),
        ([str(trained_run), "--epsilon", "0.1"], "epsilon must come with --explore, got 0.1 alone"),
        ([str(trained_run), "--explore", "0"], "temperature must be above 0"),
        ([str(trained_run), "--limit", "0"], "limit in 0..600, got 2 and 0"),
        ([str(trained_run), "--log", str(trained_run)], "with nothing but what recgym wrote"),
    ):
        assert main(["serve", "--port", "0", *options]) == 1
        assert message in capsys.readouterr().err, message
    monkeypatch.setenv("RECGYM_RELOAD_TOKEN", "short")
    assert main(["serve", str(trained_run)]) == 1
    assert "RECGYM_RELOAD_TOKEN must have at least 16 letters, got 5" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(trained_run)]) == 1
    assert 'pip install "recgym[serve]"' in capsys.readouterr().err


# -- what can be asked for ---------------------------------------------------------------------------------------------


def test_one_or_many_with_and_without_ratings(server, agent):
    assert ids(recommend(server, history=HISTORY, k=4)) == recgym.recommend(agent, HISTORY, 4)
    named = [{"item": item, "rating": rating} for item, rating in HISTORY]
    assert ids(recommend(server, history=named, k=4)) == recgym.recommend(agent, HISTORY, 4)
    bare = [item for item, _ in HISTORY]
    assert ids(recommend(server, history=bare, k=4)) == recgym.recommend(agent, [(item, 5.0) for item in bare], 4)
    many = recommend(server, histories=[HISTORY, [], bare], users=["u1", None, 7], k=4).json()["lists"]
    found = [[item["id"] for item in one["items"]] for one in many]
    assert found == [recgym.recommend(agent, one, 4) for one in (HISTORY, [], [(item, 5.0) for item in bare])]
    top = recommend(server, history=HISTORY, k=1, explain=True).json()["items"][0]
    assert top["title"].startswith("Item ") and top["propensity"] == 1.0 and top["because"]["id"] in ("i03", "i20")


def test_lists_are_narrowed(server, agent):
    first, second = recgym.recommend(agent, HISTORY, 2)
    assert ids(recommend(server, history=HISTORY, exclude=[first], k=1)) == [second]
    assert set(ids(recommend(server, history=HISTORY, candidates=["i01", "i02", "i03"]))) == {"i01", "i02"}
    even = ids(recommend(server, history=HISTORY, where={"kind": "even"}, k=40))
    assert {int(one[1:]) % 2 for one in even} == {0} and len(even) == 20 - 1
    late = ids(recommend(server, where={"year": {"min": 2010, "max": 2012}, "kind": ["odd", "even"]}, k=40))
    assert set(late) == {"i30", "i31", "i32"}
    assert ids(recommend(server, where={"year": 1980})) == ["i00"]
    assert "i03" in ids(recommend(server, history=HISTORY, exclude_seen=False, k=40))
    assert ids(recommend(server, history=HISTORY, candidates=[])) == []


def test_unknown_items_are_skipped_and_told(server, agent):
    answer = recommend(server, history=[*HISTORY, "new", 5, ["gone", 1.0]], exclude=["gone"], k=4)
    assert answer.json()["unknown"] == ["new", 5, "gone"]
    assert ids(answer) == recgym.recommend(agent, HISTORY, 4)


def test_ids_that_json_cannot_tell_are_found_by_their_text():
    numbers = recgym.scorers.Popularity(np.array([50, 7, 8]), np.array([3, 2, 1]), "raw")
    assert Served(numbers).find("50") == 0 and Served(numbers).find(50) == 0 and Served(numbers).find("x") is None
    both = recgym.scorers.Popularity(recgym.ids.as_ids([50, "50", ("a", 1)]), np.array([3, 2, 1]), "raw")
    assert [Served(both).find(one) for one in (50, "50", ("a", 1))] == [0, 1, 2]


def test_others_beside_it(server):
    by = {name: ids(recommend(server, history=HISTORY, by=name, k=5)) for name in ("run", "popularity", "second")}
    assert by["second"] == by["run"] != by["popularity"]


def test_what_is_told(server, trained_run):
    told = requests.get(f"{server}/model", timeout=5).json()
    assert told["agent"] == "agents.ddpg:DDPG" and told["n_items"] == 40 and told["features"] == ["kind", "year"]
    assert set(told["versions"]) >= {"numpy", "torch"} and len(told["hashes"]["tensors.safetensors"]) == 64
    assert requests.get(f"{server}/health", timeout=5).json()["status"] == "ok"
    found = requests.get(f"{server}/items", params={"query": "ITEM 7"}, timeout=5).json()["items"]
    assert {item["id"] for item in found} == {"i07", "i17", "i27", "i37"}
    recommend(server, history=HISTORY)
    lines = requests.get(f"{server}/metrics", timeout=5).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert int(values['recgym_requests_total{route="/recommend",status="200"}']) >= 1
    assert values["recgym_request_seconds_count"] == values['recgym_request_seconds_bucket{le="+Inf"}']
    paths = requests.get(f"{server}/openapi.json", timeout=5).json()["paths"]
    docs = requests.get(f"{server}/docs", timeout=5).text
    assert {"/recommend", "/feedback", "/items", "/health", "/model", "/metrics"} <= set(paths)
    assert all(path in docs for path in paths) and "/reload" not in paths and "http" not in docs.replace("HTTP", "")


# -- what must not be asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "the body must be as /docs says: Invalid JSON"),
        ("[" * 100_000, "the body must be as /docs says: Invalid JSON: recursion limit"),
        ("[1]", "the body must be as /docs says: Input should be an object, got [1]"),
        ('{"history": ["i01", [1, 2, 3]]}', "history[1]: an entry must be an id or a pair of id and rating, got [1, 2"),
        ('{"history": [["i01", NaN]]}', "history[0]: a rating must be a number up to 1e+09, got NaN"),
        ('{"history": [["i01", 1e999]]}', "history[0]: a rating must be a number"),
        ('{"history": [["i01", "good"]]}', "ratings must be numbers, got 'good' (1 of 1)"),
        ('{"history": [true]}', "history[0]: an id must be a number, a text or a list of them, got true"),
        ('{"history": [' + "9" * 30 + "]}", "history[0]: an id must be a number, a text or a list of them, got a n"),
        ('{"histroy": []}', "the body must have known fields, got \"histroy\"; did you mean 'history'"),
        ('{"history": [], "k": 0}', "k must be as /docs says: Input should be greater than or equal to 1, got 0"),
        ('{"history": [], "k": "5"}', 'k must be as /docs says: Input should be a valid integer, got "5"'),
        ('{"history": [], "histories": []}', "a request must have history or histories, got both"),
        ('{"histories": [[]], "users": []}', "users must be one per history"),
        ('{"users": [1]}', "users must come with histories"),
        ('{"where": {"knd": "odd"}}', "where must name features of the items, got 'knd'; did you mean 'kind'"),
        ('{"where": {"year": {"least": 3}}}', "where['year'] must be a value, a list or min and max"),
        ('{"where": {"year": "old"}}', "where['year'] must be numbers, got 'old'"),
        ('{"where": {"kind": {"min": 3}}}', "min and max must be of a feature of numbers, got 'kind'"),
        ('{"by": "magic"}', "by must be as /docs says"),
        (json.dumps({"history": ["i01"] * 10_001}), "history must be as /docs says: List should have at most 10000"),
        (json.dumps({"history": ["x" * 501]}), "history[0]: an id must have at most 500 letters, got 501"),
    ],
)  # fmt: skip
def test_bad_bodies_name_the_culprit(server, body, message):
    answer = requests.post(f"{server}/recommend", data=body, timeout=20)
    assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.text[:300]


def test_a_thousand_malformed_bodies(server):
    """Cut, flipped, nested and odd bodies: none of them is answered by a 500, and the server goes on."""
    chance = random.Random(3)
    odd = [
        None,
        True,
        -1,
        2**70,
        1e308,
        "",
        "\ud800",
        "\0",
        [],
        {},
        [[]],
        {"item": []},
        [None],
        "../../etc/passwd",
        "i01",
    ]
    whole = json.dumps({"history": HISTORY, "k": 3, "where": {"year": {"min": 1}}, "exclude": ["i01"]}).encode()
    names = ["history", "histories", "user", "users", "k", "exclude", "candidates", "where", "exclude_seen", "by", "x"]
    codes = []
    with requests.Session() as session:
        for turn in range(1_000):
            path = "/feedback" if turn % 7 == 0 else "/recommend"
            if turn % 3 == 0:
                body = bytearray(whole[: chance.randrange(len(whole))] if turn % 2 else whole)
                for _ in range(3 if body else 0):
                    body[chance.randrange(len(body))] = chance.randrange(256)
            else:
                given = {name: chance.choice(odd) for name in chance.sample(names, 3)}
                given |= {"answers": [chance.choice(odd)]} if path == "/feedback" else {}
                body = json.dumps(given).encode()
            codes.append(session.post(server + path, data=bytes(body), timeout=20).status_code)
        session.post(f"{server}/items", data="x", timeout=20)
        codes.append(session.get(f"{server}/items?limit=x&query=%ff", timeout=20).status_code)
    assert {code for code in codes if code != 200} == {422}, set(codes)
    assert codes.count(422) > 500
    assert recommend(server, history=HISTORY).status_code == 200


def test_limits_of_size_origin_and_time(server, trained_run):
    big = requests.post(f"{server}/recommend", data=b'{"history": "' + b"x" * (1 << 20) + b'"}', timeout=20)
    assert big.status_code == 413 and "at most 1,048,576 bytes" in big.json()["detail"]
    foreign = requests.post(f"{server}/recommend", json={}, headers={"Origin": "http://evil.example"}, timeout=20)
    assert foreign.status_code == 403
    own = requests.post(f"{server}/recommend", json={}, headers={"Origin": server}, timeout=20)
    assert own.status_code == 200
    assert requests.post(f"{server}/reload", timeout=5).status_code == 404  # off unless a token is set
    assert (
        requests.post(f"{server}/feedback", json={"answers": [{"list": "0" * 32, "item": 1}]}, timeout=5)
        .json()["detail"]
        .startswith("feedback must be of logged lists, got a server without --log")
    )


def test_requests_are_scored_together_and_late_ones_are_told(trained_run):
    served = load_served(trained_run)
    sizes, scores = [], served.scorer.scores
    wait = []

    def slow(history):
        sizes.append(len(history.items))
        [until(lambda: not wait) for _ in wait[:1]]
        return scores(history)

    served.scorer.scores = slow
    with in_thread(trained_run, load=lambda: served, wait_ms=100.0, limit_s=1.0) as (address, _):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: recommend(address, history=HISTORY[: n % 4], k=3), range(16)))
        assert len(sizes) < 16 and sum(sizes) == 16
        for n, answer in enumerate(answers):
            assert ids(answer) == ids(recommend(address, history=HISTORY[: n % 4], k=3))
        wait.append(True)
        late = recommend(address, history=HISTORY)
        assert late.status_code == 503 and late.headers["Retry-After"] == "1" and "within 1 s" in late.json()["detail"]
        wait.clear()
        assert recommend(address, history=HISTORY).status_code == 200


def test_one_at_fault_is_told_and_its_neighbours_are_served(trained_run):
    served = load_served(trained_run)
    scores = served.scorer.scores

    def odd(history):  # scores are no numbers for whoever has seen item 0
        found = scores(history).clone()
        found[(history.items == 0).any(axis=1)] = float("nan")
        return found

    served.scorer.scores = odd
    server, pool = in_thread(trained_run, load=lambda: served, wait_ms=50.0), concurrent.futures.ThreadPoolExecutor(4)
    with server as (address, _), pool:
        answers = list(pool.map(lambda item: recommend(address, history=[item]), ["i01", "i00", "i02", "i03"]))
    assert [answer.status_code for answer in answers] == [200, 422, 200, 200]
    assert "NaN" in answers[1].json()["detail"]


def test_what_waited_for_a_batch_does_not_wait_again():
    spans = []

    def work(many):
        begun = time.monotonic()
        time.sleep(0.3)
        spans.append((begun, time.monotonic()))
        return many

    async def ask():
        batcher = Batcher(work, wait_s=0.25)
        first = asyncio.create_task(batcher.ask([1]))
        await asyncio.sleep(0.26)
        assert await batcher.ask([2]) == [2] and await first == [1]
        await batcher.close()

    asyncio.run(ask())
    assert spans[1][0] - spans[0][1] < 0.2
