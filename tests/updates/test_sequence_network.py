"""What batches ask of agents over whole histories."""

import numpy as np
import torch

from agents.networks.sequence_network import steps_of
from recgym.batches.sequence_batches import SequenceBatches
from recgym.frames import Batch
from recgym.log import InteractionLog

CPU = torch.device("cpu")


def test_sequences_go_on_until_their_newest_event():
    log = InteractionLog.from_events([0] * 4 + [1] * 4, [0, 1, 2, 3, 1, 2, 3, 4], np.ones(8), item_ids=np.arange(6))
    found = steps_of(next(iter(SequenceBatches(log, 2, shuffle=False))), 6, 8, CPU)
    assert found.items.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert found.targets.tolist() == [[1, 2, 3], [2, 3, 4]]
    assert found.goes_on.tolist() == [[True, True, False]] * 2 and not found.terminated.any()


def test_frames_hold_the_action_and_the_state_after_it():
    frame = np.array([[6, 1, 2], [0, 1, 2], [6, 6, 6]]), np.zeros((3, 3), dtype=np.float32)
    over, reward = np.array([False, True, False]), np.array([0.5, 1.0, 1.0], dtype=np.float32)
    batch = Batch(np.arange(3), *frame, np.array([3, 4, 5]), reward, *frame, over, ~over)
    found = steps_of(batch, 6, 8, CPU)
    assert found.items.tolist() == [[1, 2, 3, 6], [0, 1, 2, 4], [5, 6, 6, 6]]
    assert found.targets.tolist() == [[6, 3, 6, 6], [6, 6, 4, 6], [6, 6, 6, 6]]  # nothing is asked of an empty frame
    assert found.goes_on.tolist() == [[False, True, False, False], [False] * 4, [False] * 4]
    assert found.terminated.tolist() == [[False] * 4, [False, False, True, False], [False] * 4]
    assert steps_of(batch, 6, 3, CPU).items.shape == (3, 3)
