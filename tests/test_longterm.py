"""Learning online what pays later, and the benchmark of it."""

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

import recgym
from agents import DDPG, DQN, REINFORCE, fit_online
from agents.reinforce import reinforce_update
from benchmarks import longterm, longterm_report
from benchmarks.longterm_suite import Learner, World
from benchmarks.quality import Options
from benchmarks.results import Results
from recgym.batches import FrameBatches
from recgym.envs.env import RecVectorEnv
from recgym.envs.registry import make_vector_env
from recgym.frames import Batch
from recgym.users import ReplayUsers

SHORT = {"n_users": 60, "n_items": 20, "horizon": 12, "repeats": "allow", "world": "long_term_satisfaction"}
ONLINE = {"gamma": 0.9, "dropout": 0.0, "reward_scale": 0.05, "hidden": 32, "mask_seen": False}
LEARNERS = {
    DQN: {"conservative": 0.0, "temperature": 0.3},
    REINFORCE: {"correction": "off_policy", "baseline": None, "bc_weight": 0.0},
}


@pytest.mark.parametrize("maker", LEARNERS)
def test_agents_learn_that_what_pays_now_costs_later(maker):
    env = make_vector_env(32, **SHORT, action="item", observation="history", autoreset_mode="SameStep")
    agent = maker(env.catalog, frame_size=10, device="cpu", **ONLINE, **LEARNERS[maker])
    fit_online(agent, env, 200, buffer_size=4_000, batch_size=128, warm_up=64)
    options = {name: SHORT[name] for name in ("n_users", "n_items", "horizon")} | {"split": "test", "test_size": 0.5}
    found = recgym.compare(agent, "greedy", "recgym/LongTermSatisfaction-v0", seed=3, options=options)
    assert found.difference.low > 0.3 * np.mean(found.b)


@pytest.mark.parametrize("maker", [DQN, DDPG])
def test_networks_see_rewards_scaled(maker):
    batch = next(iter(FrameBatches(make_log(), 5, batch_size=16)))
    scaled = batch._replace(**{name: getattr(batch, name) * 0.5 for name in ("rewards", "next_rewards", "reward")})
    agents = [maker(make_catalog(), frame_size=5, device="cpu", reward_scale=scale) for scale in (0.5, 1.0)]
    losses = [agent.losses(given) for agent, given in zip(agents, (batch, scaled), strict=True)]
    assert losses[0] == losses[1] and losses[0] != agents[1].losses(batch)
    history = recgym.History(batch.items, batch.rewards, np.full(16, 5))
    assert torch.equal(agents[0].scores(history), agents[1].scores(history._replace(rewards=batch.rewards * 0.5)))


def test_the_baseline_may_be_the_mean_return():
    batch = next(iter(FrameBatches(make_log(), 5, batch_size=16, gamma=0.5)))
    plain = {"gamma": 0.5, "correction": "none", "bc_weight": 0.0, "normalise": False, "dropout": 0.0}
    agent = REINFORCE(make_catalog(), frame_size=5, device="cpu", baseline=None, **plain)
    looked_up = agent.look_up(batch)
    loss = reinforce_update(looked_up, agent.nets, agent.optimizers, agent.config, learn=False)["actor_loss"]
    log_pi = agent.nets.actor.log_prob(agent.nets.encoder(*looked_up.frames), looked_up.action)
    returns = torch.as_tensor(batch.returns)
    assert torch.allclose(loss, -((returns - returns.mean()) * log_pi).mean(), atol=1e-6)


def test_item_agents_act_among_what_is_allowed():
    agent = DQN(make_catalog(), frame_size=5, device="cpu")
    history = recgym.History(np.full((50, 5), 40), np.zeros((50, 5), np.float32), np.zeros(50, dtype=np.int64))
    allowed = np.zeros((50, 40), dtype=bool)
    allowed[np.arange(50), np.arange(50) % 40] = allowed[:, 7] = True
    for explore in (False, True):
        chosen = agent.act(history, explore=explore, allowed=allowed).numpy()
        assert allowed[np.arange(50), chosen].all()


def test_fit_online_tells_item_agents_what_may_be_shown():
    fixed = {"users": ReplayUsers(make_log(), 2), "catalog": make_catalog(), "frame_size": 2, "horizon": 8}
    env = RecVectorEnv(4, **fixed, action="item", observation="history", autoreset_mode="SameStep")
    agent = DQN(env.catalog, frame_size=2, device="cpu", temperature=1e-6)  # always its favourite
    buffer = fit_online(agent, env, 24, batch_size=8, warm_up=1000)
    actions, ended = (buffer.columns._asdict()[name][:96].reshape(24, 4) for name in ("action", "truncated"))
    for row in range(4):
        for session in np.split(actions[:, row], np.flatnonzero(ended[:-1, row]) + 1):
            assert len(set(session.tolist())) == len(session)


def test_a_frame_that_nothing_entered_is_no_longer_than_before():
    frame = np.array([[40, 40, 40, 3, 4]]), np.array([[0, 0, 0, 1, 1]], dtype=np.float32)
    never = np.zeros(1, dtype=bool)
    batch = Batch(np.zeros(1), *frame, np.array([9]), np.zeros(1, np.float32), *frame, never, never)
    looked_up = DQN(make_catalog(), frame_size=5, device="cpu").look_up(batch)
    assert looked_up.frames.length.tolist() == looked_up.next_frames.length.tolist() == [2]


# -- the benchmark -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch):
    learners = (
        Learner("dqn", "agents:DQN", {"gamma": 0.9, "mask_seen": False}, seeds=2),
        Learner("ppo (sb3)", "stable_baselines3:PPO", {"gamma": 0.9}, action="embedding"),
    )
    one = World("LongTermSatisfaction", "recgym/LongTermSatisfaction-v0", ("greedy",), learners)
    monkeypatch.setattr(longterm, "WORLDS", {one.name: one})
    return one


def test_rows_of_known_policies_and_learners_and_no_row_twice(world, tmp_path, capsys):
    options = Options(tmp_path, tmp_path, small=True, facts={"commit": "c", "dirty": "no", "versions": "v"})
    longterm.run(options)
    results = Results(tmp_path / "quality_q5.csv")
    rows = {(row["agent"].split(": ")[1], row["seed"], row["metric"]): row for row in results.rows()}
    assert {(name, seed) for name, seed, _ in rows} == {
        *((name, "0") for name in ("random", "popularity", "greedy", "dqn", "ppo (sb3)")),
        ("dqn", "all"),
        ("ppo (sb3)", "all"),
    }
    ours, greedy = (results.units(f"{world.name}: {name}", 0, "session_return") for name in ("dqn", "greedy"))
    paired = np.array([*ours.values()]) - np.array([*greedy.values()])
    assert float(rows["dqn", "all", "over_greedy"]["value"]) == pytest.approx(paired.mean(), rel=1e-4)
    assert rows["dqn", "0", "session_return"]["n"] == "16" and results.curve(f"{world.name}: dqn", 0)
    capsys.readouterr()
    before = results.path.read_text()
    longterm.run(options)
    assert capsys.readouterr().out.count("has rows already") == 2
    assert len(results.path.read_text().splitlines()) == len(before.splitlines())


def test_unknown_rows_are_refused(tmp_path):
    with pytest.raises(
        SystemExit, match=r"a row of Q5 must be one of \[.*'dqn'.*\], got \['nope'\]; choose among them"
    ):
        longterm.run(Options(tmp_path, tmp_path, rows=("dqn", "nope"), small=True))


def test_agents_of_ones_own_and_rows_by_name(world, tmp_path):
    from benchmarks.suites import Entry

    own = (Entry("benchmarks.template_agent:MyAgent", "benchmarks.template_agent:MyAgent", {"lr": 0.01}, 3),)
    facts = {"commit": "c", "dirty": "no", "versions": "v"}
    longterm.run(Options(tmp_path, tmp_path, own=own, small=True, facts=facts))
    names = {row["agent"] for row in Results(tmp_path / "quality_q5.csv").rows()}
    assert f"{world.name}: benchmarks.template_agent:MyAgent" in names and f"{world.name}: dqn" not in names


def test_the_table_says_who_knows_the_truth_and_who_learned(world, tmp_path):
    facts = {"commit": "c", "dirty": "no", "versions": "v"}
    longterm.run(Options(tmp_path, tmp_path, rows=("dqn",), small=True, facts=facts))
    assert longterm_report.present(tmp_path) and not longterm_report.present(tmp_path / "none")
    lines = longterm_report.table(tmp_path).splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert names == ["agent", "---", "random", "popularity", "greedy", "dqn"]
    assert next(line for line in lines if line.startswith("| dqn")).count("[") == 3  # no gap to share: greedy is best
    assert "oracle: " in lines[0] and longterm_report.plot(tmp_path).stat().st_size > 1000
