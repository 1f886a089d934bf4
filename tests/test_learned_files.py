"""Learned users as files: saved and loaded the same, and refused where damaged."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from test_learned_users import hand_made

from recgym import users
from recgym.errors import StoreError
from recgym.storage.store import MANIFEST
from recgym.users import LearnedUsers
from recgym.users.fitted.provenance import FittedOn


@pytest.mark.parametrize("kind", ["mf", "sequential"])
def test_a_saved_model_is_the_same(log, catalog, tmp_path, kind):
    log = replace(log, user_ids=np.array([("a", n) for n in range(6)] + [None], dtype=object)[:6])
    fitted = users.fit(log, catalog, kind, dim=4, max_epochs=2, n_members=2)
    fitted.save(tmp_path / "model")
    loaded = LearnedUsers.load(tmp_path / "model")
    people, items = np.repeat(np.arange(6), 40), np.tile(np.arange(40), 6)
    for mine, theirs in zip(fitted.predict(people, items), loaded.predict(people, items), strict=True):
        assert np.array_equal(mine, theirs)
    assert loaded.user_ids.tolist() == log.user_ids.tolist() and loaded.item_ids.tolist() == log.item_ids.tolist()
    assert loaded.about == fitted.about and loaded.reward_range == fitted.reward_range and loaded.log is None
    assert loaded.saw(log) == (1.0, 1.0, True) and loaded.leaving.sessions == "one"
    assert np.array_equal(loaded.leaving.base, fitted.leaving.base)
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert manifest["about"] == {"model": kind, "log_hash": FittedOn.of(log).log_hash}


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_damaged_files_are_refused(log, tmp_path, name):
    hand_made(log).save(tmp_path / "model")
    file = tmp_path / "model" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(
        StoreError, match=re.escape(f"{name} must have the recorded SHA-256, got another; it is damaged")
    ):
        LearnedUsers.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(StoreError, match="got no such file; it is damaged"):
        LearnedUsers.load(tmp_path / "model")


def test_a_folder_of_something_else_is_refused(tmp_path, log):
    log.save(tmp_path / "log")
    with pytest.raises(StoreError, match="must hold 'users' version 1, got 'log' version 1"):
        LearnedUsers.load(tmp_path / "log")
