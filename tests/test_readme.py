"""Every python block of the README runs, in order, in one namespace; every command it names answers --help."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert blocks, "the README shows no code"
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


COMMANDS = sorted(set(re.findall(r"python -m ((?:recgym|agents|benchmarks)[\w.]*)", README)))


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_answer_help(module):
    assert (ROOT / (module.replace(".", "/"))).exists() or (ROOT / (module.replace(".", "/") + ".py")).exists()
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
