import numpy as np
import pytest

from agents.training.replay import ReplayBuffer
from recgym.frames import Batch


def decisions(first, n, frame_size=2):
    """Decisions that are told apart by their item."""
    number = np.arange(first, first + n)
    frames = np.repeat(number[:, None], frame_size, axis=1)
    rewards, flags = frames.astype(np.float32) / 10, number % 2 == 0
    return Batch(number, frames, rewards, number, rewards[:, 0], frames + 1, rewards + 1, flags, ~flags)


def test_what_is_sampled_is_what_was_added():
    buffer = ReplayBuffer(10, 2)
    buffer.add(decisions(0, 4))
    sample = buffer.sample(100)
    assert set(sample.action) == {0, 1, 2, 3}
    expected = decisions(0, 4)
    for column, values in zip(sample, expected, strict=True):
        if values is not None:
            np.testing.assert_array_equal(column, values[sample.action])


def test_the_oldest_decisions_are_overwritten():
    buffer = ReplayBuffer(5, 2)
    for first in range(0, 12, 3):
        buffer.add(decisions(first, 3))
    assert len(buffer) == 5
    assert set(buffer.sample(200).action) == {7, 8, 9, 10, 11}


def test_sampling_is_uniform():
    buffer = ReplayBuffer(10, 2, seed=1)
    buffer.add(decisions(0, 10))
    counts = np.bincount(buffer.sample(10_000).action, minlength=10)
    assert (abs(counts - 1000) < 5 * np.sqrt(900)).all()


def test_a_restored_buffer_samples_the_same_next():
    buffer = ReplayBuffer(5, 2, seed=3)
    buffer.add(decisions(0, 4))
    buffer.sample(7)
    restored = ReplayBuffer(5, 2)
    restored.load_state_dict(buffer.state_dict())
    assert len(restored) == 4
    for _ in range(3):
        for own, other in zip(buffer.sample(6), restored.sample(6), strict=True):
            np.testing.assert_array_equal(own, other)


def test_only_the_filled_part_is_saved():
    buffer = ReplayBuffer(1000, 2)
    buffer.add(decisions(0, 4))
    assert buffer.state_dict()["columns"]["items"].shape == (4, 2)


def test_wrong_uses_are_refused():
    with pytest.raises(ValueError, match=r"capacity and frame_size must be at least 1, got capacity=0, frame_size=2"):
        ReplayBuffer(0, 2)
    buffer = ReplayBuffer(5, 2)
    with pytest.raises(ValueError, match=r"a buffer must hold decisions before one can sample, got an empty one"):
        buffer.sample(1)
    with pytest.raises(ValueError, match=r"a batch must fit into the capacity of 5, got 6 decisions"):
        buffer.add(decisions(0, 6))
    buffer.add(decisions(0, 4))
    with pytest.raises(ValueError, match=r"capacity and frame size \(3, 2\), got frames \(4, 2\) of 4 decisions"):
        ReplayBuffer(3, 2).load_state_dict(buffer.state_dict())
    with pytest.raises(ValueError, match=r"capacity and frame size \(5, 3\), got frames \(4, 2\)"):
        ReplayBuffer(5, 3).load_state_dict(buffer.state_dict())
