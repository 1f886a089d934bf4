import doctest

import numpy as np
import pytest
import torch

from recgym import frames
from recgym.frames import History, encode_frame, last_events


def test_doctests():
    assert doctest.testmod(frames).failed == 0


def recnn_layout(table, items, rewards):
    """States as RecNN makes them, by a plain loop: all vectors oldest first, then all rewards oldest first."""
    states = []
    for row_items, row_rewards in zip(items.tolist(), rewards.tolist(), strict=True):
        states.append([number for item in row_items for number in table[item].tolist()] + row_rewards)
    return states


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_encode_frame_is_recnns_layout(kind):
    random = np.random.default_rng(0)
    table = random.normal(size=(51, 128)).astype(np.float32)
    items, rewards = random.integers(0, 51, (7, 10)), random.normal(size=(7, 10)).astype(np.float32)
    given = (table, items, rewards) if kind == "numpy" else tuple(map(torch.from_numpy, (table, items, rewards)))
    states = encode_frame(*given)
    assert states.shape == (7, 1290) and str(states.dtype).endswith("float32")
    assert states.tolist() == recnn_layout(table, items, rewards)


def test_rewards_take_the_type_of_the_table():
    states = encode_frame(np.eye(2, dtype=np.float32), np.array([[0], [1]]), np.array([[1.0], [2.0]]))
    assert states.dtype == np.float32


@pytest.mark.parametrize("as_given", [lambda array: array, torch.from_numpy], ids=["numpy", "torch"])
def test_last_events(as_given):
    items, rewards = np.array([[9, 0, 1], [2, 3, 4]]), np.array([[0.0, 0.5, 1.0], [0.1, 0.2, 0.3]])
    history = History(as_given(items), as_given(rewards), as_given(np.array([2, 3])))
    short, kept = last_events(history, 2, padding=9)
    assert short.tolist() == [[0, 1], [3, 4]] and kept.tolist() == [[0.5, 1.0], [0.2, 0.3]]
    long, padded = last_events(history, 5, padding=9)
    assert long.tolist() == [[9, 9, 9, 0, 1], [9, 9, 2, 3, 4]]
    assert padded.tolist() == [[0, 0, 0, 0.5, 1.0], [0, 0, 0.1, 0.2, 0.3]]
    assert last_events(history, 3, padding=9)[0].tolist() == items.tolist()
