"""The algorithms as their papers have them, by one word: their pages say what it sets, and they learn known values."""

import numpy as np
import pytest
import torch

import agents
from agents.embedding_agent import Decisions
from recgym.catalog import Catalog
from recgym.errors import DataError, OptionError
from recgym.frames import Batch, History

NAMES = ["BCQ", "DDPG", "DQN", "DRR", "LSTMActorCritic", "REINFORCE", "SAC", "SQN", "SequenceREINFORCE", "TD3", "TD3BC"]
NAMES += ["SequenceTD3BC", "SlateQ", "GeMS"]
GRID = np.linspace(-1.0, 1.0, 41)  # actions that a log shows: items on a line


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_preset_sets_and_options_win(name):
    agent_class = getattr(agents, name)
    catalog, paper = Catalog(np.eye(4), np.arange(4)), agent_class.presets["paper"]
    agent = agent_class(catalog, frame_size=10, device="cpu", preset="paper")
    ours = agent_class(catalog, frame_size=10, device="cpu").config
    for option, value in paper.items():
        assert getattr(agent.config, option) == value
        assert (f"`{option}={value!r}` (ours {getattr(ours, option)!r})" in agent_class.__doc__) == (
            value != getattr(ours, option)
        )
    other = next(option for option in ("gamma", "q_weight", "reward_scale") if option in paper)
    assert getattr(agent_class(catalog, device="cpu", preset="paper", **{other: 0.25}).config, other) == 0.25


def test_unknown_presets_and_options():
    catalog = Catalog(np.eye(2), np.arange(2))
    with pytest.raises(
        DataError, match=r"preset of TD3 must be one of: 'paper'; got 'papers'; leave it out for our def"
    ):
        agents.TD3(catalog, preset="papers")
    with pytest.raises(DataError, match="preset of SequenceModel must be one of: there is none; got 'paper'"):
        agents.SequenceModel(catalog, preset="paper")
    for option, meant in (
        ("lr", "actor_lr or critic_lr"),
        ("gama", "gamma"),
        ("learning_rate", "actor_lr or critic_lr"),
    ):
        with pytest.raises(
            OptionError, match=rf"an option of DDPG must be one of actor_init, .*got '{option}'.*{meant}\?"
        ):
            agents.DDPG(catalog, **{option: 0.1})


def line(n, seed):
    """Decisions on a line: the state is the last action s, and a earns 1 - (a + s/2)**2, so Q* is that + g/(1 - g)."""
    random = np.random.default_rng(seed)
    before, action = random.integers(len(GRID), size=(2, n))
    reward = (1.0 - (GRID[action] + GRID[before] / 2) ** 2).astype(np.float32)
    nothing, never = np.zeros((n, 1), dtype=np.float32), np.zeros(n, dtype=bool)
    return Batch(before, before[:, None], nothing, action, reward, action[:, None], nothing, never, never)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DDPG", "TD3", "SAC", "BCQ"])
def test_values_of_a_line_are_those_worked_out(name):
    more = {
        "DDPG": {"tau": 0.02, "actor_lr": 1e-3},
        "TD3": {"tau": 0.02},
        "SAC": {"tau": 0.02, "actor_lr": 1e-3, "critic_lr": 1e-3, "alpha_init": 0.01, "alpha_lr": 0.0},
        "BCQ": {"tau": 0.02, "generator_hidden": 64},
    }
    agent = getattr(agents, name)(
        Catalog(GRID[:, None], np.arange(len(GRID))),
        frame_size=1,
        device="cpu",
        preset="paper",
        gamma=0.5,
        hidden=64,
        **more[name],
    )
    for step in range(1500):
        agent.update(line(128, step))
    asked = line(200, seed=-1 % 2**32)
    values = agents.training.diagnosis.logged_values(agent, asked).numpy()
    known = 1.0 - (GRID[asked.action] + GRID[asked.items[:, 0]] / 2) ** 2 + 1.0  # 0.5 / (1 - 0.5)
    assert np.abs(values - known).mean() < 0.15, np.abs(values - known).mean()
    frames = History(np.arange(0, 41, 5)[:, None], np.zeros((9, 1), dtype=np.float32), np.ones(9, dtype=int))
    actions = agent.act(frames)[:, 0].numpy()
    assert np.abs(actions + GRID[::5] / 2).mean() < 0.2, actions


@pytest.mark.slow
def test_dqn_learns_the_values_of_a_small_decision_process():
    catalog, gamma = Catalog(np.eye(5), np.arange(5)), 0.5
    rewards = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    known = np.zeros((5, 5))
    for _ in range(500):
        known = rewards + gamma * known.max(axis=1)[None, :]  # the next state is the item shown
    agent = agents.DQN(catalog, frame_size=1, device="cpu", preset="paper", gamma=gamma, hidden=64, tau=0.05)
    random = np.random.default_rng(1)
    for _ in range(1500):
        before, action = random.integers(5, size=(2, 64))
        nothing, never = np.zeros((64, 1), dtype=np.float32), np.zeros(64, dtype=bool)
        agent.update(
            Batch(
                before,
                before[:, None],
                nothing,
                action,
                rewards[before, action],
                action[:, None],
                nothing,
                never,
                never,
            )
        )
    history = History(np.arange(5)[:, None], np.zeros((5, 1), dtype=np.float32), np.ones(5, dtype=int))
    found = agent.scores(history).numpy()
    assert np.abs(found - known).mean() < 0.03 * known.mean()
    assert (found.argmax(axis=1) == known.argmax(axis=1)).all()


@pytest.mark.slow
def test_td3_learns_to_swing_a_pendulum_up():
    """Vectors are torques, no items. Chance returns some -1,200; learned policies are known for -250 to -100."""
    import gymnasium as gym

    from agents import td3

    config = td3.Config(**{**td3.PAPER, "hidden": 256, "noise": 0.1})
    torch.manual_seed(0)
    nets = td3.make_networks(3, 1, config)
    optimizers, generator = td3.make_optimizers(nets, config), torch.Generator().manual_seed(0)
    env, random = gym.make("Pendulum-v1"), np.random.default_rng(0)
    env.action_space.seed(0)
    nobody = torch.zeros(1, 1)
    kept: list[tuple[np.ndarray, ...]] = []
    returns, state = [0.0], env.reset(seed=0)[0]
    for step in range(1, 9001):
        with torch.no_grad():
            own = nets.actor(torch.tensor(state)[None])[0].numpy()
        action = random.uniform(-1, 1, 1) if step < 1000 else np.clip(own + 0.1 * random.normal(size=1), -1, 1)
        after, reward, terminated, truncated, _ = env.step((2.0 * action).astype(np.float32))
        kept.append((state, action, np.float32(reward), after, terminated))
        returns[-1] += float(reward)
        state = after
        if truncated:
            state = env.reset()[0]
            returns.append(0.0)
        if step >= 1000:
            rows = random.integers(len(kept), size=256)
            drawn = zip(*(kept[row] for row in rows), strict=True)
            columns = (torch.tensor(np.array(column), dtype=torch.float32) for column in drawn)
            before, vector, earned, later, over = columns
            batch = Decisions((before,), torch.zeros(256, dtype=torch.long), vector, earned, (later,), over.bool())
            turn = {"with_actor": step % 2 == 0, "generator": generator}
            td3.td3_update(batch, nets, optimizers, nobody, config, **turn)
    assert np.mean(returns[-11:-1]) > -300, returns
