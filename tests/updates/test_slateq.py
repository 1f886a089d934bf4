"""SlateQ: slates by its three ways, what it learns where the answer is known, and a run in an environment."""

from itertools import combinations

import numpy as np
import pytest
import torch

import agents
import recgym
from agents import SlateQ, buffer_for, fit_online
from agents.slateq import Judgement, best_slates, slate_value
from agents.training.slates import SlateBatch, SlateBuffer
from recgym.catalog import Catalog
from recgym.envs.registry import make_vector_env, registered
from recgym.errors import DataError, StoreError
from recgym.frames import Batch

CATALOG = Catalog(np.eye(5), np.arange(5), "raw")
PLAIN = {"frame_size": 2, "device": "cpu", "hidden": 16, "reward_scale": 1.0}


def judged(seed=0, n=6, rows=40):
    draw = torch.Generator().manual_seed(seed)
    return Judgement(*(torch.randn(shape, generator=draw) for shape in ((rows, n), (rows, n), (rows,))))


@pytest.mark.parametrize("choice", ["logit", "independent"])
def test_the_exact_slate_is_the_best_of_all(choice):
    told = judged()
    offered = torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) < 0.8
    offered[:, :3] = True
    every = [torch.tensor(slate).expand(40, 3) for slate in combinations(range(6), 3)]
    values = torch.stack([slate_value(told, slate, choice) for slate in every])
    may = torch.stack([offered.gather(1, slate).all(dim=1) for slate in every])
    best = values.masked_fill(~may, -torch.inf).amax(dim=0)
    found = {how: best_slates(told, offered, 3, choice, how) for how in ("top_k", "greedy", "optimal")}
    for slates in found.values():
        assert offered.gather(1, slates).all() and all(len(set(row)) == 3 for row in slates.tolist())
        assert (slate_value(told, slates, choice) <= best + 1e-6).all()
    assert torch.allclose(slate_value(told, found["optimal"], choice), best, atol=1e-6)
    if choice == "logit":  # the others are rules of thumb
        assert not torch.allclose(slate_value(told, found["top_k"], choice), best, atol=1e-3)


@pytest.mark.parametrize("choice", ["logit", "independent"])
def test_it_learns_the_known_values_of_a_small_world(choice):
    """One state, five items of known appeal and worth: Q(s, none) = gamma V, gains are the rewards, V a fixed point."""
    appeal, worth, gamma, draw = (
        torch.tensor([1.0, -1, 0.5, 2, -2]),
        torch.tensor([1.0, 3, 2, 0.2, 5]),
        0.5,
        np.random.default_rng(3),
    )
    known = Judgement(appeal[None], worth[None], torch.zeros(1))
    best = best_slates(known, torch.ones(1, 5, dtype=torch.bool), 2, choice, "optimal")
    v = float(slate_value(known, best, choice)) / (1 - gamma)
    n = 6_000
    slates = np.argsort(draw.random((n, 5)), axis=1)[:, :2]
    shown = appeal.numpy()[slates]
    if choice == "independent":
        answered = draw.random((n, 2)) < 1 / (1 + np.exp(-shown))
    else:
        reached = np.cumsum(np.exp(shown) / (1 + np.exp(shown).sum(axis=1, keepdims=True)), axis=1)
        point = draw.random((n, 1))
        answered = (point < reached) & (np.cumsum(point < reached, axis=1) == 1)
    reward = (worth.numpy()[slates] * answered).sum(axis=1).astype(np.float32)
    empty, none, never = np.full((n, 2), 5), np.zeros((n, 2), np.float32), np.zeros(n, bool)
    batch = SlateBatch(np.zeros(n, int), empty, none, slates, reward, empty, none, never, never, answered)
    agent = SlateQ(CATALOG, k=2, gamma=gamma, choice=choice, tau=0.1, lr=0.01, **PLAIN)
    for _ in range(300):
        rows = draw.integers(n, size=128)
        agent.update(SlateBatch(*(None if part is None else part[rows] for part in batch)))
    told = agent.nets.critic(*agent.frames_of(recgym.History(empty[:1], none[:1], np.zeros(1, int))))
    assert torch.allclose(told.gain[0], worth, atol=0.4)
    assert told.none.item() == pytest.approx(gamma * v, rel=0.15)
    shares = torch.softmax(torch.cat([told.appeal[0], torch.zeros(1)]), 0) - torch.softmax(
        torch.cat([appeal, torch.zeros(1)]), 0
    )
    assert shares.abs().max() < 0.06
    history = recgym.History(empty[:3], none[:3], np.zeros(3, int))
    earned = slate_value(known, agent.slates(history)[:1], choice)
    assert earned >= 0.95 * slate_value(known, best, choice)


WORLD = {"world": "interest_evolution", "k": 3, "repeats": "allow", "horizon": 30, "n_users": 40, "n_items": 60}
FORM = {"action": "item", "observation": "history", "autoreset_mode": "SameStep"}


def test_it_lives_in_an_environment_of_slates_and_resumes_to_the_bit():
    env = make_vector_env(6, **WORLD, **FORM)
    agent = SlateQ(env.catalog, k=3, device="cpu", hidden=16)
    buffer = fit_online(agent, env, 30, batch_size=8, warm_up=20, buffer_size=100)
    batch = buffer.sample(4)
    assert isinstance(buffer, SlateBuffer) and batch.action.shape == batch.answered.shape == (4, 3)
    assert batch.candidates.shape == (4, 10) and agent.updates == 27
    result = recgym.evaluate_sessions(
        agent, make_vector_env(4, **WORLD, **FORM | {"autoreset_mode": "Disabled"}), n_sessions=6
    )
    listed = result.items[result.items[:, :, 0] < 60]
    assert (np.sort(listed, axis=1)[:, 1:] != np.sort(listed, axis=1)[:, :-1]).all()
    again, copied = SlateQ(env.catalog, k=3, device="cpu", hidden=16), buffer_for(agent, env, 100)
    again.load_state_dict(agent.state_dict())
    copied.load_state_dict(buffer.state_dict())
    losses = [one.update(kept.sample(8)) for one, kept in ((agent, buffer), (again, copied))]
    assert losses[0] == losses[1]


def test_it_wants_an_environment_of_its_own_slates():
    env = make_vector_env(2, **WORLD, **FORM)
    with pytest.raises(DataError, match=r"observation='history', autoreset_mode='SameStep' and k=2, got \('history', "):
        fit_online(SlateQ(env.catalog, k=2, device="cpu"), env, 1)
    with pytest.raises(DataError, match="slates must be one of top_k, greedy, optimal, got 'best'; choose"):
        SlateQ(CATALOG, slates="best", **PLAIN)


def test_models_of_stable_baselines3_show_slates():
    from stable_baselines3 import PPO

    from agents.integrations.sb3 import SB3Agent, make_vec_env

    venv = make_vec_env("recgym/InterestEvolution-v1", 4, k=3, n_users=40, n_items=60, horizon=30, action="item")
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(32)
    agent = SB3Agent(model, venv.env.catalog)
    result = recgym.evaluate_sessions(
        agent, make_vector_env(4, **WORLD, **FORM | {"autoreset_mode": "Disabled"}), n_sessions=6
    )
    listed = np.sort(result.items[result.items[:, :, 0] < 60], axis=1)
    assert agent.k == 3 and (listed[:, 1:] != listed[:, :-1]).all()
    history = recgym.History(np.full((2, 10), 60), np.zeros((2, 10), np.float32), np.zeros(2, int))
    first = agent.scores(history).argmax(dim=1)
    assert torch.equal(agent.slates(history)[:, 0], first)
    assert (agent.slates(history, np.arange(60)[None].repeat(2, 0) < 9) < 9).all()


def test_of_slates_of_one_it_shows_items():
    form = FORM | {"n_users": 30, "n_items": 20, "horizon": 8}
    env = make_vector_env(4, world="boredom", **form)
    agent = SlateQ(env.catalog, k=1, choice="independent", device="cpu", hidden=8)
    fit_online(agent, env, 8, batch_size=8, warm_up=8)
    history = recgym.History(np.full((3, 10), 20), np.zeros((3, 10), np.float32), np.zeros(3, int))
    assert torch.equal(agent.act(history), agent.scores(history).argmax(dim=1)) and agent.updates > 0
    alone = make_vector_env(4, world="boredom", **form | {"autoreset_mode": "Disabled"})
    assert recgym.evaluate_sessions(agent, alone, n_sessions=4).lengths.mean() == 8


IDS = {
    "InterestEvolution-v1": {"k": 2, "n_items": 60},
    "Slate-v1": {"k": 3, "n_items": 40},
    "Retention-v0": {"k": 3},
    "SlateBoredom-v0": {"k": 10, "n_items": 60, "frame_size": 20},
}


@pytest.mark.parametrize("name", ["REINFORCE", "DQN", "SequenceREINFORCE", "DDPG", "TD3"])
@pytest.mark.parametrize("env_id", IDS)
def test_agents_of_single_items_act_and_learn_in_every_slate_id(env_id, name):
    """They fill k places, no item twice; what is kept is the first item answered, or the first shown."""
    vector = name in ("DDPG", "TD3")
    form = FORM | {"n_users": 30, "horizon": 12} | IDS[env_id] | ({"action": "embedding"} if vector else {})
    env = make_vector_env(6, **registered(f"recgym/{env_id}") | form)
    small = {"width": 8} if name.startswith("Seq") else {"hidden": 8}
    agent, seen, step = (
        getattr(agents, name)(env.catalog, frame_size=env.frame_size, device="cpu", **small),
        [],
        env.step,
    )

    def watched(actions):
        out = step(actions)
        infos = out[4]
        for row in range(6):
            last = infos.get("_final_info", np.zeros(6, bool))[row]
            told = {
                part: infos["final_info"][part][row] if last else infos[part][row] for part in ("items", "answered")
            }
            assert len(set(told["items"].tolist())) == env.k
            seen.append(told["items"][told["answered"].argmax()])  # argmax of none is the first place
        return out

    env.step = watched
    buffer = fit_online(agent, env, 8, batch_size=8, warm_up=12, buffer_size=100)
    assert agent.updates == 7 and buffer.columns.action[: len(buffer)].tolist() == seen[: len(buffer)]


def test_the_list_correction_learns_slates_of_what_is_answered():
    """Answers go to two of nine items; lists of two end up being those, first or second."""
    agent = agents.REINFORCE(
        Catalog(np.eye(9), np.arange(9), "raw"), k=2, frame_size=1, device="cpu", hidden=16, dropout=0.0, actor_lr=0.02,
        beta_lr=0.1, baseline=0.0, bc_weight=0.0, normalise=False, mask_seen=False, correction="top_k",
    )  # fmt: skip
    nothing, history = (
        np.zeros((64, 1), np.float32),
        recgym.History(np.full((64, 1), 9), np.zeros((64, 1)), np.zeros(64, int)),
    )
    for _ in range(150):
        slates = agent.act(history, explore=True, k=2).numpy()
        answered = np.isin(slates, [3, 7])
        chosen = np.take_along_axis(slates, answered.argmax(axis=1)[:, None], axis=1)[:, 0]
        over = np.ones(64, bool)
        frame = history.items, nothing
        agent.update(
            Batch(np.zeros(64, int), *frame, chosen, answered.any(axis=1).astype(np.float32), *frame, over, ~over)
        )
    assert sorted(agent.act(history, k=2)[0].tolist()) == [3, 7]
    drawn = agent.act(history, explore=True, k=9)
    assert all(sorted(row) == list(range(9)) for row in drawn.tolist())


def test_an_agent_that_fills_no_slates_is_told_so():
    class Single(agents.DQN):
        def act(self, history, *, explore=False, allowed=None):
            return super().act(history, explore=explore, allowed=allowed)

    env = make_vector_env(2, **WORLD, **FORM)
    with pytest.raises(DataError, match=r"autoreset_mode='SameStep' and k=1, got \('history', 'SameStep', 3\)"):
        fit_online(Single(env.catalog, device="cpu"), env, 1)


@pytest.mark.parametrize("name", ["SlateQ", "GeMS"])
def test_the_command_line_trains_judges_and_goes_on(name, tmp_path, capsys, monkeypatch):
    from agents import gems, slateq
    from agents.training.worlds import WorldRun

    monkeypatch.setattr(gems.pretrained_on_random_slates, "__defaults__", (64, 3))
    given = {"env": "recgym/Slate-v1"} if name == "SlateQ" else {"env": "recgym/SlateBoredom-v0"}
    more = {
        "rows": 4,
        "batch_size": 8,
        "warm_up": 8,
        "sessions": 4,
        "save_every": 3,
        "device": "cpu",
        "buffer_size": 50,
    }
    monkeypatch.setattr(WorldRun, "made", _small_made)
    module, small = (slateq, {"k": 2}) if name == "SlateQ" else (gems, {"k": 5, "latent_dim": 2})
    config = module.Config(hidden=8, **small)
    module.main(WorldRun(steps=5, folder=tmp_path / "whole", **given, **more), config)
    assert "a session of held-out people [" in (said := capsys.readouterr().out) and "random slates earn" in said
    module.main(WorldRun(steps=3, folder=tmp_path / "parts", **given, **more), config)
    with pytest.raises(StoreError, match="must be free, got a run with checkpoints; pass --resume"):
        module.main(WorldRun(steps=5, folder=tmp_path / "parts", **given, **more), config)
    module.main(WorldRun(steps=5, folder=tmp_path / "parts", resume=True, **given, **more), config)
    whole, parts = (agents.load(tmp_path / part, device="cpu") for part in ("whole", "parts"))
    for net, other in zip(whole.nets, parts.nets, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def _small_made(run, rows, k, split, autoreset):
    small = {"n_users": 40, "n_items": 60, "horizon": 6, "frame_size": 10}
    form = {"action": "item", "observation": "history", "autoreset_mode": autoreset, "k": k, "split": split}
    return make_vector_env(rows, **registered(run.env) | small | form)
