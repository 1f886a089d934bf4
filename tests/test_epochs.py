"""Several processes share what one would do, resuming is exact, and what batches are cut with equals plain loops."""

import doctest
import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from recgym.batches import FrameBatches, windows
from recgym.batches import epochs as epochs_module
from recgym.batches import frame_batches as batches_module
from recgym.batches import sequence_batches as sequences_module
from recgym.batches.sequence_batches import SequenceBatches
from recgym.batches.vector_batches import VectorBatches
from recgym.batches.windows import events_until, locate_windows, shuffled, signposts, window_starts
from recgym.errors import DataError
from recgym.log import InteractionLog

LENGTHS = (14, 3, 18, 9, 1, 25, 4, 30, 12, 0, 0, 7, 5, 6, 2)


@pytest.fixture
def log():
    random = np.random.default_rng(5)
    n = sum(LENGTHS)
    return InteractionLog(
        items=random.integers(0, 40, n).astype(np.int32),
        rewards=random.integers(-4, 5, n).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        user_ids=np.arange(len(LENGTHS)),
        item_ids=np.arange(40),
        propensities=np.linspace(0.1, 1.0, n, dtype=np.float32),
    )


def frames(log, **options):
    return FrameBatches(log, frame_size=4, **{"batch_size": 8, "min_history": 2, "gamma": 0.5, "later": 0.3} | options)


def sequences(log, **options):
    return SequenceBatches(log, **{"batch_size": 4, "gamma": 0.5, "max_length": 12} | options)


def whole(parts):
    """Returns the batch whose rows several processes have: in their order, but whole users in the order of users."""
    columns = zip(*parts, strict=True)
    made = [None if column[0] is None else np.concatenate([np.asarray(part) for part in column]) for column in columns]
    if not hasattr(parts[0], "mask"):
        return made
    order = np.argsort(made[0])
    return [None if column is None else column[order] for column in made]


def same(one, other):
    return all(
        a is b is None or (np.asarray(a).shape == np.shape(b) and (np.asarray(a) == np.asarray(b)).all())
        for a, b in zip(one, other, strict=True)
    )


def test_doctests():
    assert doctest.testmod(epochs_module).failed == doctest.testmod(windows, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("make", [frames, sequences])
def test_four_processes_have_what_one_has(log, make, drop_last, device):
    options = {"drop_last": drop_last, "device": device, "batch_size": 8}  # the last batch has 7 windows, or 4 users
    one = make(log, **options)
    parts = [make(log, **options, rank=rank, n_ranks=4) for rank in range(4)]
    assert {len(part) for part in parts} == {len(one)}
    for _ in range(2):  # epochs
        expected, shares = list(one), zip(*parts, strict=True)
        shares = list(shares)
        assert len(shares) == len(expected) == len(one)
        assert all(same(whole([batch]), whole(share)) for batch, share in zip(expected, shares, strict=True))
    sizes = {len(batch.user) for share in shares for batch in share}
    assert sizes == ({2} if drop_last else {2, 1})


def test_processes_that_share_users_have_about_as_many_steps(log):
    for n_ranks in (2, 4):
        parts = [sequences(log, batch_size=8, max_length=None, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
        for shares in zip(*parts, strict=True):
            steps = [int(share.mask.sum()) for share in shares]
            longest = max(int(share.length.max()) for share in shares)
            assert max(steps) - min(steps) <= longest, steps


@pytest.mark.parametrize("make", [frames, sequences])
@pytest.mark.parametrize("stop", [0, 1, 2, 5, 13])
def test_another_number_of_processes_goes_on_where_one_stopped(log, make, stop):
    def endless(batches):
        while True:
            yield from batches

    source, expected = make(log, drop_last=True), endless(make(log, drop_last=True))
    stream = endless(source)
    for _ in range(stop):
        next(stream)
        next(expected)
    state = json.loads(json.dumps(source.state_dict()))
    parts = [make(log, drop_last=True, rank=rank, n_ranks=2) for rank in range(2)]
    for part in parts:
        part.load_state_dict(state)
    streams = [endless(part) for part in parts]
    for _ in range(12):
        assert same(whole([next(expected)]), whole([next(one) for one in streams]))
    back = make(log, drop_last=True)
    back.load_state_dict(json.loads(json.dumps(parts[1].state_dict())))
    assert same(next(endless(back)), next(expected))


@pytest.mark.parametrize("make", [frames, sequences])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": 4, "n_ranks": 4}, "rank must be 0 to n_ranks - 1, got rank=4 of n_ranks=4"),
        ({"rank": -1}, "got rank=-1 of n_ranks=1"),
        ({"n_ranks": 0}, "got rank=0 of n_ranks=0"),
        ({"n_ranks": 3, "batch_size": 8}, "batch_size must be a multiple of n_ranks=3, .* got 8; give e.g. 9"),
        ({"n_ranks": 5, "batch_size": 5, "drop_last": False}, "each of n_ranks=5, got [12] in the last one"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(log, make, options, match):
    with pytest.raises(DataError, match=match):
        make(log, **options)


@pytest.mark.parametrize("change", [{"batch": 13}, {"batch": -1}, {"epoch": -1}, {"batch": None}])
def test_a_state_that_names_no_batch_is_refused(log, change):
    batches = frames(log)
    state = {name: value for name, value in (batches.state_dict() | change).items() if value is not None}
    with pytest.raises(DataError, match=r"the state must name an epoch and a batch below 13, got epoch .*, batch "):
        batches.load_state_dict(state)


# -- what batches are cut with -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 1000, 99_991, 2**40 + 3])
def test_shuffle_is_the_same_in_torch(n):
    numbers = np.unique(np.linspace(0, n - 1, min(n, 3000)).astype(np.int64))
    found = shuffled(torch.from_numpy(numbers), n, seed=3, epoch=1)
    assert (found.numpy() == shuffled(numbers, n, seed=3, epoch=1)).all()


@pytest.mark.parametrize("lengths", [LENGTHS, (0,) * 40 + (1,) + (0,) * 40 + (90,), (1,) * 100, (5000, 1, 1, 1)])
def test_locating_with_signposts_equals_a_plain_loop(lengths):
    starts = window_starts(np.array(lengths), 0)
    expected = [(user, position) for user, length in enumerate(lengths) for position in range(length)]
    numbers = np.random.default_rng(0).permutation(len(expected))
    for posts, given in [(signposts(starts), numbers), (None, numbers), (None, torch.from_numpy(numbers))]:
        users, positions = locate_windows(starts if posts is not None else as_kind(starts, given), given, 0, posts)
        assert list(zip(users.tolist(), positions.tolist(), strict=True)) == [expected[number] for number in numbers]


def as_kind(array, like):
    return torch.from_numpy(array) if isinstance(like, torch.Tensor) else array


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.int8, np.bool_, np.float64, "U3", "datetime64[s]"])
@pytest.mark.parametrize("width", [1, 4, 19, 20, 30])
def test_events_until_equals_a_plain_loop(kind, width):
    column = np.arange(40).astype(np.int64).astype(kind)[::2]  # 20 events, not side by side in memory
    rows, real = np.array([0, 3, 7, 19, 12]), np.array([1, 2, 4, 3, 0])
    blank = np.zeros((), dtype=kind).item() if kind != "datetime64[s]" else 0
    found = events_until(column, rows, width, np.minimum(real, width), blank)
    blank = np.asarray(blank, dtype=kind)
    for row, n, values in zip(rows, real, found, strict=True):
        own = column[row + 1 - min(n, width) : row + 1] if n else column[:0]
        assert (values == np.concatenate([np.full(width - len(own), blank), own])).all()
    rows = np.arange(width - 1, 20)
    assert all(
        (one == column[row - width + 1 : row + 1]).all()
        for row, one in zip(rows, events_until(column, rows, width), strict=True)
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
def test_returns_equal_a_plain_loop(log, gamma, monkeypatch):
    expected = []
    for user in range(log.n_users):
        total, own = 0.0, []
        for reward in log.user(user).rewards[::-1].astype(float):
            total = reward + gamma * total
            own.insert(0, total)
        expected += own
    found = windows.discounted_returns(log.rewards, log.offsets, gamma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    batches = FrameBatches(log, 4, 8, gamma=gamma, later=0.0, min_history=0, drop_last=False, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([batch.returns for batch in batches]), found)
    drawn = FrameBatches(log, 4, 8, gamma=gamma, later=1.0, min_history=0, drop_last=False, shuffle=False)
    events = {(reward, total) for reward, total in zip(log.rewards.tolist(), found.tolist(), strict=True)}
    assert all(
        pair in events for batch in drawn for pair in zip(batch.reward.tolist(), batch.returns.tolist(), strict=True)
    )


def test_returns_of_a_long_log_equal_a_plain_loop():
    """Longer than what is worked on at a time, with users without events at the seams."""
    random = np.random.default_rng(1)
    lengths = random.integers(0, 3000, 1500)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rewards = random.normal(size=offsets[-1]).astype(np.float32)
    assert offsets[-1] > 2 << 20
    found = windows.discounted_returns(rewards, offsets, 0.97)
    last = np.zeros(len(rewards) + 1)
    ends = set((offsets[1:] - 1).tolist())
    values = rewards.astype(float).tolist()
    for row in range(len(rewards) - 1, -1, -1):
        last[row] = values[row] + (0.0 if row in ends else 0.97 * last[row + 1])
    np.testing.assert_allclose(found, last[:-1], atol=1e-5)


def test_gamma_out_of_range_is_refused(log):
    for make in (frames, sequences):
        with pytest.raises(DataError, match=r"gamma must lie in 0..1, got 1.01"):
            make(log, gamma=1.01)


def test_places_and_windows_are_those_of_the_batches(log):
    batches, placed, joined = (FrameBatches(log, 4, 8, seed=2) for _ in range(3))
    for batch, place, window in zip(batches, placed.places(), joined.windows(), strict=True):
        assert (batch.user == place.user).all() and (log.items[place.row] == batch.action).all()
        assert (place.row - log.offsets[place.user] == place.position).all()
        assert (window.items[:, 1:] == batch.next_items).all() and (window.rewards[:, -1] == batch.reward).all()
        assert same(joined.decisions(window), batch)
    mixed, plain = FrameBatches(log, 4, 8, seed=2), FrameBatches(log, 4, 8, seed=2)
    first, place = next(iter(mixed)), next(mixed.places())  # each goes on where the other stopped
    expected = list(plain)
    assert same(first, expected[0]) and (log.items[place.row] == expected[1].action).all()


@pytest.mark.parametrize("options", [{}, {"min_history": 4, "later": 0.0, "gamma": None}, {"end_of_log": "terminal"}])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_computing_on_a_device_gives_the_same(log, options, batch_size, monkeypatch):
    """What CUDA does, done by torch on the CPU."""
    expected = [frames(log, batch_size=batch_size, drop_last=False, **options) for _ in range(2)]
    monkeypatch.setattr(batches_module, "on_host", lambda device: False)
    made = [frames(log, batch_size=batch_size, drop_last=False, device="cpu", **options) for _ in range(2)]
    assert all(same(one, other) for one, other in zip(expected[0], made[0], strict=True))
    for one, other in zip(expected[1].places(), made[1].places(), strict=True):
        assert same(one, other) and isinstance(other.row, torch.Tensor)
    table = np.random.default_rng(0).normal(size=(41, 6)).astype(np.float32)
    for flat in (False, True):
        vectors = VectorBatches(made[0], table, flat=flat, dtype="bfloat16")
        monkeypatch.undo()
        plain = frames(log, batch_size=batch_size, drop_last=False, device="cpu", **options)
        plain.load_state_dict(made[0].state_dict())
        for one, other in zip(VectorBatches(plain, table, flat=flat, dtype="bfloat16"), vectors, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True))
            assert same(one.batch, other.batch)


def test_sequences_computed_on_a_device_are_the_same(log, monkeypatch):
    expected = list(sequences(log))
    monkeypatch.setattr(sequences_module, "on_host", lambda device: False)
    assert all(same(one, other) for one, other in zip(expected, sequences(log, device="cpu"), strict=True))


def test_batches_share_no_memory(log):
    kept = list(FrameBatches(log, 4, 8))
    copies = [[np.array(part) for part in batch if part is not None] for batch in kept]
    for one, other in pairwise(kept):
        assert not np.shares_memory(one.items, other.items) and not np.shares_memory(one.rewards, other.next_rewards)
    assert all(
        same([part for part in batch if part is not None], copy) for batch, copy in zip(kept, copies, strict=True)
    )
    assert np.shares_memory(kept[0].items, kept[0].next_items)


def test_shuffle_spreads_users_and_pairs_as_chance_does():
    """Neighbours in a pass are unrelated: pairs fill a grid evenly, and a batch meets a user as often as by chance."""
    n, batch, per_user = 40_000, 200, 50
    for epoch in range(4):
        placed = shuffled(np.arange(n), n, seed=11, epoch=epoch)
        for lag in (1, 2, 7, batch):
            pairs = np.histogram2d(placed[:-lag], placed[lag:], bins=16)[0]
            expected = (n - lag) / 256
            assert abs(((pairs - expected) ** 2 / expected).sum() - 255) < 4.5 * np.sqrt(2 * 255)
        users = np.sort((placed // per_user).reshape(-1, batch), axis=1)
        again = (np.diff(users, axis=1) == 0).sum(axis=1)  # rows of a batch whose user it has already met
        chance = batch - (n / per_user) * (1 - np.exp(batch * np.log1p(-per_user / n)))
        assert abs(again.mean() - chance) < 4.5 * again.std() / np.sqrt(len(again)) + 0.3
