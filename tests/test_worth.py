"""The checks that an id's pay can be believed find what they are for, and pass what is sound."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.__main__ import main
from recgym.envs.sessions import Sessions
from recgym.envs.vector import RecVectorEnv
from recgym.evaluation import floors
from recgym.testing.worth import _auc, check_floors, check_once_per_slate, check_order, check_worth
from recgym.users import DRRUsers, ReplayUsers


class LikedFirst(DRRUsers):
    def candidates(self, random, rows, state):
        liked = (state.shown[:, :, None] == state.liked[:, None]).any(axis=2)
        return np.take_along_axis(state.shown, np.argsort(~liked, axis=1, kind="stable"), axis=1)


class Boastful(ReplayUsers):
    """Says the opposite of what it pays."""

    def expected_answers(self, state, items, alone=False):
        chance, worth = super().expected_answers(state, items, alone)
        return chance, -worth


def maker(users, **own):
    def make(n=64, **more):
        given = {
            "action": "item",
            "observation": "history",
            "autoreset_mode": "SameStep",
            "frame_size": 5,
            "horizon": 6,
        }
        if "split" in more:
            raise TypeError("no split")
        return RecVectorEnv(n, users=users, catalog=make_catalog(), **{**given, **own, **more})

    return make


def drr(kind=DRRUsers):
    log = make_log()
    return kind(log, 5, known=log, n_candidates=20, share=0.3)


def test_what_is_sound_passes():
    make = maker(drr())
    assert "order tells nothing (AUC of the place): candidates()" in check_order(make)
    assert "an item earns once per slate" in check_once_per_slate(make)
    assert "nobody earns more than who knows the truth: random" in check_floors(make, [])
    assert check_order(maker(ReplayUsers(make_log(), 5))).startswith("no list of candidates is exposed")


def test_an_order_that_tells_is_refused():
    with pytest.raises(AssertionError, match=r"the place of an item in candidates\(\) must not tell .* got AUC 0.0"):
        check_order(maker(drr(LikedFirst)))


def test_a_list_in_the_infos_that_tells_is_refused():
    class Telling(RecVectorEnv):
        def reset(self, **options):
            observation, infos = super().reset(**options)
            return observation, infos | {"documents": LikedFirst.candidates(self.users, None, None, self.user_state)}

        def step(self, actions):
            *rest, infos = super().step(actions)
            return *rest, infos | {"documents": LikedFirst.candidates(self.users, None, None, self.user_state)}

    def make(n=64):
        given = {
            "action": "item",
            "observation": "history",
            "autoreset_mode": "SameStep",
            "frame_size": 5,
            "horizon": 6,
        }
        return Telling(n, users=drr(), catalog=make_catalog(), **given)

    with pytest.raises(AssertionError, match=r"the place of an item in the info 'documents' must not tell"):
        check_order(make)


def test_paying_twice_is_refused(monkeypatch):
    monkeypatch.setattr(Sessions, "_void", lambda self, slate, candidates: np.zeros(slate.shape, dtype=bool))
    with pytest.raises(AssertionError, match=r"an item must earn once per slate, got .* for one in 2 places under"):
        check_once_per_slate(maker(ReplayUsers(make_log(), 5)))


def test_truth_that_is_none_is_refused():
    with pytest.raises(
        AssertionError, match=r"nobody must earn more than greed, which knows it, got .* mend expected_rew"
    ):
        check_floors(maker(Boastful(make_log(), 5)), [])


def test_floors_that_are_not_of_this_tree_are_refused():
    kept = [floors.Floor("a", "random", 50.0, 49.0, 51.0, 64, 6)]
    with pytest.raises(
        AssertionError, match=r"'random' must earn what its floor says, 50.0000 \[49.0000, 51.0000\], got"
    ):
        check_floors(maker(drr()), kept)


def test_the_area_by_hand():
    assert _auc(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]))[0] == 1.0
    assert _auc(np.array([0.0, 1.0, 1.0, 3.0]), np.array([False, False, True, False]))[0] == pytest.approx(0.5)
    assert _auc(np.zeros(2), np.ones(2, dtype=bool)) == (0.5, float("inf"))


def test_the_command_checks_an_id_of_somebody_else(capsys):
    gym.register(
        "theirs/Toy-v3",
        entry_point="recgym.envs.registry:make_env",
        vector_entry_point="recgym.envs.registry:make_vector_env",
        kwargs={"world": "boredom", "n_users": 60, "n_items": 30, "horizon": 10},
    )
    try:
        assert main(["check", "theirs/Toy-v3"]) == 0
        assert "nobody earns more than who knows the truth" in capsys.readouterr().out
    finally:
        del gym.registry["theirs/Toy-v3"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Synthetic-Frame-v0", "Synthetic-DRR-v1", "InterestEvolution-v1", "Slate-v1"])
def test_ids_of_this_project(kind):
    assert len(check_worth(f"recgym/{kind}", horizon=20)) == 3
