"""Feature row 11 of the source systems, at work in one place: transitions on disk, and readers that know nothing of us.

Values, formats, sizes, interruption and errors are the business of `test_export.py`.
"""

import numpy as np
import pandas as pd
import pytest
from conftest import make_catalog, make_log

from recgym import export
from recgym.batches import FrameBatches
from recgym.frames import encode_frame

F = 5


@pytest.fixture
def batch():
    """All decisions of the toy log, in its order."""
    return next(iter(FrameBatches(make_log(), F, batch_size=1000, shuffle=False, drop_last=False)))


def test_row_11_static_transitions_of_vectors_for_any_reader_of_hdf5(tmp_path, batch):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs recgym[hdf5]")
    catalog = make_catalog()
    path = export.to_hdf5(make_log(), tmp_path / "transitions.h5", catalog, frame_size=F)
    with h5py.File(path) as file:
        state, next_state, action = (file[name][:] for name in ("state", "next_state", "action"))
        reward, done = file["reward"][:], file["terminated"][:] | file["truncated"][:]
    frames = (batch.items, batch.rewards), (batch.next_items, batch.next_rewards)
    assert np.array_equal(state, encode_frame(catalog.table, *frames[0])) and state.shape == (78, F * 13)
    assert np.array_equal(next_state, encode_frame(catalog.table, *frames[1]))
    assert np.array_equal(action, catalog.embeddings[batch.action]) and np.array_equal(reward, batch.reward)
    assert done.sum() == 6 and np.array_equal(done, batch.terminated | batch.truncated)  # one end for each user


def test_row_11_static_transitions_of_indices_for_any_reader_of_parquet(tmp_path, batch):
    folder = export.to_parquet(make_log(), tmp_path / "transitions", make_catalog(), frame_size=F)
    columns = pd.read_parquet(folder)
    assert np.array_equal(np.stack(columns["items"]), batch.items)
    assert np.array_equal(columns["action"], batch.action) and np.array_equal(columns["reward"], batch.reward)
    vectors = pd.read_parquet(folder / "_items.parquet")["vector"]
    assert np.array_equal(np.stack(vectors)[batch.action], make_catalog().embeddings[batch.action])


def test_row_11_a_reader_of_batches_begins_anywhere(tmp_path, batch):
    path = export.to_parquet(make_log(), tmp_path / "transitions", frame_size=F)
    batches = list(export.read(path, batch_size=20, first=3))
    assert [len(part["action"]) for part in batches] == [20, 20, 20, 15]
    assert np.array_equal(np.concatenate([part["action"] for part in batches]), batch.action[3:])
