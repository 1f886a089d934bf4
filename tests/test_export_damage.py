"""HDF5 exports whose bytes are not those that were written: seen before they take their name, or when read."""

import struct

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym import export
from recgym.errors import StoreError
from recgym.export import hdf5

pytest.importorskip("h5py", reason="HDF5 needs recgym[hdf5]")


@pytest.mark.parametrize("column", ["items", "reward", "truncated"])
@pytest.mark.parametrize("form", ["another byte", "cut"])
def test_a_block_that_is_other_in_the_file_is_not_published(form, column, tmp_path, monkeypatch):
    proved = hdf5.proved

    def spoiled(path, there, places, made, first):
        at = places[column] + first * made[column][:1].nbytes + made[column].nbytes - 1
        with open(path, "r+b") as file:
            if form == "cut":
                file.truncate(at)
            file.seek(at)
            last = file.read(1)
            file.seek(at)
            file.write(bytes([last[0] ^ 1]) if form != "cut" else b"")
        return proved(path, there, places, made, first)

    monkeypatch.setattr(hdf5, "proved", spoiled)
    with pytest.raises(StoreError):
        export.to_compact(make_log(), tmp_path / "out", make_catalog(), frame_size=5)
    assert not (tmp_path / "out").exists()


def test_checksums_are_of_what_is_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_BLOCK", 700)
    monkeypatch.setattr(hdf5, "_COMMIT", 1500)
    path = export.to_compact(make_log(), tmp_path / "out", make_catalog(), frame_size=5)
    export.verify(path)
    content = bytearray(path.read_bytes())
    reward = next(export.read(path))["reward"].astype(np.float32).tobytes()
    content[content.index(reward)] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="got other values of 'reward' in rows 0 to"):
        export.verify(path)


@pytest.mark.parametrize("large", [False, True])
def test_a_heap_that_hdf5_would_read_for_ever_is_refused(large, tmp_path, monkeypatch):
    path = export.to_compact(make_log(), tmp_path / "out", make_catalog(), frame_size=5)
    if large:
        monkeypatch.setattr("recgym.export.hdf5_files._WHOLE", 0)
    assert len(list(export.read(path))) == 1
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    struct.pack_into("<H6xQ", content, heap + 16, 0, 0)  # free space of no bytes
    path.write_bytes(content)
    with pytest.raises(StoreError, match="a damaged heap at byte"):
        list(export.read(path))
