"""`-Sim-v0`: halves with models of their own, fitted once, guarded on request, and how far they differ."""

import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from recgym import datasets, users
from recgym.envs import registry
from recgym.envs.registry import make_vector_env
from recgym.errors import DataError, OptionError
from recgym.storage import cache
from recgym.users.fitted.gap import difference
from recgym.users.fitted.penalties import next_entropy
from recgym.worlds import sim
from recgym.worlds.logs import load_parts

SMALL = {"n_users": 120, "n_items": 90, "dim": 8, "max_epochs": 3, "n_members": 3}
DATA = {name: SMALL[name] for name in ("n_users", "n_items", "dim")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """One cache for all tests here, apart from that of others."""
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path_factory.getbasetemp() / "sim"))


def made(**options):
    return gym.make("recgym/Synthetic-Sim-v1", **SMALL, **options).unwrapped


def test_each_half_has_a_model_of_its_own_people():
    """No leak: the training simulator saw no test user, and the other way round."""
    parts = {split: load_parts(split=split, test_size=0.5, **DATA) for split in ("train", "test")}
    envs = {split: made(split=split) for split in ("train", "test")}
    for split, other in (("train", "test"), ("test", "train")):
        model = envs[split].users
        assert model.saw(parts[split].served) == (1.0, 1.0, True)
        assert model.saw(parts[other].served).users == 0.0
        assert len(model.servable) == 60 and set(model.user_ids) == set(parts[split].served.user_ids)
    assert np.array_equal(envs["train"].catalog.table, envs["test"].catalog.table)
    everyone = made(split="all").users
    assert everyone.saw(parts["test"].served).users == everyone.saw(parts["train"].served).users == 1.0


def test_a_planted_leak_is_seen():
    """Fitting on everyone, as a careless caller would, and serving the result as the training simulator."""
    parts = load_parts(split="all", test_size=0.5, **DATA)
    _, test = parts.served.split_users(0.5)
    leaky, _ = sim.fitted_users(parts.served, parts.catalog, max_epochs=1, n_members=1)
    assert leaky.saw(test).users == 1.0 and leaky.saw(test).events == 1.0 and not leaky.saw(test).same


def test_fitted_once_and_read_from_the_cache(monkeypatch):
    before = made(fit_seed=3).users
    registry._loaded.cache_clear()

    def fitted_again(*args, **kwargs):
        raise AssertionError("the users were fitted again")

    monkeypatch.setattr(sim, "fit", fitted_again)
    after = made(fit_seed=3).users
    assert after is not before and np.array_equal(after.answers.users, before.answers.users)
    with pytest.raises(AssertionError, match="the users were fitted again"):
        made(fit_seed=4)
    with pytest.raises(AssertionError, match="the users were fitted again"):
        made(fit_seed=3, weights="propensity")
    registry._loaded.cache_clear()


def test_a_damaged_entry_is_fitted_anew(caplog):
    log = datasets.load("synthetic", n_users=50, n_items=40)
    parts = load_parts(n_users=50, n_items=40, dim=4)
    _, folder = sim.fitted_users(parts.served, parts.catalog, max_epochs=1, n_members=1)
    (folder / "model.safetensors").write_bytes(b"")
    model, again = sim.fitted_users(parts.served, parts.catalog, max_epochs=1, n_members=1)
    assert again == folder and "damaged or foreign and is built again" in caplog.text
    assert len(model.user_ids) < log.n_users and model.log is parts.served
    (folder / "card.md").write_text("how far to trust it")  # what is put beside a model leaves it usable
    assert users.LearnedUsers.load(folder).about == model.about


def test_a_large_fit_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(sim, "_LARGE", 10)
    parts = load_parts(n_users=51, n_items=40, dim=4)
    seen = []

    def fit(*arguments, **options):
        seen.append(options["folder"])
        model = users.fit(*arguments, **options)
        assert (options["folder"] / "members").is_dir()
        return model

    monkeypatch.setattr(sim, "fit", fit)
    sim.fitted_users(parts.served, parts.catalog, max_epochs=1, n_members=1)
    assert seen[0].parent == cache.cache_dir() / "unfinished" and not seen[0].exists()
    shutil.rmtree(cache.cache_dir() / "unfinished")


FIT = """
import sys
from recgym.worlds import sim
from recgym.worlds.logs import load_parts

sim._LARGE, real = 10, sim.fit

def fit(*arguments, **options):
    print("fitted", flush=True)
    sys.stdin.readline()  # until both are at it
    return real(*arguments, **options)

sim.fit = fit
parts = load_parts(n_users=52, n_items=40, dim=4)
print("began", flush=True)
model, folder = sim.fitted_users(parts.served, parts.catalog, max_epochs=2, n_members=1)
print(folder, model.answers.users.sum())
"""


@pytest.mark.slow
def test_two_processes_that_want_one_large_fit_make_it_once():
    both = [
        subprocess.Popen([sys.executable, "-c", FIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.stdout.readline() for one in both] == ["began\n"] * 2
    for one in both:
        one.stdin.close()
    said = [one.stdout.read().splitlines() for one in both]
    assert [one.wait() for one in both] == [0, 0]
    assert sorted(len(lines) for lines in said) == [1, 2]  # one fitted, the other waited and took it
    assert said[0][-1] == said[1][-1]
    assert not list(cache.cache_dir().glob("unfinished/*")) and not list(cache.cache_dir().glob("entries/.*"))


def test_a_damaged_unfinished_fit_is_set_aside_and_begun_anew(log, catalog, tmp_path, caplog):
    def fitted(folder):
        return users.fit(log, catalog, dim=4, max_epochs=2, n_members=1, folder=folder)

    whole = fitted(tmp_path / "whole")
    fitted(tmp_path / "cut")
    (state,) = tmp_path.glob("cut/**/members/state.safetensors")
    for damage in (b"", state.read_bytes()[:-9]):
        state.write_bytes(damage)
        again = fitted(tmp_path / "cut")
        assert "it is damaged, make it again; what is left of it stands at" in caplog.text
        assert again.about == whole.about and np.array_equal(again.answers.users, whole.answers.users)
        assert (state.parent.with_name("members.damaged") / state.name).read_bytes() == damage


def test_guards_are_options_of_the_environment():
    plain, guarded = (
        make_vector_env(64, world="sim", action="item", **SMALL, **options)
        for options in ({}, {"pessimism": 1.0, "entropy_bonus": 0.2})
    )
    entropy = next_entropy(plain.users.log)
    actions = np.arange(64)
    results = []
    for env in (plain, guarded):
        env.reset(seed=0)
        state = env.user_state
        results.append(env.step(actions))
    fresh = ~plain._sessions.seen[:, 0] | True
    spread = plain.users.predict(state.user, actions)[1]
    expected = results[0][1] - spread + 0.2 * entropy[actions]
    paid = results[0][4]["answered"][:, 0] & fresh  # a repeat of the frame earns nothing
    assert paid.sum() > 30 and np.allclose(results[1][1][paid], expected[paid], atol=2e-4)
    assert np.array_equal(results[0][0][:, -10:], results[1][0][:, -10:])  # what enters the frame is the answer itself
    assert guarded.users.reward_range[0] < plain.users.reward_range[0]
    assert guarded.users.answers is plain.users.answers or np.array_equal(
        guarded.users.answers.users, plain.users.answers.users
    )


def test_how_halves_differ():
    halves = sim.compare_halves(**SMALL)
    train, test = (made(split=split).users for split in ("train", "test"))
    assert halves == difference(train, test)
    assert halves.mean_a == pytest.approx(train.means_of_all(train.servable).mean(), abs=1e-6)
    expected = train.means_of_all(train.servable).mean((0, 2)) - test.means_of_all(test.servable).mean((0, 2))
    assert halves.gap == pytest.approx(np.sqrt((expected**2).mean()), abs=1e-6)
    itself = difference(train, train)
    assert itself.gap == 0 and itself.rank_correlation == pytest.approx(1) and itself.top_overlap == 1
    assert halves.gap > 0 and halves.rank_correlation < 1
    with pytest.raises(DataError, match="two simulators must have the same items, got 90 and 40 that differ; fit both"):
        difference(train, sim.world(n_users=50, n_items=40, dim=4, max_epochs=1)[1])


def test_sessions_are_what_leaving_was_fitted_on():
    assert made().users.leaving.sessions == "interval" and made(sessions="one").users.leaving.sessions == "one"
    old = gym.make("recgym/Synthetic-Sim-v0", **SMALL).unwrapped.users
    assert old.leaving.sessions == "one" and old.known is None
    assert made(sessions="never").users.leaving.sessions == "never"
    shop = gym.make("recgym/Synthetic-Sim-v1", dataset="synthetic-shop", sessions="interval", **SMALL).unwrapped
    assert shop.users.leaving.sessions == "interval" and len(shop.users.levels) > 2
    ends = [0, 0]
    env = gym.make_vec(
        "recgym/Synthetic-Sim-v1", num_envs=32, dataset="synthetic-shop", sessions="interval", action="item",
        horizon=50, autoreset_mode="SameStep", repeats="allow", **SMALL,
    )  # fmt: skip
    env.reset(seed=0)
    for _ in range(60):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        ends[0], ends[1] = ends[0] + terminated.sum(), ends[1] + truncated.sum()
    assert ends[0] > ends[1]  # most sessions end because users leave


@pytest.mark.parametrize("world", ["drift", "boredom", "slate", "interest_evolution", "long_term_satisfaction"])
def test_an_unknown_option_of_a_world_without_data_is_named(world):
    with pytest.raises(OptionError, match=rf"options of world '{world}' must be among action, .*, got colour; d"):
        make_vector_env(2, world=world, colour=3)
    with pytest.raises(DataError):
        make_vector_env(2, world=world, colour=3)


def test_what_the_model_is_fitted_with_are_options_of_the_environment():
    chosen = {"held_out": 0.25, "patience": 2, "lr": 0.05, "l2": [3.0]}
    about = made(**chosen).users.about
    assert {name: about[name] for name in chosen} == chosen
    plain = made().users.about
    assert (plain["held_out"], plain["patience"], plain["lr"], plain["l2"]) == (0.1, 5, 0.02, [2.0, 4.0, 8.0, 16.0])
    with pytest.raises(DataError, match="held_out must lie between 0 and 1, got 2"):
        made(held_out=2)


def test_a_table_of_short_histories(tmp_path):
    random = np.random.default_rng(0)
    rows = [f"{user},{item},{random.integers(1, 6)},{at}" for user in range(40) for at, item in enumerate(range(5))]
    (tmp_path / "per5.csv").write_text("\n".join(["u,i,r,t", *rows]))
    columns = {"path": str(tmp_path / "per5.csv"), "user": "u", "item": "i", "reward": "r", "time": "t"}
    fast = {"dim": 4, "max_epochs": 1, "n_members": 1, "frame_size": 3}
    env = gym.make("recgym/Table-Sim-v1", **columns, **fast, known="allow").unwrapped
    assert env.users.about["held_out"] == 0.1 and len(env.users.user_ids) == 20


def test_an_unknown_option_of_a_simulator_is_named():
    with pytest.raises(OptionError, match=r"options of world 'sim' must be among .*, got colour; drop those"):
        make_vector_env(2, world="sim", colour=3)


def test_known_items_are_not_shown_again():
    """Neither by vectors nor, for pay, as items; `allow` is as before, and so is `repeats="allow"`."""
    env = make_vector_env(16, world="sim", action="item", observation="history", **SMALL)
    _, infos = env.reset(seed=0)
    log = env.users.log
    own = [log.user(user).items for user in infos["user"]]
    masks = env.action_masks()
    assert not any(mask[items].any() for mask, items in zip(masks, own, strict=True))
    assert (masks.sum(axis=1) == [90 - len(set(items)) for items in own]).all()
    _, rewards, *_, after = env.step(np.array([items[0] for items in own]))
    assert not rewards.any() and not after["answered"].any()
    assert set(env.users.servable) == {u for u in range(log.n_users) if 2 * len(set(log.user(u).items)) <= 90}
    for free in ({"known": "allow"}, {"repeats": "allow"}):
        env = make_vector_env(16, world="sim", action="item", observation="history", **SMALL, **free)
        env.reset(seed=0)
        assert env.step(np.array([items[0] for items in own]))[4]["answered"].all()
    with pytest.raises(DataError, match="known must be one of"):
        made(known="maybe")
    with pytest.raises(DataError, match="known items must come from a log of these users and items, got another"):
        env.users.knowing(datasets.load("synthetic", n_users=50, n_items=40))


def test_only_fitted_trains_nothing():
    with sim.only_fitted(), pytest.raises(DataError, match="users must have been fitted on this machine, got none"):
        made(fit_seed=77)
    assert (
        made().users.memoryless
        and not gym.make(
            "recgym/Synthetic-Sim-v1", **SMALL | {"max_epochs": 1}, model="sequential"
        ).unwrapped.users.memoryless
    )
