import doctest
import json
from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from recgym.batches import sequence_batches as sequences
from recgym.batches.sequence_batches import SequenceBatches
from recgym.errors import DataError
from recgym.log import InteractionLog

LENGTHS = (14, 3, 18, 1, 9, 25, 2, 0, 7)


@pytest.fixture
def log():
    random = np.random.default_rng(4)
    n = sum(LENGTHS)
    return InteractionLog(
        items=random.integers(0, 40, n).astype(np.int32),
        rewards=np.arange(1, n + 1, dtype=np.float32),  # an event is known by its reward
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        user_ids=np.arange(len(LENGTHS)),
        item_ids=np.arange(40),
        extra={
            "behaviour": random.integers(1, 4, n).astype(np.int8),
            "page": np.array(["home", "search"])[random.integers(0, 2, n)],
        },
    )


def plain(log, user, max_length, width, gamma):
    """Returns a user's columns by a plain loop."""
    rows = range(int(log.offsets[user]), int(log.offsets[user + 1]))
    totals, total = {}, 0.0
    for row in reversed(rows):
        totals[row] = total = float(log.rewards[row]) + gamma * total
    steps = list(pairwise(rows))[-(max_length or 10**9) :]
    empty = width - len(steps)
    return {
        "items": [40] * empty + [int(log.items[row]) for row, _ in steps],
        "rewards": [0.0] * empty + [float(log.rewards[row]) for row, _ in steps],
        "targets": [40] * empty + [int(log.items[row]) for _, row in steps],
        "target_rewards": [0.0] * empty + [float(log.rewards[row]) for _, row in steps],
        "mask": [False] * empty + [True] * len(steps),
        "length": len(steps),
        "returns": [0.0] * empty + [totals[row] for _, row in steps],
    }


def test_doctests():
    assert doctest.testmod(sequences, extraglobs={"np": np, "InteractionLog": InteractionLog}).failed == 0


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(("max_length", "min_events"), [(None, 2), (1, 2), (5, 3), (13, 2), (24, 2), (100, 8)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_sequences_equal_a_plain_loop(log, max_length, min_events, shuffle, device):
    batches = SequenceBatches(
        log, 3, max_length, shuffle=shuffle, min_events=min_events, gamma=0.5, device=device, extra=["behaviour"]
    )
    expected = [user for user, length in enumerate(LENGTHS) if length >= min_events]
    seen = []
    for batch in batches:
        users = batch.user.tolist()
        width = min(max(LENGTHS[user] for user in users) - 1, max_length or 100)
        assert batch.items.shape == batch.mask.shape == (len(users), width)
        for row, user in enumerate(users):
            wanted = plain(log, user, max_length, width, 0.5)
            found = {name: getattr(batch, name)[row].tolist() for name in wanted}
            np.testing.assert_allclose(found.pop("returns"), wanted.pop("returns"), rtol=1e-6)
            assert found == wanted
            n = wanted["length"] + 1
            behaviour = log.extra["behaviour"][log.offsets[user + 1] - n : log.offsets[user + 1]].tolist()
            assert batch.extra["behaviour"][row].tolist() == [0] * (width + 1 - n) + behaviour
        seen += users
    assert sorted(seen) == expected and (seen == expected or shuffle) and batches.n_sequences == len(expected)


def test_text_columns_are_padded_with_nothing(log):
    batch = next(iter(SequenceBatches(log, 2, shuffle=False, extra=["page"])))
    assert batch.extra["page"].shape == (2, 14) and batch.extra["page"][1, :11].tolist() == [""] * 11
    assert batch.extra["page"][1, 11:].tolist() == log.extra["page"][14:17].tolist()


def test_types_and_what_is_left_out(log):
    batch = next(iter(SequenceBatches(log, 2)))
    kinds = (batch.items.dtype, batch.rewards.dtype, batch.mask.dtype, batch.targets.dtype)
    assert kinds == (np.int64, np.float32, np.bool_, np.int64) and batch.returns is batch.extra is None
    batch = next(iter(SequenceBatches(log, 2, gamma=1.0, extra=["behaviour"], device="cpu")))
    parts = (*batch[: batch._fields.index("extra")], batch.extra["behaviour"])
    assert all(isinstance(part, torch.Tensor) for part in parts) and parts[-1].dtype == torch.int8


def test_epochs_differ_and_a_pass_resumes_at_the_exact_batch(log):
    def endless(batches):
        while True:
            yield from batches

    stream = endless(SequenceBatches(log, 2, seed=5))
    expected = [next(stream).user.tolist() for _ in range(16)]
    assert sorted(chain(*expected[:4])) == sorted(chain(*expected[4:8])) and expected[:4] != expected[4:8]
    for stop in (0, 1, 3, 4, 9):
        source = SequenceBatches(log, 2, seed=5)
        stream = endless(source)
        for _ in range(stop):
            next(stream)
        resumed = SequenceBatches(log, 2, seed=5)
        resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
        rest = endless(resumed)
        assert [next(rest).user.tolist() for _ in range(16 - stop)] == expected[stop:]
    with pytest.raises(
        DataError, match=r"the state must be of batches with {'max_length': None}, got {'max_length': 4}"
    ):
        SequenceBatches(log, 2, seed=5).load_state_dict(SequenceBatches(log, 2, 4, seed=5).state_dict())


def test_drop_last(log):
    assert [len(batch.user) for batch in SequenceBatches(log, 3)] == [3, 3, 1]
    assert [len(batch.user) for batch in SequenceBatches(log, 3, drop_last=True)] == [3, 3]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, "batch_size and max_length must be at least 1, got batch_size=0, max_length=None"),
        ({"max_length": 0}, "got batch_size=2, max_length=0"),
        ({"min_events": 1}, "min_events must be at least 2, got 1"),
        ({"min_events": 26}, "at least 1 users must have min_events=26 events, got 0 of 9"),
        ({"batch_size": 8, "drop_last": True}, "at least 8 users must have min_events=2 events, got 7 of 9"),
        ({"extra": ["colour"]}, "extra must name event columns of the log, got 'colour'; it has behaviour, page"),
        ({"extra": ["page"], "device": "cpu"}, "extra columns must hold numbers to become tensors, got 'page' of type"),
    ],
)
def test_bad_options(log, options, match):
    with pytest.raises(DataError, match=match):
        SequenceBatches(log, **{"batch_size": 2} | options)


@pytest.mark.gpu
def test_on_cuda_they_are_those_of_the_cpu(log):
    options = {"gamma": 0.9, "extra": ["behaviour"], "max_length": 12}
    pairs = zip(SequenceBatches(log, 3, **options), SequenceBatches(log, 3, device="cuda", **options), strict=True)
    for one, other in pairs:
        assert other.items.is_cuda
        assert all((a == b.cpu().numpy()).all() for a, b in zip(one[:-1], other[:-1], strict=True))
        assert (one.extra["behaviour"] == other.extra["behaviour"].cpu().numpy()).all()
