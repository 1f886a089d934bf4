"""GeMS: slates come back from the latent space, the policy finds the one that pays, and it lives in its world."""

import numpy as np
import pytest
import torch

import recgym
from agents import GeMS, fit_online
from agents.gems import vae_loss
from agents.training.slates import SlateBatch
from recgym.catalog import Catalog
from recgym.envs.registry import make_vector_env
from recgym.errors import DataError

CATALOG = Catalog(np.eye(6), np.arange(6), "raw")
PLAIN = {"k": 2, "frame_size": 4, "device": "cpu", "hidden": 32, "latent_dim": 2, "reward_scale": 1.0}
SLATES = np.array([[0, 1], [2, 3], [4, 5]])


def trained():
    agent = GeMS(CATALOG, kl_weight=0.05, lr=5e-3, **PLAIN)
    clicks = np.array([[1, 0], [0, 1], [0, 0]])
    agent.pretrain(SLATES, clicks, 150, batch_size=32)
    return agent, torch.tensor(clicks, dtype=torch.float32)


def test_the_bound_is_what_it_should_be_by_hand():
    agent = GeMS(CATALOG, kl_weight=0.5, click_weight=0.2, **PLAIN)
    vae, slate, clicks = agent.nets.vae, torch.tensor([[0, 3]]), torch.tensor([[1.0, 0.0]])
    mean, log_variance = vae.encode(slate, clicks)
    noise = torch.tensor([[0.3, -1.0]])
    logits, clicked = vae.decode(mean + torch.exp(log_variance / 2) * noise)
    items = -torch.log_softmax(logits, dim=2)[0, [0, 1], [0, 3]].sum()
    likely = torch.sigmoid(clicked[0])
    clicks_part = -torch.log(likely[0]) - torch.log(1 - likely[1])
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
    expected = items + 0.2 * clicks_part + 0.5 * divergence
    assert vae_loss(vae, slate, clicks, agent.config, noise).item() == pytest.approx(expected.item(), rel=1e-5)


def test_slates_come_back_and_the_policy_finds_the_one_that_pays():
    agent, clicks = trained()
    point = agent.nets.vae.encode(torch.tensor(SLATES), clicks)[0]
    assert torch.equal(agent.nets.vae.decode(point)[0].argmax(dim=2), torch.tensor(SLATES))
    history = recgym.History(np.full((64, 4), 6), np.zeros((64, 4), np.float32), np.zeros(64, int))

    def pays(slates):
        return 0.9 * (slates == [2, 3]).all(axis=1) + 0.1 * (slates == 4).any(axis=1)

    for _ in range(150):
        slates = agent.act(history, explore=True).numpy()
        reward = pays(slates).astype(np.float32)
        kept = (np.zeros(64, int), *history[:2], slates, reward, *history[:2], np.ones(64, bool), np.zeros(64, bool))
        agent.update(SlateBatch(*kept, slates < 0, None, agent.latent))
    assert pays(agent.act(history).numpy()).mean() == pytest.approx(0.9)


def test_it_lives_in_its_world_and_shows_an_item_once():
    form = {"action": "item", "observation": "history", "n_users": 40, "n_items": 50, "horizon": 12, "frame_size": 30}
    env = make_vector_env(4, world="slate_boredom", k=10, repeats="allow", autoreset_mode="SameStep", **form)
    agent = GeMS(env.catalog, frame_size=30, device="cpu", hidden=16)
    buffer = fit_online(agent, env, 20, batch_size=8, warm_up=20, buffer_size=100)
    assert buffer.sample(3).latent.shape == (3, 32) and agent.updates > 0
    env = make_vector_env(4, world="slate_boredom", k=10, repeats="allow", autoreset_mode="Disabled", **form)
    shown = np.sort(recgym.evaluate_sessions(agent, env, n_sessions=4).items.reshape(-1, 10), axis=1)
    assert (shown[:, 1:] != shown[:, :-1]).all()


def test_what_it_cannot_learn_from():
    with pytest.raises(DataError, match="frames must hold whole slates of k=2, got frame_size=5; give a multiple"):
        GeMS(CATALOG, **PLAIN | {"frame_size": 5})
    agent = GeMS(CATALOG, **PLAIN)
    with pytest.raises(DataError, match=r"slates must be full and of k=2 items, got shape \(3, 3\) and items up to 2"):
        agent.pretrain(np.array([[0, 1, 2]] * 3), np.zeros((3, 3)), 1)
    frames, never = (np.full((2, 4), 6), np.zeros((2, 4), np.float32)), np.zeros(2, bool)
    batch = SlateBatch(never, *frames, SLATES[:2], np.ones(2, np.float32), *frames, never, never, SLATES[:2] < 0)
    with pytest.raises(DataError, match="decisions must hold the latent points of their slates, got none"):
        agent.update(batch)
