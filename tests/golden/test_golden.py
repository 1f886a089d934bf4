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
from recgym.registry import DATASETS
from recgym.rng import uniforms

RECORD = Path(__file__).with_name("hashes.json")
ROWS, STEPS = 8, 200
VARIANTS = {  # name -> options besides item actions
    "default": {},
    "slate": {"k": 3, "miss_reward": -0.1, "repeats": "zero"},
    "log": {"advance": "log", "end_of_log": "terminal", "split": "test"},
}


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
    """Returns the hash of the data and of the run: half of the actions are items the user rated, half any item."""
    env = gym.make_vec(
        env_id, num_envs=ROWS, action="item", observation="history", autoreset_mode="SameStep", dim=8, **options
    )
    log = env.users.log
    data = digest(log.items, log.rewards, log.offsets)
    drawn = uniforms(2024, STEPS * ROWS * env.k * 2).reshape(STEPS, 2, ROWS, env.k)
    observation, infos = env.reset(seed=7)
    seen = [infos["user"], observation["items"]]
    for chance, place in drawn:
        begin, end = log.offsets[infos["user"]][:, None], log.offsets[infos["user"] + 1][:, None]
        rated = log.items[begin + (place * (end - begin)).astype(np.int64)]
        actions = np.where(chance < 0.5, rated, (place * log.n_items).astype(np.int64))
        observation, rewards, terminated, truncated, infos = env.step(actions if env.k > 1 else actions[:, 0])
        final = infos.get("final_info", infos)
        seen += [infos["user"], infos["items"], final["items"], final["answered"], rewards, terminated, truncated]
        seen += [observation["items"], observation["rewards"]]
    return {"data": data, "run": digest(*seen)}


def digest(*arrays):
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def cases():
    return [
        (name, variant)
        for name in DATASETS
        for variant in (VARIANTS if name in ("Synthetic", "Table") else ["default"])
    ]


def run(name, variant, folder):
    table = write_table(Path(folder) / "plays.csv") if name == "Table" else {}
    return trajectory(f"recgym/{name}-Frame-v0", {**table, **VARIANTS[variant]})


@pytest.mark.parametrize(("name", "variant"), cases())
def test_trajectory_is_the_recorded_one(name, variant, tmp_path):
    if name not in ("Synthetic", "Table"):
        try:
            recgym.datasets.load(DATASETS[name])
        except MissingDataError:
            pytest.skip(f"the data of {DATASETS[name]} is not on this machine")
    recorded = json.loads(RECORD.read_text()).get(f"recgym/{name}-Frame-v0 {variant}")
    if recorded is None:
        pytest.skip("this id was never recorded with its data at hand; python tests/golden/test_golden.py does it")
    found = run(name, variant, tmp_path)
    if name not in ("Synthetic", "Table") and found["data"] != recorded["data"]:
        pytest.skip(f"this copy of {DATASETS[name]} is not the one that was recorded")
    assert found == recorded, "the same seed and actions give another run: register a new version and keep this one"


def test_a_changed_rule_changes_the_hash(tmp_path):
    assert (
        run("Table", "default", tmp_path)["run"]
        != trajectory("recgym/Table-Frame-v0", {**write_table(tmp_path / "plays.csv"), "horizon": 19})["run"]
    )


def main():
    """Records the ids that are not recorded yet and whose data is here."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name, variant in cases():
        key = f"recgym/{name}-Frame-v0 {variant}"
        if key not in recorded:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    recorded[key] = run(name, variant, folder)
            except MissingDataError:
                sys.stderr.write(f"{key}: no data, not recorded\n")
    RECORD.write_text(json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
