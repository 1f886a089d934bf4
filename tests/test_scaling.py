"""Rewards on any scale: a log in stars, seconds, cents or counts ranks the same; what cannot be learned of is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_catalog, make_log

import agents
from agents import checkpoint
from agents.networks.scaling import effective_share, reward_scale, scale_for
from recgym import datasets, embeddings, evaluate_ranking
from recgym.batches import FrameBatches
from recgym.errors import DataError, DivergedError

SEQUENCES = ["SQN", "SequenceModel", "SequenceREINFORCE", "SequenceTD3BC"]
EVERY = ["BCQ", "DDPG", "DRR", "SAC", "TD3", "TD3BC", "DQN", "LSTMActorCritic", "REINFORCE", *SEQUENCES]


def on_scale(log, factor):
    return replace(log, rewards=(factor * log.rewards).astype(np.float32), reward_range=None)


def trained(name, log, n_steps=6, **options):
    small = {"width": 8} if name in SEQUENCES else {"hidden": 16}
    small |= {"generator_hidden": 16, "n_samples": 3} if name == "BCQ" else {}
    agent = getattr(agents, name)(make_catalog(), frame_size=5, device="cpu", seed=3, **small | options)
    agents.fit(agent, FrameBatches(log, frame_size=5, batch_size=16, seed=1, gamma=0.5), n_steps)
    return agent


@pytest.mark.parametrize("name", EVERY)
def test_an_agent_is_the_same_whatever_the_unit_of_its_rewards(name):
    """Multiples by a power of two are exact, so the weights agree to the bit; scores of histories in that unit too."""
    log = make_log()
    agent, other = trained(name, on_scale(log, 2.0)), trained(name, on_scale(log, 64.0))
    assert (reward_scale(agent), reward_scale(other)) == (0.5, 0.5 / 32)
    for net, same in zip(agent.nets, other.nets, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), same.parameters(), strict=True))
    plain = trained(name, log)
    assert plain.constants["reward_scale"] == 1.0  # rewards of -0.8 to 1 are left as they are


def test_the_scale_is_saved_and_a_batch_tells_where_no_log_does(tmp_path):
    log = on_scale(make_log(), 64.0)
    agent = trained("DDPG", log)
    checkpoint.save(tmp_path, 6, agent)
    assert reward_scale(checkpoint.load_agent(tmp_path, make_catalog(), device="cpu")) == 1 / 64
    fresh = agents.DDPG(make_catalog(), frame_size=5, device="cpu", hidden=16)
    assert reward_scale(fresh) == 1.0
    fresh.update(next(iter(FrameBatches(log, 5, 64))))
    assert reward_scale(fresh) == 1 / 64
    fixed = trained("DDPG", log, reward_scale=0.25)
    assert reward_scale(fixed) == 0.25 and "reward_scale" not in fixed.constants


def test_bounds_of_rewards_are_in_the_units_of_the_log():
    agent = trained("DDPG", on_scale(make_log(), 64.0), reward_range=(-64.0, 64.0))
    assert agent._told().reward_range == (-1.0, 1.0) and agent.config.reward_range == (-64.0, 64.0)


def test_scales_and_shares():
    assert [scale_for([r]) for r in (0.5, -1.0, 0.25, 2.0, 350_000.0)] == [1.0, 1.0, 4.0, 0.5, 1 / 350_000]
    with pytest.raises(DataError, match="rewards must be finite, got NaN or infinity in 1 of 2; mend or drop them"):
        scale_for([1.0, np.nan])
    assert effective_share(np.zeros(5), 2.0) == 1.0
    assert effective_share([np.log(3.0), 0.0], 1.0) == pytest.approx(16 / 20)


def test_what_little_can_be_learned_of_is_said():
    log = make_log()
    counts = log.rewards * 0 + 1
    counts[3] = 350_000
    played = replace(log, rewards=counts, reward_range=None)
    with pytest.warns(UserWarning, match="rewards should be of one size, got one of 350000 while nine in ten are at"):
        trained("DDPG", played)
    with pytest.warns(UserWarning, match=r"effective share of 0\.9% of them.*bc_reward=2 and .*reward='log1p'"):
        trained("TD3", played, n_steps=0, reward_scale=1.0)


@pytest.mark.parametrize("name", ["DDPG", "SQN"])
def test_losses_that_are_no_numbers_stop_the_training(name, tmp_path):
    log = make_log()
    agent = trained(name, log, n_steps=2)
    batches = FrameBatches(log, frame_size=5, batch_size=16, seed=1)
    with pytest.raises(
        DivergedError, match=r"got .*=nan.* at step 3 \(rewards of its batch from -0\.[0-9]+ to 1\).*; no che"
    ):
        with torch.no_grad():
            next(agent.nets[-1].parameters()).fill_(torch.nan)
        agents.fit(agent, batches, 10, first_step=2)
    agent = trained(name, log, n_steps=2)
    good = checkpoint.save(tmp_path, 2, agent)

    def spoil(step, losses):
        if step == 5:
            next(agent.nets[-1].parameters()).data.fill_(torch.nan)

    with pytest.raises(DivergedError, match=f"at step 6 .*the last good checkpoint is {good}"):
        agents.fit(agent, batches, 10, spoil, first_step=2)
    with pytest.raises(DivergedError, match=f"weights must be numbers to be saved, got NaN in .*go on from {good}"):
        checkpoint.save(tmp_path, 6, agent)
    assert checkpoint.saved(tmp_path) == [good]


@pytest.mark.slow
def test_stars_rank_as_scaled_ratings_do():
    """They differ by a shift, which no multiple mends; hit_rate@10 of held-out users lies within the interval."""
    train, test = datasets.load("synthetic", n_users=600, n_items=200, reward="raw").split_users(test_size=0.2, seed=0)
    found = []
    for factor, shift in ((0.4, -1.0), (1.0, 0.0)):
        made = [
            replace(log, rewards=factor * log.rewards + np.float32(shift), reward_range=None) for log in (train, test)
        ]
        agent = agents.BCQ(embeddings.svd(made[0], dim=16), frame_size=5, device="cpu", seed=0)
        agents.fit(agent, FrameBatches(made[0], 5, 128, seed=0, later=0.7), 150)
        ranking = evaluate_ranking(
            lambda history, agent=agent: agent.scores(history._replace(user=None)), made[1], k=10
        )
        found.append(ranking.mean_interval("hit_rate@10"))
    assert found[0].low <= found[1].mean <= found[0].high, found
