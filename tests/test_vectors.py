import doctest

import numpy as np
import pytest
import torch

from recgym.batches import FrameBatches
from recgym.batches import vector_batches as vectors
from recgym.batches.vector_batches import FlatBatch, VectorBatch, VectorBatches
from recgym.errors import DataError
from recgym.frames import encode_frame
from recgym.log import InteractionLog

KINDS = [(None, "float32"), ("cpu", "float32"), ("cpu", "bfloat16")]


@pytest.fixture
def log():
    random = np.random.default_rng(2)
    lengths = np.array([14, 3, 18, 9, 25])
    n = lengths.sum()
    return InteractionLog(
        items=random.integers(0, 40, n).astype(np.int32),
        rewards=(random.integers(1, 11, n) / 5 - 1).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        user_ids=np.arange(5),
        item_ids=np.arange(40),
    )


@pytest.fixture
def table():
    return np.concatenate([np.random.default_rng(3).normal(size=(40, 6)), np.zeros((1, 6))]).astype(np.float32)


def plain(array, dtype):
    """Returns numbers as float64 after rounding them to the type."""
    array = torch.as_tensor(np.array(array)).to(getattr(torch, dtype))
    return array.double().numpy()


def listed(array):
    return array.double().numpy() if isinstance(array, torch.Tensor) else array.astype(np.float64)


def test_doctests():
    globals_ = {"np": np, "InteractionLog": InteractionLog}
    assert doctest.testmod(vectors, extraglobs=globals_).failed == 0


@pytest.mark.parametrize(("copy", "threads"), [(False, 1), (True, 1), (False, 3)])
@pytest.mark.parametrize("options", [{}, {"min_history": 1}, {"later": 0.5}, {"drop_last": False}])
@pytest.mark.parametrize(("device", "dtype"), KINDS)
def test_both_layouts_equal_looking_up(log, table, device, dtype, options, copy, threads, monkeypatch):
    monkeypatch.setattr(vectors, "_SCRATCH", 100)  # so that a batch is made of several pieces
    indices, viewed, flat = (FrameBatches(log, 4, 7, device=device, **options) for _ in range(3))
    views = VectorBatches(viewed, table, dtype=dtype, copy=copy, threads=threads)
    flats = VectorBatches(flat, table, flat=True, dtype=dtype, copy=copy, threads=threads)
    assert len(views) == len(flats) == len(indices)
    n = 0
    for batch, view, laid in zip(indices, views, flats, strict=True):
        assert isinstance(view, VectorBatch) and isinstance(laid, FlatBatch)
        items, rewards = np.asarray(batch.items), np.asarray(batch.rewards)
        following, next_rewards = np.asarray(batch.next_items), np.asarray(batch.next_rewards)
        rounded = plain(table, dtype)
        assert (listed(view.state[0]) == rounded[items]).all() and (listed(view.action) == rounded[batch.action]).all()
        assert (listed(view.state[1]) == plain(rewards, dtype)).all()
        assert (listed(view.next_state[0]) == rounded[following]).all()
        assert (listed(view.next_state[1]) == plain(next_rewards, dtype)).all()
        assert (listed(laid.state) == plain(encode_frame(table, items, rewards), dtype)).all()
        assert (listed(laid.next_state) == plain(encode_frame(table, following, next_rewards), dtype)).all()
        assert (listed(laid.action) == rounded[batch.action]).all()
        assert all(
            (np.asarray(a) == np.asarray(b)).all() for a, b in zip(view.batch, batch, strict=True) if b is not None
        )
        n += len(batch.user)
        if device is not None:
            kinds = {part.dtype for part in (view.embeddings, view.rewards, laid.state, laid.action, laid.next_state)}
            assert kinds == {getattr(torch, dtype)}
    assert n == viewed.n_windows - (0 if "drop_last" in options else viewed.n_windows % 7)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("device", "dtype"), KINDS)
def test_memory_is_reused_unless_copies_are_asked_for(log, table, device, dtype, flat):
    for copy in (False, True):
        kept = list(VectorBatches(FrameBatches(log, 4, 7, device=device), table, flat=flat, dtype=dtype, copy=copy))
        first = [listed(batch[0]) for batch in kept]
        assert (first[0] == first[1]).all() != copy
        indices = FrameBatches(log, 4, 7)
        if copy:
            for values, batch in zip(first, indices, strict=True):
                assert (values.reshape(7, -1)[:, :24] == plain(table, dtype)[batch.items].reshape(7, -1)).all()


def test_both_frames_are_views_of_one_gather(log, table):
    batch = next(iter(VectorBatches(FrameBatches(log, 4, 7), table)))
    assert batch.embeddings.shape == (7, 5, 6) and batch.rewards.shape == (7, 5)
    assert np.shares_memory(batch.state[0], batch.next_state[0]) and np.shares_memory(batch.state[1], batch.rewards)
    shared = next(iter(VectorBatches(FrameBatches(log, 4, 7, device="cpu"), table, dtype="bfloat16")))
    assert shared.state[0].untyped_storage().data_ptr() == shared.next_state[0].untyped_storage().data_ptr()


def test_place_and_state_are_those_of_the_batches(log, table):
    batches = FrameBatches(log, 4, 7)
    with_vectors = VectorBatches(batches, table)
    expected = [batch.user.tolist() for batch in FrameBatches(log, 4, 7)]
    next(iter(with_vectors))
    assert with_vectors.state_dict() == batches.state_dict() and batches.state_dict()["batch"] == 1
    resumed = VectorBatches(FrameBatches(log, 4, 7), table)
    resumed.load_state_dict(with_vectors.state_dict())
    assert [batch.batch.user.tolist() for batch in resumed] == expected[1:]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"table": np.zeros((40, 6))}, r"table must have shape \(n_items \+ 1, d\) with n_items=40 .* got \(40, 6\)"),
        ({"table": np.zeros(41)}, r"got \(41,\)"),
        ({"table": np.zeros((41, 0))}, r"got \(41, 0\)"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, got 'float16'"),
        ({"dtype": "bfloat16"}, "bfloat16 needs torch tensors, got batches of NumPy arrays; .* device='cpu'"),
    ],
)
def test_bad_options(log, table, change, match):
    with pytest.raises(DataError, match=match):
        VectorBatches(FrameBatches(log, 4, 7), **{"table": table} | change)


@pytest.mark.gpu
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"min_history": 1, "later": 0.5, "gamma": 0.9, "drop_last": False}])
def test_on_cuda_they_are_those_of_the_cpu(log, table, dtype, options, flat):
    made = [
        list(VectorBatches(FrameBatches(log, 4, 7, device=device, **options), table, flat=flat, dtype=dtype, copy=True))
        for device in ("cpu", "cuda")
    ]
    assert len(made[0]) == len(made[1])
    for one, other in zip(*made, strict=True):
        assert other[0].is_cuda and all(torch.equal(a, b.cpu()) for a, b in zip(one[:-1], other[:-1], strict=True))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(one.batch, other.batch, strict=True) if a is not None)
