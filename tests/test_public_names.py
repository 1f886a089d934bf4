"""What `recgym` and `agents` show to the world: names that load on first use, and their types."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("package", ["recgym", "agents"])
def test_every_public_name_loads_and_nothing_else_does(package):
    module = importlib.import_module(package)
    assert {name for name in module.__all__ if getattr(module, name) is None} == set()
    assert set(dir(module)) >= set(module.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = module.NoSuchThing


@pytest.mark.slow
def test_type_checkers_see_the_types(tmp_path):
    (tmp_path / "use.py").write_text(
        "import agents, recgym\nreveal_type(recgym.InteractionLog)\nrecgym.NoSuchThing\nagents.DDPG(catalgo=1)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "use.py")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert 'use.py:2: note: Revealed type is "def (' in said and "recgym.log.interaction_log.InteractionLog" in said
    assert 'use.py:3: error: Module has no attribute "NoSuchThing"' in said
    assert 'use.py:4: error: Missing positional argument "catalog"' in said
