"""No line of ours has to meet a CUDA device first to fail there: every agent lives on a pretended one."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PLANTED = {
    "a copy that nobody waited for": (
        "agents.training.online.to_tensor = lambda array, device: torch.as_tensor(array).to(device, non_blocking=True)",
        "copies that nobody waited for",
    ),
    "a table on the host": (
        "own = agents.DDPG.use_constants\n"
        "def planted(self, constants):\n"
        "    own(self, constants)\n"
        "    self.inputs = self.inputs.to('cpu')\n"
        "agents.DDPG.use_constants = planted",
        "MixedDevices",
    ),
    "a state of the other kind": (
        "import agents.base\nagents.base.restore_stream = lambda g, state, *_: g.set_state(state['generator'])",
        "got a state of 16 bytes",
    ),
}


def lives(what, planted=""):
    script = TESTS / "pretended_runs.py"
    code = f"import sys; sys.argv = ['runs', {what!r}]; sys.path.insert(0, {str(TESTS)!r})\n"
    source = script.read_text().replace("\n\nmain()\n", f"\n\n{planted}\nmain()\n")
    return subprocess.run(
        [sys.executable, "-c", code + source.replace("__file__", repr(str(script)))],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        timeout=800,
    )


def test_agents_live_on_a_pretended_device():
    done = lives("quick")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.mark.slow
def test_every_agent_and_option_lives_on_a_pretended_device():
    done = lives("all")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("what", PLANTED)
def test_planted_mistakes_are_found(what):
    """The leg can fail: each kind of mistake, planted, is named."""
    planted, message = PLANTED[what]
    done = lives("quick", planted)
    assert done.returncode == 1
    assert message in done.stdout
