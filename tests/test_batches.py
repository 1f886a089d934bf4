import doctest
import json

import numpy as np
import pytest
import torch

from recgym.batches import FrameBatches, histories, windows
from recgym.batches import frame_batches as batches_module
from recgym.batches.windows import locate_windows, shuffled, window_starts
from recgym.errors import DataError
from recgym.log import InteractionLog

LENGTHS = (14, 3, 18, 9, 1, 25, 4, 30, 12)


@pytest.fixture
def log():
    random = np.random.default_rng(5)
    n = sum(LENGTHS)
    return InteractionLog(
        items=random.integers(0, 40, n).astype(np.int32),
        rewards=np.arange(n, dtype=np.float32),  # an event is known by its reward
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        user_ids=np.arange(len(LENGTHS)) + 100,
        item_ids=np.arange(40),
        times=np.arange(n) * 10,
        propensities=np.linspace(0.1, 1.0, n, dtype=np.float32),
    )


@pytest.mark.parametrize("module", [batches_module, windows], ids=lambda module: module.__name__)
def test_doctests(module):
    assert doctest.testmod(module, extraglobs={"np": np, "InteractionLog": InteractionLog}).failed == 0


def plain_windows(log, frame_size, min_history):
    """Returns every window by a plain loop: user, frame, action and so on, user after user, oldest first."""
    found = []
    for user in range(log.n_users):
        items, rewards, _ = log.user(user)
        for position in range(min_history, len(items)):
            past = list(zip(items.tolist(), rewards.tolist(), strict=True))[max(position - frame_size, 0) : position]
            frame = [(log.n_items, 0.0)] * (frame_size - len(past)) + past
            after = [*frame, (int(items[position]), float(rewards[position]))][1:]
            found.append(
                {
                    "user": user,
                    "items": [item for item, _ in frame],
                    "rewards": [reward for _, reward in frame],
                    "action": int(items[position]),
                    "reward": float(rewards[position]),
                    "next_items": [item for item, _ in after],
                    "next_rewards": [reward for _, reward in after],
                    "last": position == len(items) - 1,
                    "length": len(past),
                }
            )
    return found


def listed(batch, end_of_log="truncate"):
    """Returns the rows of a batch in the form of `plain_windows`."""
    last, never = (
        (batch.truncated, batch.terminated) if end_of_log == "truncate" else (batch.terminated, batch.truncated)
    )
    assert not never.any()
    length = [batch.items.shape[1]] * len(batch.user) if batch.length is None else batch.length.tolist()
    names = ("user", "items", "rewards", "action", "reward", "next_items", "next_rewards")
    return [
        {name: getattr(batch, name)[row].tolist() for name in names} | {"last": bool(last[row]), "length": length[row]}
        for row in range(len(batch.user))
    ]


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("end_of_log", ["truncate", "terminal"])
@pytest.mark.parametrize(
    ("frame_size", "min_history"), [(5, None), (10, None), (5, 0), (5, 1), (5, 3), (3, 8), (40, 2)]
)
def test_windows_equal_a_plain_loop(log, frame_size, min_history, end_of_log, device):
    """Source defect R9 besides: a frame size other than 10 was ignored or died at the first batch."""
    options = {"min_history": min_history, "end_of_log": end_of_log, "drop_last": False, "device": device}
    expected = plain_windows(log, frame_size, frame_size if min_history is None else min_history)
    plain = FrameBatches(log, frame_size, 7, shuffle=False, **options)
    assert [row for batch in plain for row in listed(batch, end_of_log)] == expected
    assert plain.n_windows == len(expected) and len(plain) == -(-len(expected) // 7)
    mixed = [row for batch in FrameBatches(log, frame_size, 7, seed=1, **options) for row in listed(batch, end_of_log)]
    assert mixed != expected and len(mixed) == len(expected)
    assert sorted(mixed, key=str) == sorted(expected, key=str)  # every window exactly once


def test_end_of_log_is_truncated_unless_asked_r8(log):
    """Source defect R8: the end of a user's log was a terminal."""
    (batch,) = FrameBatches(log, 5, 78, shuffle=False, drop_last=False)
    assert not batch.terminated.any() and batch.truncated.sum() == sum(length > 5 for length in LENGTHS)
    (batch,) = FrameBatches(log, 5, 78, shuffle=False, drop_last=False, end_of_log="terminal")
    assert not batch.truncated.any() and batch.terminated.sum() == sum(length > 5 for length in LENGTHS)


def test_batch_holds_arrays_under_their_own_names_r14(log):
    """Source defect R14: ratings and items were swapped, and rows counted on the caller's side."""
    batch = next(iter(FrameBatches(log, 5, 16)))
    assert batch.items.dtype == np.int64 and batch.rewards.dtype == np.float32
    assert batch.items.shape == batch.next_rewards.shape == (16, 5) and batch.action.shape == (16,)
    assert np.allclose(batch.propensity, log.propensities[batch.reward.astype(int)])


def test_batches_mix_users_and_have_one_size_r15():
    """Source defect R15: a batch was all windows of a few users."""
    log = InteractionLog.from_events(np.repeat(np.arange(100), 60), np.tile(np.arange(60), 100), np.ones(6000))
    for batch in FrameBatches(log, 10, 64):
        assert len(batch.user) == 64 and len(set(batch.user.tolist())) > 32


def test_drop_last(log):
    n = len(plain_windows(log, 5, 5))
    assert n == 78
    assert [len(batch.user) for batch in FrameBatches(log, 5, 32)] == [32, 32]
    assert [len(batch.user) for batch in FrameBatches(log, 5, 32, drop_last=False)] == [32, 32, 14]
    assert len(FrameBatches(log, 5, 26, drop_last=False)) == 3


def test_epochs_differ_and_seeds_decide(log):
    def order(batches):
        return [reward for batch in batches for reward in batch.reward.tolist()]

    one, again, other = (FrameBatches(log, 5, 5, seed=seed, drop_last=False) for seed in (3, 3, 4))
    first, second = order(one), order(one)
    assert first != second and sorted(first) == sorted(second)
    assert [order(again), order(again)] == [first, second]
    assert order(other) != first


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("ahead", [1, 1 << 16])
@pytest.mark.parametrize("stop", [1, 7, 14, 15, 16, 33])
def test_resume_at_the_exact_batch(log, stop, ahead, device, monkeypatch):
    monkeypatch.setattr(batches_module, "_AHEAD", ahead)
    options = {"frame_size": 5, "batch_size": 5, "seed": 9, "device": device, "min_history": 4}

    def endless(batches):
        while True:
            yield from batches

    whole = endless(FrameBatches(log, **options))
    expected = [next(whole).reward.tolist() for _ in range(50)]
    source = FrameBatches(log, **options)
    stream = endless(source)
    for _ in range(stop):
        next(stream)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = FrameBatches(log, **options)
    resumed.load_state_dict(state)
    rest = endless(resumed)
    assert [next(rest).reward.tolist() for _ in range(50 - stop)] == expected[stop:]


def test_break_goes_on_where_it_stopped(log):
    expected = [batch.reward.tolist() for batch in FrameBatches(log, 5, 5)]
    batches = FrameBatches(log, 5, 5)
    found = []
    while len(found) < len(expected):
        for batch in batches:
            found.append(batch.reward.tolist())
            break
    assert found == expected


def test_state_of_other_batches_is_refused(log):
    batches = FrameBatches(log, 5, 8)
    for other in (FrameBatches(log, 5, 9), FrameBatches(log, 5, 8, seed=1), FrameBatches(log, 6, 8)):
        with pytest.raises(DataError, match=r"the state must be of batches with \{.*\}, got \{.*\}"):
            batches.load_state_dict(other.state_dict())
    with pytest.raises(DataError, match="'seed': None"):
        batches.load_state_dict({"epoch": 0, "batch": 3})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"frame_size": 0}, "frame_size and batch_size must be at least 1, got frame_size=0, batch_size=4"),
        ({"batch_size": 0}, "got frame_size=5, batch_size=0"),
        ({"min_history": -1}, "min_history must be at least 0, got -1"),
        ({"end_of_log": "done"}, "end_of_log must be one of truncate, terminal, known, got 'done'"),
        ({"frame_size": 30}, "some user must have more than min_history=30 events, got 30 at most"),
        ({"batch_size": 79}, "a batch of batch_size=79 needs as many windows, got 78"),
    ],
)
def test_bad_options(log, options, match):
    with pytest.raises(DataError, match=match):
        FrameBatches(log, **{"frame_size": 5, "batch_size": 4} | options)


def test_tensors_come_from_torch(log):
    batch = next(iter(FrameBatches(log, 5, 8, device="cpu", min_history=2)))
    assert all(isinstance(part, torch.Tensor) for part in batch if part is not None)
    assert batch.action.dtype == torch.int64 and batch.truncated.dtype == torch.bool


@pytest.mark.gpu
def test_batches_on_cuda_equal_those_on_the_cpu(log):
    for one, other in zip(FrameBatches(log, 5, 8), FrameBatches(log, 5, 8, device="cuda"), strict=True):
        assert other.items.is_cuda and listed(one) == listed(other)


def test_log_may_be_memory_mapped(log, tmp_path):
    log.save(tmp_path / "log")
    opened = InteractionLog.open(tmp_path / "log")
    for device in (None, "cpu"):
        pairs = zip(FrameBatches(log, 5, 8), FrameBatches(opened, 5, 8, device=device), strict=True)
        assert all(listed(one) == listed(other) for one, other in pairs)


# -- the numbering and the shuffle -------------------------------------------------------------------------------------


def test_locating_windows_equals_a_plain_loop():
    for min_history in (0, 1, 5, 12):
        starts = window_starts(np.array(LENGTHS), min_history)
        expected = [(user, p) for user, length in enumerate(LENGTHS) for p in range(min_history, length)]
        users, positions = locate_windows(starts, np.arange(starts[-1]), min_history)
        assert list(zip(users.tolist(), positions.tolist(), strict=True)) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 99_991])
def test_shuffle_is_a_bijection(n):
    for epoch in range(3):
        assert np.array_equal(np.sort(shuffled(np.arange(n), n, seed=1, epoch=epoch)), np.arange(n))


def test_shuffle_depends_on_no_neighbour():
    n = 12_345
    whole = shuffled(np.arange(n), n, seed=2, epoch=5)
    assert (shuffled(np.array([77, 3, 12_344]), n, seed=2, epoch=5) == whole[[77, 3, 12_344]]).all()


def test_shuffle_is_the_same_for_ever():
    assert shuffled(np.arange(8), 8, seed=0).tolist() == [2, 1, 3, 0, 5, 4, 6, 7]


def test_shuffle_of_very_many():
    n = 2**40 + 3
    placed = shuffled(np.array([0, 1, n - 1]), n, seed=0)
    assert len(set(placed.tolist())) == 3 and placed.min() >= 0 and placed.max() < n and placed.max() > 2**32


@pytest.mark.parametrize("n", [4096, 50_000])
def test_shuffle_looks_random(n):
    """Mean, spread and neighbours as of a random permutation, within 4.5 standard deviations; epochs are unrelated."""
    last = None
    for epoch in range(4):
        placed = shuffled(np.arange(n), n, seed=7, epoch=epoch)
        bins = np.histogram2d(np.arange(n), placed, bins=16)[0]  # where 1/16 of the numbers goes
        chi2 = ((bins - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi2 - 225) < 4.5 * np.sqrt(2 * 225)
        centred = (placed - (n - 1) / 2) / n
        for lag in (1, 2, 3, 10):
            assert abs(np.mean(centred[lag:] * centred[:-lag]) * 12) < 4.5 / np.sqrt(n)
        assert (np.diff(placed) == 1).sum() < 10  # expected: 1
        assert (placed == np.arange(n)).sum() < 10
        if last is not None:
            assert abs(np.corrcoef(placed, last)[0, 1]) < 4.5 / np.sqrt(n) and (placed == last).sum() < 10
        last = placed


def test_small_shuffles_reach_every_order():
    orders = {tuple(shuffled(np.arange(4), 4, seed=seed).tolist()) for seed in range(400)}
    assert len(orders) == 24


# -- histories ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [None, 1, 4, 100])
def test_histories_equal_a_plain_loop(log, max_length):
    users = np.repeat(np.arange(len(LENGTHS)), 3)
    positions = np.concatenate([[0, length // 2, length] for length in LENGTHS])
    history = histories(log, users, positions, max_length)
    width = min(max_length or 30, 30)
    assert history.items.shape == (len(users), width)
    for row, (user, position) in enumerate(zip(users, positions, strict=True)):
        items, rewards, times = log.user(user)
        past = items[:position].tolist()[-width:]
        assert history.items[row].tolist() == [log.n_items] * (width - len(past)) + past
        assert history.rewards[row].tolist()[width - len(past) :] == rewards[:position].tolist()[-width:]
        assert not history.rewards[row, : width - len(past)].any()
        assert history.length[row] == len(past) and history.user[row] == user
        assert history.time[row] == times[min(position, len(times) - 1)]


def test_histories_of_nothing_are_padding(log):
    history = histories(log, [0, 3], [0, 0])
    assert history.items.tolist() == [[40], [40]] and history.length.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0, 1], [1]), r"users and positions must have one shape \(B,\), got \(2,\) and \(1,\)"),
        (([9], [1]), r"users must be 0 to 8 .* got user 9 at 1 \(1 of 1\)"),
        (([-1], [1]), "got user -1 at 1"),
        (([0, 1], [14, 4]), r"got user 1 at 4 \(1 of 2\)"),
        (([0], [-1]), "got user 0 at -1"),
        (([0], [1], 0), "max_length must be at least 1, got 0"),
    ],
)
def test_bad_histories(log, arguments, match):
    with pytest.raises(DataError, match=match):
        histories(log, *arguments)


def test_later_actions_are_drawn_from_the_rest_of_the_user(log):
    batches = FrameBatches(log, 4, 50, later=0.5, drop_last=False)
    ahead = []
    for batch in batches:
        events = batch.reward.astype(np.int64)  # an event is known by its reward
        decisions = batch.rewards[:, -1].astype(np.int64) + 1
        ends = log.offsets[batch.user + 1]
        assert ((events >= decisions) & (events < ends)).all()
        assert (log.items[events] == batch.action).all()
        assert (batch.next_items[:, -1] == batch.action).all() and (batch.next_rewards[:, -1] == batch.reward).all()
        assert (batch.next_items[:, :-1] == batch.items[:, 1:]).all()
        np.testing.assert_array_equal(batch.propensity, log.propensities[events])
        np.testing.assert_array_equal(batch.truncated, decisions == ends - 1)
        ahead.append(events - decisions)
    share = (np.concatenate(ahead) > 0).mean()
    assert 0.3 < share < 0.5  # half of the decisions are drawn, a few of them draw the next event


def test_later_is_drawn_evenly_and_anew_each_epoch():
    draws = np.stack([windows.events_ahead(np.arange(6000), np.full(6000, 6), 1.0, seed=3, epoch=e) for e in (0, 1)])
    assert np.abs(np.bincount(draws[0], minlength=6) - 1000).max() < 150  # 5 standard deviations
    assert 0.1 < (draws[0] == draws[1]).mean() < 0.23
    part = windows.events_ahead(np.arange(100, 200), np.full(100, 6), 1.0, seed=3)
    np.testing.assert_array_equal(part, draws[0][100:200])  # however the windows are batched


def test_later_out_of_range_is_refused(log):
    with pytest.raises(DataError, match=r"later must lie in 0..1, got 1.5"):
        FrameBatches(log, 4, 8, later=1.5)
