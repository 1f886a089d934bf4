"""The checker passes sound environments and catches planted faults, each by name."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import make_catalog, make_log
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recgym.envs.env import RecEnv, RecVectorEnv
from recgym.testing import assert_same, check_vector_env
from recgym.users import ReplayUsers

MODES = list(AutoresetMode)
FOLLOWED = ReplayUsers(make_log(), 5, advance="log")  # users' logs end at different steps
WORLD = {"users": ReplayUsers(make_log(), 5), "catalog": make_catalog(), "frame_size": 5, "horizon": 6}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["item", "embedding"])
@pytest.mark.parametrize("observation", ["frame", "history"])
def test_sound_environments_pass(mode, action, observation):
    options = {"action": action, "observation": observation, **WORLD}
    check_vector_env(RecVectorEnv(4, autoreset_mode=mode, **options), n_steps=40)
    check_vector_env(SyncVectorEnv([lambda: RecEnv(**options)] * 4, autoreset_mode=mode), n_steps=40)


def test_foreign_environments_pass():
    check_vector_env(gym.make_vec("CartPole-v1", 3, vectorization_mode="sync"), n_steps=80)


def test_wrapped_environments_pass_and_single_ones_are_refused():
    wrapped = gym.wrappers.vector.ClipReward(RecVectorEnv(4, action="item", observation="frame", **WORLD), -1.0, 1.0)
    check_vector_env(wrapped, n_steps=40)
    with pytest.raises(AssertionError, match=r"env must be a vector environment, got RecEnv; see gym\.make_vec"):
        check_vector_env(RecEnv(action="item", observation="frame", **WORLD))


class SharedMetadata(RecVectorEnv):
    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, **options):
        super().__init__(4, **options)
        self.metadata = type(self).metadata


class NoAttribute(RecVectorEnv):
    def __init__(self, **options):
        super().__init__(4, **options)
        del self.autoreset_mode


class WrongSpace(RecVectorEnv):
    def __init__(self, **options):
        super().__init__(4, **options)
        self.action_space = self.single_action_space


class Planted(RecVectorEnv):
    """Sound but for what `step` and `reset` of a subclass spoil."""

    def __init__(self, **options):
        super().__init__(4, **options)

    def step(self, actions):
        return self.spoil(*super().step(actions))

    def spoil(self, *step):
        return step


class OutsideTheSpace(Planted):
    def spoil(self, observation, *rest):
        return {
            "item_history": observation["item_history"] + 40,
            "reward_history": observation["reward_history"],
        }, *rest


class FlagsAsInts(Planted):
    def spoil(self, observation, rewards, terminated, truncated, infos):
        return observation, rewards, terminated.astype(int), truncated, infos


class WholeRewards(Planted):
    def spoil(self, observation, rewards, *rest):
        return observation, rewards.astype(int), *rest


class NoMask(Planted):
    def spoil(self, observation, rewards, terminated, truncated, infos):
        return observation, rewards, terminated, truncated, infos | {"shown": infos["items"]}


class ReusedBuffer(Planted):
    def spoil(self, observation, *rest):
        observation["reward_history"] = self._sessions.rewards
        return observation, *rest


class ReusedInfo(Planted):
    def spoil(self, *step):
        step[4]["user"] = self._sessions.user
        return step


class ChangedLater(Planted):
    def spoil(self, *step):
        if getattr(self, "last", None) is not None:
            self.last["late"] = np.zeros(4)
        self.last = step[4]
        return step


class Unseeded(Planted):
    def spoil(self, observation, rewards, *rest):
        self.calls = getattr(self, "calls", 0) + 1
        return observation, rewards + self.calls, *rest


class LateReward(Planted):
    def spoil(self, observation, rewards, *rest):
        return observation, rewards + 1.0, *rest


class LateFlag(Planted):
    def spoil(self, observation, rewards, terminated, truncated, infos):
        terminated |= getattr(self, "before", np.zeros(4, bool))
        self.before = truncated.copy()
        return observation, rewards, terminated, truncated, infos


class FinalsNoOne(Planted):
    def spoil(self, *step):
        step[4].pop("final_obs", None)
        return step


class FinalsEveryone(Planted):
    def spoil(self, *step):
        if "final_obs" in step[4]:
            step[4]["_final_obs"][:] = True
        return step


class FinalsSwapped(Planted):
    def spoil(self, *step):
        if "final_obs" in step[4] and not (step[2] | step[3]).all():
            step[4]["final_obs"] = step[4]["final_obs"][::-1].copy()
        return step


class LyingFinals(Planted):
    def spoil(self, *step):
        step[4]["final_obs"], step[4]["_final_obs"] = np.full(4, None), np.ones(4, bool)
        return step


class NeighbourReset(Planted):
    """A partial reset begins a new session in the next row as well."""

    def reset(self, *, seed=None, options=None):
        if options and np.shape(options["reset_mask"]) == (4,):
            mask = np.asarray(options["reset_mask"])
            super().reset(
                options={"reset_mask": mask | np.roll(mask, 1)} if mask.dtype == bool and mask.any() else options
            )
            return self._observation(), self._infos.of(self._sessions, mask)
        return super().reset(seed=seed, options=options)


class NeighbourTouched(Planted):
    """A partial reset spoils the luck of all rows, which shows in later sessions only, or in rewards."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        if options:
            self._sessions.seen[:] = True
        return result


class AnyMask(Planted):
    def reset(self, *, seed=None, options=None):
        if options and not (np.shape(options["reset_mask"]) == (4,) and np.any(options["reset_mask"])):
            options = None
        elif options:
            options = {"reset_mask": np.asarray(options["reset_mask"], dtype=bool)}
        return super().reset(seed=seed, options=options)


NEXT, SAME, NONE = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
FAULTS = [
    (SharedMetadata, NEXT, "metadata must be the instance's own, got that of class .'SharedMetadata'"),
    (NoAttribute, NEXT, "the attribute autoreset_mode must equal the one in metadata"),
    (WrongSpace, NEXT, r"action_space must be the batch of single_action_space, got Discrete\(40\)"),
    (OutsideTheSpace, NEXT, "every observation must lie in observation_space"),
    (FlagsAsInts, NEXT, r"terminations must be a NumPy bool array \(4,\), got array"),
    (WholeRewards, NEXT, r"rewards must be a NumPy float array \(4,\), got"),
    (NoMask, NEXT, "info 'shown' must have a mask '_shown', a NumPy bool array"),
    (ReusedBuffer, NEXT, "what a step returns must share no memory with what was returned before"),
    (ReusedInfo, SAME, "what a step returns must share no memory with what was returned before"),
    (ChangedLater, NEXT, "a return before and after a later step must be equal"),
    (Unseeded, SAME, "two runs of one seed must be equal"),
    (LateReward, NEXT, r"NEXT_STEP: the step after an end must have reward 0, got \[1\."),
    (LateFlag, NEXT, "NEXT_STEP: the step after an end must flag no end"),
    (FinalsNoOne, SAME, "SAME_STEP: infos must hold 'final_obs' when a row ended"),
    (FinalsEveryone, SAME, "SAME_STEP: the mask of 'final_obs' must be that of the rows that ended"),
    (FinalsSwapped, SAME, r"SAME_STEP: final_obs\[\d\] must"),
    (LyingFinals, NEXT, "only a row that ended under SAME_STEP may have a final observation, got .'final_obs'"),
    (NeighbourReset, NONE, "before and after a partial reset of others must be equal"),
    (NeighbourTouched, NONE, r"row \d in step \d with and without a partial reset of row 0 must be equal"),
    (AnyMask, NONE, "DISABLED: reset must refuse the reset_mask array"),
]


@pytest.mark.parametrize(("faulty", "mode", "message"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_planted_faults_are_caught(faulty, mode, message):
    env = faulty(
        action="item", observation="history", autoreset_mode=mode, miss_reward=-0.125, **WORLD | {"users": FOLLOWED}
    )
    with pytest.raises(AssertionError, match=message):
        check_vector_env(env, n_steps=40)


def test_no_end_in_sight():
    env = RecVectorEnv(2, action="item", **{**WORLD, "horizon": 100})
    with pytest.raises(AssertionError, match="some session must end within n_steps=3, got none; pass more steps"):
        check_vector_env(env, n_steps=3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"b": 1}),
        ([1, 2], [1]),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.array([0, np.nan])),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (1.0, 2.0),
    ],
)
def test_assert_same_sees_differences(one, other):
    assert_same(one, one, "a thing and itself")
    with pytest.raises(AssertionError, match="must be equal"):
        assert_same(one, other, "two things")


def test_nan_equals_itself():
    assert_same(np.array([np.nan]), np.array([np.nan]), "NaN")
    assert_same(float("nan"), float("nan"), "NaN")
