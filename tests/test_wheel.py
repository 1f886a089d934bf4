"""A wheel, installed into a clean environment outside the clone, imports and makes environments."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRY = """
import pathlib, gymnasium as gym, recgym, agents, benchmarks.run
home = pathlib.Path(r"{root}").resolve()
assert home not in pathlib.Path(recgym.__file__).resolve().parents, recgym.__file__
env = gym.make("recgym/Synthetic-Frame-v0", n_users=60, n_items=40, dim=8)
env.reset(seed=0)
env.step(env.action_space.sample())
print(agents.DDPG.__name__)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_in_a_clean_environment(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"recgym", "agents", "benchmarks"}, tops
    assert "recgym/py.typed" in names and any(name.endswith("licenses/LICENSE") for name in names)

    home = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(home / "bin" / "python"), "-c", TRY.format(root=ROOT)],
        cwd=tmp_path, env=clean | {"RECGYM_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["DDPG"]
