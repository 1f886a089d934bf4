"""Replay by priority: shares, importance weights and their annealing worked out by hand, and the tree beneath."""

from itertools import islice

import numpy as np
import pytest
import torch

from agents.training.prioritized import Drawn, PrioritizedReplay, SumTree
from recgym.frames import Batch


def decisions(n, first=0):
    numbers = np.arange(first, first + n)
    frames = numbers[:, None] * np.ones((1, 2), dtype=int)
    never = np.zeros(n, dtype=bool)
    rewards = frames.astype(np.float32)
    return Batch(numbers, frames, rewards, numbers, numbers.astype(np.float32), frames, rewards, never, never)


def filled(priorities, **options):
    buffer = PrioritizedReplay(len(priorities), 2, **{"epsilon": 1e-12} | options)
    buffer.add(decisions(len(priorities)))
    buffer.tell(np.arange(len(priorities)), np.asarray(priorities, dtype=float))
    return buffer


# -- the buffer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "shares"), [(1.0, [0.1, 0.2, 0.3, 0.4]), (0.0, [0.25] * 4), (2.0, [1, 4, 9, 16])])
def test_decisions_are_drawn_in_proportion_to_their_priorities(alpha, shares):
    """Draws are stratified, so each decision of a large batch is drawn within one of its share."""
    drawn = filled([1.0, 2.0, 3.0, 4.0], alpha=alpha).sample(10_000)
    counts = np.bincount(drawn.action, minlength=4)
    assert np.abs(counts - 10_000 * np.array(shares) / np.sum(shares)).max() <= 2


def test_the_sign_of_an_error_says_nothing():
    buffer = filled([-3.0, 1.0], alpha=1.0)
    assert np.abs(np.bincount(buffer.sample(1000).action) - [750, 250]).max() <= 2


def test_importance_weights_worked_out_by_hand():
    """P = 1/8, 1/8, 1/4, 1/2 of four: N P = 1/2, 1/2, 1, 2; to the power of -1/2, over the largest, which is 2**0.5."""
    drawn = filled([1.0, 1.0, 2.0, 4.0], alpha=1.0, beta=0.5).sample(400)
    expected = np.array([1.0, 1.0, 2.0**-0.5, 0.5])
    np.testing.assert_allclose(drawn.weight, expected[drawn.action], rtol=1e-5)
    assert drawn.weight.dtype == np.float32


def test_weights_make_up_for_the_draws_fully_in_the_end():
    """beta goes from 0 (all weights 1) to 1 in 4 batches: then a weighted sum is that of uniform draws."""
    buffer = filled([1.0, 3.0], alpha=1.0, beta=0.0, beta_steps=4)
    found = [buffer.sample(1000) for _ in range(7)]
    of_second = [drawn.weight[drawn.action == 1][0] for drawn in found]
    np.testing.assert_allclose(of_second, [3.0 ** -min(step / 4, 1.0) for step in range(7)], rtol=1e-5)
    sums = np.bincount(found[-1].action, weights=found[-1].weight)
    assert sums[0] == pytest.approx(sums[1], rel=0.01)


def test_new_decisions_have_the_highest_priority_so_far():
    buffer = PrioritizedReplay(6, 2, alpha=1.0, epsilon=1e-12)
    buffer.add(decisions(3))
    buffer.tell(np.arange(3), np.array([5.0, 1.0, 1.0]))
    buffer.tell(np.array([0]), np.array([2.0]))
    buffer.add(decisions(2, first=3))
    np.testing.assert_allclose(buffer.tree[np.arange(6)], [2.0, 1.0, 1.0, 5.0, 5.0, 0.0])


def test_overwritten_decisions_lose_their_priority():
    buffer = filled([9.0, 1e-9, 1e-9, 1e-9], alpha=1.0)
    buffer.add(decisions(2, first=4))  # over the first two
    np.testing.assert_allclose(buffer.tree[np.arange(4)], [9.0, 9.0, 1e-9, 1e-9], rtol=1e-2)
    assert set(buffer.sample(100).action) == {4, 5}


def test_a_drawn_batch_is_a_batch_and_tells_its_own_places():
    buffer = filled([1.0, 1.0, 1.0, 1.0], alpha=1.0)
    drawn = buffer.sample(8)
    assert isinstance(drawn, Batch) and isinstance(drawn, Drawn)
    np.testing.assert_array_equal(drawn.items[:, 0], drawn.places)
    drawn.tell(torch.as_tensor(drawn.places).float() + 1.0)
    np.testing.assert_allclose(buffer.tree[np.arange(4)], [1.0, 2.0, 3.0, 4.0])
    assert buffer.highest == pytest.approx(4.0)


def test_a_resumed_buffer_draws_the_very_same():
    def run(stop=None):
        buffer = PrioritizedReplay(7, 2, seed=3)
        buffer.add(decisions(5))
        rows = []
        for step in range(6):
            if step == stop:
                state = buffer.state_dict()
                buffer = PrioritizedReplay(7, 2, seed=99)
                buffer.add(decisions(7, first=20))  # a history of its own; loading must leave none of it
                buffer.load_state_dict(state)
            drawn = buffer.sample(4)
            drawn.tell(drawn.reward * step)
            buffer.add(decisions(1, first=5 + step))
            rows.append(np.concatenate([drawn.action, drawn.weight]))
        return np.array(rows)

    np.testing.assert_array_equal(run(), run(stop=3))


def test_endless_batches_are_samples():
    first, second = filled([1.0, 2.0, 3.0]), filled([1.0, 2.0, 3.0])
    for drawn in islice(first.endless(5), 3):
        np.testing.assert_array_equal(drawn.action, second.sample(5).action)


@pytest.mark.parametrize("option", [{"alpha": -0.1}, {"beta": 1.5}, {"beta_steps": 0}, {"epsilon": 0.0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=r"alpha must be at least 0, beta lie in 0..1, beta_steps be at least 1"):
        PrioritizedReplay(4, 2, **option)


def test_errors_that_are_no_numbers_are_refused_and_change_nothing():
    buffer = filled([1.0, 2.0])
    before = buffer.tree.nodes.copy()
    with pytest.raises(ValueError, match=r"TD errors must be finite, got nan \(1 of 2\); learn in smaller steps"):
        buffer.tell(np.arange(2), np.array([np.nan, 1.0]))
    np.testing.assert_array_equal(buffer.tree.nodes, before)


def test_an_empty_buffer_has_nothing_to_draw():
    with pytest.raises(ValueError, match=r"a buffer must hold decisions before one can sample, got an empty one"):
        PrioritizedReplay(4, 2).sample(1)


# -- the tree ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1000])
def test_the_tree_finds_what_running_sums_find(n):
    random = np.random.default_rng(n)
    tree, numbers = SumTree(n), np.zeros(n)
    for _ in range(5):
        places = random.integers(n, size=40)
        numbers[places] = values = random.integers(0, 9, size=40)  # whole numbers: sums are exact; some are 0
        tree.set(places, values)
        numbers[:1] += 1.0
        tree.set(np.arange(1), numbers[:1])
        assert tree.total == numbers.sum()
        np.testing.assert_array_equal(tree[np.arange(n)], numbers)
        sums = random.random(200) * tree.total
        np.testing.assert_array_equal(tree.find(sums), np.searchsorted(np.cumsum(numbers), sums, side="right"))


def test_rounding_leads_to_no_empty_place():
    tree = SumTree(5)
    tree.set(np.array([0, 2]), np.array([0.1, 0.2]))
    assert set(tree.find(np.array([0.0, tree.total, tree.total * (1 + 1e-12), 9.0]))) == {0, 2}
