"""A card for anyone's simulator: a sound one passes, five planted flaws are caught, shapes are adapted."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiDiscrete

from recgym.errors import DataError
from recgym.fidelity import as_gymnasium, judge
from recgym.log import InteractionLog

N_ITEMS = 20
TASTE = np.linspace(1.0, 5.0, N_ITEMS)


class Sound:
    """Stars by item and mood; the same again is worth less, and who is bored leaves."""

    action_space = Discrete(N_ITEMS)
    flaw = ""

    def reset(self, *, seed=None, options=None):
        self.random, self.shown = np.random.default_rng(seed), []
        self.luck = self.random.normal(0, 0.5, 1000)
        return self._seen(), {}

    def answer(self, item):
        if self.flaw == "friendly":
            return 5.0
        repeats = 0 if self.flaw == "pays duplicates" else self.shown.count(item)
        mood = 0.0 if self.flaw == "forgets" or not self.shown else 0.2 * (TASTE[self.shown[-3:]].mean() - 3.0)
        return float(TASTE[item] - 2.0 * repeats * (self.flaw != "forgets") + mood + self.luck[len(self.shown)])

    def _seen(self):
        return np.array([self.luck[len(self.shown)] if self.flaw == "leaks" else 0.0, float(len(self.shown))])

    def step(self, item):
        item = int(item)
        reward = self.answer(item)
        self.shown.append(item)
        bored = self.random.random() < (0.12 if self.flaw == "leaves at random" else 0.25 * (reward < 2.5))
        return self._seen(), reward, bool(bored), False, {}


class Leaking(Sound):
    """Tells the next session's luck beforehand, which is all there is."""

    flaw = "leaks"

    def answer(self, item):
        return float(3.0 + self.luck[len(self.shown)] - 0.1 * self.shown.count(item))


def flawed(name):
    return type("Flawed", (Sound,), {"flaw": name})


def logged():
    random = np.random.default_rng(0)
    items = random.integers(N_ITEMS, size=2000)
    rewards = TASTE[items] + random.normal(0, 0.5, 2000)
    return InteractionLog.from_events(
        np.repeat(np.arange(200), 10), items, rewards, item_ids=np.arange(N_ITEMS), reward="raw"
    )


def test_a_sound_simulator_passes():
    card = judge(Sound, logged(), name="sound")
    assert not [name for name in card.faults if name != "level"], str(card)  # a mood below the log's lowers some
    assert card["remembers"].good and card["reproducible"].value == 1.0
    assert str(card).startswith("simulator card of sound:") and "steps a second" in str(card)


@pytest.mark.parametrize(
    ("made", "line", "words"),
    [
        (flawed("friendly"), "spread of rewards", "every answer is the same"),
        (flawed("forgets"), "remembers", "a bandit with a horizon"),
        (Leaking, "foretells", "is the next reward: a leak"),
        (flawed("pays duplicates"), "pays for repeats", "paid as the first time"),
        (flawed("leaves at random"), "leaving", "leaving has nothing to do with answers"),
    ],
)
def test_planted_flaws_are_caught(made, line, words):
    card = judge(made)
    assert line in card.faults and words in card[line].words


def test_a_friendly_rater_is_seen_beside_the_log():
    """An LLM rater's stub: answers kept in a table, an easy mode that likes everything."""

    def rate(items_so_far, item):
        return 4.5 + 0.02 * (N_ITEMS - item) - 0.05 * items_so_far.count(item)

    rate.n_items = N_ITEMS
    card = judge(lambda: rate, logged())
    assert {"level", "taste"} <= set(card.faults) and "overfriendly" in card["level"].words


def test_other_shapes_are_adapted():
    class Old(Sound):  # Gym 0.2x
        def seed(self, seed):
            self.given = seed

        def reset(self):
            return super().reset(seed=getattr(self, "given", 0))[0]

        def step(self, item):
            observation, reward, terminated, _, _ = super().step(item)
            return observation, reward, terminated, {"TimeLimit.truncated": False}

    class Slates(Old):  # RecSim
        action_space = MultiDiscrete([N_ITEMS, N_ITEMS])

        def step(self, slate):
            assert len(slate) == 2
            return super().step(slate[0])

    first = judge(Sound)
    for shape in (Old, Slates):
        card = judge(shape)
        assert [line.value for line in card.lines[:-1]] == [line.value for line in first.lines[:-1]]

    class Broken(Old):
        def reset(self):
            raise TypeError("a fault of its own")

    with pytest.raises(TypeError, match="a fault of its own"):
        judge(Broken)
    with pytest.raises(DataError, match=r"must have step\(\) and a Discrete or MultiDiscrete action_space"):
        as_gymnasium(object())
    with pytest.raises(DataError, match="must have the same items, got 20 and 1; map them"):
        judge(Sound, InteractionLog.from_events([0], [0], [1.0]))


def test_the_command_prints_it(tmp_path, monkeypatch, capsys):
    from recgym.__main__ import main

    (tmp_path / "mine.py").write_text("from test_simulator_card import Sound, flawed\nFriendly = flawed('friendly')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    assert main(["fidelity", "--simulator", "mine:Sound"]) == 0
    assert "simulator card of mine:Sound: no line is bad" in capsys.readouterr().out
    assert main(["fidelity", "--simulator", "mine:Friendly"]) == 1
    assert main(["fidelity", "--simulator", "mine:Nobody"]) == 1
    assert "a simulator must be named as package.module:Name, got 'mine:Nobody'" in capsys.readouterr().err


class Tiring(Sound):
    """Pays for duplicates, while everybody tires of everything."""

    def answer(self, item):
        return float(TASTE[item] - 0.2 * len(self.shown) + self.luck[len(self.shown)])


class Telling(Sound):
    """An observation holds what each item will earn."""

    def _seen(self):
        return np.array([self.answer(item) for item in range(N_ITEMS)])


def test_flaws_in_other_shapes_are_caught_too():
    assert "pays for repeats" in judge(Tiring).faults
    assert "foretells" in judge(Telling).faults
    luck = np.random.default_rng(0)

    def unseeded(items_so_far, item):  # an LLM with a temperature: it remembers nothing
        return float(TASTE[item] + luck.normal())

    unseeded.n_items = N_ITEMS
    card = judge(lambda: unseeded)
    assert "reproducible" in card.faults and card["remembers"].good is None


@pytest.mark.slow
def test_our_own_worlds_have_cards():
    card = judge(lambda: gymnasium.make("recgym/Boredom-v0", action="item"), n_sessions=20)
    assert card["reproducible"].value == 1.0 and card["remembers"].good and card["pays for repeats"].good
