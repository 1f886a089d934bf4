"""Online training that stops, goes on, and begins from a log."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

import agents
from agents import checkpoint
from agents.training.online import OnlineState, buffer_for
from agents.training.train import fit, fit_online
from recgym.batches import FrameBatches
from recgym.envs.env import RecVectorEnv
from recgym.errors import DataError
from recgym.users import ReplayUsers

TESTS = Path(__file__).parent
LEARNERS = {
    "DDPG": {"bc_weight": 0.0, "hidden": 8},
    "DRR": {"hidden": 8},
    "REINFORCE": {"gamma": 0.9, "hidden": 8},
    "SequenceREINFORCE": {"gamma": 0.9, "width": 8},
}
SLATES = {"SlateQ": {"k": 2, "hidden": 8}}


def weights(agent):
    return torch.cat([parameter.detach().flatten() for net in agent.nets for parameter in net.parameters()])


def world(name, **options):
    """An agent, its environment, and what an online run holds beside the agent."""
    agent = getattr(agents, name)(make_catalog(), frame_size=3, device="cpu", **(LEARNERS | SLATES)[name])
    action = "embedding" if name in ("DDPG", "DRR") else "item"
    options = {"observation": "history", "autoreset_mode": "SameStep", "horizon": 4, "action": action} | options
    env = RecVectorEnv(5, users=ReplayUsers(make_log(), frame_size=3), catalog=make_catalog(), frame_size=3, **options)
    return agent, OnlineState(env, buffer_for(agent, env, 60, seed=1))


def run(agent, online, n_steps, report=None, first_step=0, **options):
    options = {"batch_size": 8, "warm_up": 20} | options
    return fit_online(agent, online.env, n_steps, report, buffer=online.buffer, first_step=first_step, **options)


@pytest.mark.parametrize("name", LEARNERS | SLATES)
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, name):
    """It stops in the middle of sessions, when the buffer has begun to overwrite itself; actions are uniform first."""
    more = {"k": 2} if name in SLATES else {}
    whole, online = world(name, **more)
    run(whole, online, 25, uniform=True)
    agent, stopped = world(name, **more)
    run(agent, stopped, 14, uniform=True)
    checkpoint.save(tmp_path, 14, agent, stopped)
    resumed, again = world(name, **more)
    run(resumed, again, 3)
    assert checkpoint.load(tmp_path, resumed, again) == 14
    run(resumed, again, 25, first_step=14, uniform=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(weights(agent), weights(whole))
    for column, other in zip(again.buffer.columns, online.buffer.columns, strict=True):
        np.testing.assert_array_equal(column, other)


def test_a_run_goes_on_with_a_buffer_and_other_sessions():
    agent, online = world("DDPG")
    first = fit_online(agent, online.env, 4, batch_size=8, warm_up=8, seed=0)
    _, fresh = world("DDPG")
    second = fit_online(agent, fresh.env, 8, buffer=first, first_step=4, batch_size=8, warm_up=8, seed=0)
    assert second is first
    assert first.added == 40
    assert not np.array_equal(first.columns.user[:5], first.columns.user[20:25])  # not the same sessions again


@pytest.mark.parametrize("name", LEARNERS)
def test_a_buffer_begins_with_the_decisions_of_a_log(name):
    agent, online = world(name)
    log = make_log()
    buffer = run(agent, online, 1, warm_start=log)
    n = min(60, log.n_events - log.n_users)
    assert buffer.added >= n
    assert agent.popularity is not None
    assert agent.updates == 1  # enough was collected for an update at once
    batch = next(iter(FrameBatches(log, 3, 1000, shuffle=False, drop_last=False, min_history=1, gamma=0.9)))
    if "gamma" in LEARNERS[name]:
        kept = buffer.columns.returns[(np.arange(len(batch.action)) % 60)[-40:]]
        np.testing.assert_allclose(kept, batch.returns[-40:], rtol=1e-6)
    added = buffer.added
    run(agent, online, 2, warm_start=log, first_step=1)  # once is enough
    assert buffer.added <= added + 2 * 5 * 4
    other = make_log().select_items(np.arange(30))
    with pytest.raises(DataError, match=r"must have the agent's 40 items in the same order, got \d+ items that differ"):
        run(*world(name), 1, warm_start=other)


def test_uniform_actions_are_shown_until_enough_is_collected():
    agent, online = world("REINFORCE")
    agent.act = lambda *_, **__: pytest.fail("was asked")
    run(agent, online, 3, uniform=True, warm_up=1000)
    assert len(np.unique(online.buffer.columns.action)) >= 1
    agent, online = world("DDPG")
    asked = []
    act = agent.act
    agent.act = lambda *given, **more: asked.append(1) or act(*given, **more)
    run(agent, online, 6, uniform=True, warm_up=20)
    assert len(asked) == 2  # 4 steps of 5 rows collect 20


def test_users_of_the_environment_are_found_by_their_ids():
    log = make_log()
    agent = agents.REINFORCE(make_catalog(), frame_size=3, device="cpu", encoder="drr", n_users=6, hidden=8)
    fit(agent, agent.batches(log, 4), 1)
    part = log.select_users([3, 1])
    options = {"observation": "user_history", "autoreset_mode": "SameStep", "action": "item"}
    env = RecVectorEnv(4, users=ReplayUsers(part, frame_size=3), catalog=make_catalog(), frame_size=3, **options)
    buffer = fit_online(agent, env, 3, batch_size=4, warm_up=4)
    assert set(buffer.columns.user[:12].tolist()) <= {3, 1}


def test_sessions_of_another_environment_are_refused():
    _, online = world("DDPG")
    online.env.reset(seed=0)
    _, other = world("DDPG")
    other.env = RecVectorEnv(3, users=other.env.users, catalog=other.env.catalog, frame_size=3)
    with pytest.raises(DataError, match=r"sessions must be of 3 rows, 40 items and the same user model, got 5 rows"):
        other.env.load_state_dict(online.env.state_dict())


# -- kills -------------------------------------------------------------------------------------------------------------

KILLED = {
    "DDPG": {"hidden": 64, "n_negatives": 4},
    "BCQ": {"hidden": 32, "generator_hidden": 32, "n_negatives": 4},
    "REINFORCE": {"hidden": 64},
    "SQN": {"width": 16},
    "DRR": {"hidden": 32, "n_negatives": 4},
    "online": {},
    "slates": {},
}


def offline_or_online(name):
    """Returns a function that trains from a step on, the agent, and what is saved beside it."""
    if name in ("online", "slates"):
        agent, online = world("DRR") if name == "online" else world("SlateQ", k=2)
        return lambda n, report, first: run(agent, online, n, report, first), agent, online
    agent = getattr(agents, name)(make_catalog(), frame_size=5, device="cpu", **KILLED[name])
    own = hasattr(agent, "batches")
    batches = agent.batches(make_log(), 4) if own else FrameBatches(make_log(), 5, 8, later=0.5)
    return lambda n, report, first: fit(agent, batches, n, report, first_step=first), agent, batches


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from agents.training.callbacks import every
from test_online import checkpoint, offline_or_online
train, agent, beside = offline_or_online({name!r})
print("ready", flush=True)
train(10**6, every(3, checkpoint.Checkpoints(sys.argv[1], agent, beside, keep=2)), 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, name):
    command = [sys.executable, "-c", CHILD.format(tests=str(TESTS), name=name), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS.parent) as child:
        child.stdout.readline()
        while not checkpoint.saved(tmp_path):
            assert child.poll() is None, "it ended before it had saved"
            time.sleep(0.01)
        time.sleep(0.7)
        os.kill(child.pid, signal.SIGKILL)
    train, resumed, beside = offline_or_online(name)
    step = checkpoint.load(tmp_path, resumed, beside)
    train(step + 7, None, step)
    train, whole, _ = offline_or_online(name)
    train(step + 7, None, 0)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.updates == whole.updates
