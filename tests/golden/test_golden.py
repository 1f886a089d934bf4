"""The users, items, rewards and ends of 200 steps per registered id never change: a change needs a new id, `-v1`.

Actions are items, so no rounding of vectors is in the hashes. `python tests/golden/test_golden.py` records new ids and
leaves alone what is recorded.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import recgym
from recgym.errors import MissingDataError
from recgym.frames import observed
from recgym.rng import uniforms

sys.path.append(str(Path(__file__).parent.parent))  # where `kinds` is, when this file is run by itself

from kinds import DATASET_OF, DIM, KIND_OF, OLD, VARIANTS, cases, data_of

RECORD = Path(__file__).with_name("hashes.json")
ROWS, STEPS = 8, 200


def write_table(path):
    """A table of text ids whose every number comes from the project's own generator."""
    lines = ["listener,track,stars,when"]
    for user in range(80):
        songs = np.argsort(uniforms(user, 60, stream=9), kind="stable")
        for place, song in enumerate(songs[: 14 + user % 30]):
            lines.append(f"user {user},song {song},{1 + (song * 7 + user) % 5},{1_000_000_000 + 60 * place}")
    path.write_text("\n".join(lines))
    columns = {"user": "listener", "item": "track", "reward": "stars", "time": "when"}
    return {"path": str(path), **columns, "transform": "scaled"}


def trajectory(env_id, options):
    """Returns the hash of the data and of the run: half of the actions are items the user has a record of, half any."""
    width = DIM.get((KIND_OF | OLD)[env_id], {"dim": 8})
    env = gym.make_vec(
        env_id, num_envs=ROWS, action="item", observation="history", autoreset_mode="SameStep", **{**width, **options}
    )
    log = getattr(env.users, "log", None)
    data = digest(log.items, log.rewards, log.offsets) if log is not None else ""
    drawn = uniforms(2024, STEPS * ROWS * env.k * 2).reshape(STEPS, 2, ROWS, env.k)
    observation, infos = env.reset(seed=7)
    seen = [infos["user"], observed(observation)[0]]
    for chance, place in drawn:
        actions = (place * env.users.n_items).astype(np.int64)
        if log is not None:
            begin, end = log.offsets[infos["user"]][:, None], log.offsets[infos["user"] + 1][:, None]
            rated = log.items[begin + (place * (end - begin)).astype(np.int64)]
            actions = np.where(chance < 0.5, rated, actions)
        observation, rewards, terminated, truncated, infos = env.step(actions if env.k > 1 else actions[:, 0])
        final = infos.get("final_info", infos)
        seen += [infos["user"], infos["items"], final["items"], final["answered"], rewards, terminated, truncated]
        seen += [*observed(observation)]
    return {"data": data, "run": digest(*seen)}


def digest(*arrays):
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def run(env_id, variant, folder):
    table = write_table(Path(folder) / "plays.csv") if data_of(env_id) == "Table" else {}
    return trajectory(env_id, {**table, **VARIANTS[(KIND_OF | OLD)[env_id]][variant]})


@pytest.mark.parametrize(("env_id", "variant"), cases(VARIANTS, old=True))
def test_trajectory_is_the_recorded_one(env_id, variant, tmp_path):
    is_ours = data_of(env_id) in ("Synthetic", "Table")
    if not is_ours:
        try:
            recgym.datasets.load(DATASET_OF[env_id])
        except MissingDataError:
            pytest.skip(f"the data of {DATASET_OF[env_id]} is not on this machine")
    recorded = json.loads(RECORD.read_text()).get(f"{env_id} {variant}")
    if recorded is None:
        pytest.skip("this id was never recorded with its data at hand; python tests/golden/test_golden.py does it")
    found = run(env_id, variant, tmp_path)
    if not is_ours and found["data"] != recorded["data"]:
        pytest.skip(f"this copy of {DATASET_OF[env_id]} is not the one that was recorded")
    assert found == recorded, "the same seed and actions give another run: register a new version and keep this one"


def test_a_changed_rule_changes_the_hash(tmp_path):
    changed = trajectory("recgym/Table-Frame-v0", {**write_table(tmp_path / "plays.csv"), "horizon": 19})
    assert run("recgym/Table-Frame-v0", "default", tmp_path)["run"] != changed["run"]


def test_every_id_of_our_own_data_is_recorded():
    recorded = json.loads(RECORD.read_text())
    ours = [
        f"{env_id} {variant}"
        for env_id, variant in cases(VARIANTS, old=True)
        if data_of(env_id) in ("Synthetic", "Table")
    ]
    assert not [name for name in ours if name not in recorded]


def main():
    """Records the ids that are not recorded yet and whose data is here."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for env_id, variant in cases(VARIANTS, old=True):
        key = f"{env_id} {variant}"
        if key not in recorded:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    recorded[key] = run(env_id, variant, folder)
            except MissingDataError:
                sys.stderr.write(f"{key}: no data, not recorded\n")
    RECORD.write_text(json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
