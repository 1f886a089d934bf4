"""Imports point down, every file has a layer, and torch stays out of recgym."""

import ast
import importlib
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from recgym._moved import MOVED

ROOT = Path(__file__).parent.parent
LAYERS = [  # from the ground up; a file may import from lines below its own, or from its own room
    "recgym.errors recgym.rng recgym.frames recgym._moved",
    "recgym.options recgym.ids recgym.rewards",
    "recgym.processes recgym.storage",
    "recgym.catalog recgym.log",
    "recgym.actions recgym.batches recgym.datasets recgym.scorers",
    "recgym.data_source recgym.embeddings",
    "recgym.users",
    "recgym.worlds",
    "recgym.envs",
    "recgym.evaluation",
    "recgym.export recgym.fidelity recgym.ope recgym.testing",
    "recgym.policies recgym.serving",
    "recgym.commands",
    "recgym",  # its public names, and `python -m recgym`
    "agents.networks",
    "agents.base agents.torch_agent agents.embedding_agent agents.item_agent",
    "agents.training",
    "agents.integrations",
    "agents",  # one file per algorithm
    "benchmarks",
]
LAYER = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms.split()}
# Between files of one line, and of no room in common.
NEIGHBOURS = {"agents.base", "agents.torch_agent", "agents.embedding_agent", "agents.item_agent"}
MAY_NEED_TORCH = {
    "recgym.batches.tensors",
    "recgym.embeddings.sentences",
    "recgym.embeddings.towers",
    "recgym.users.fitted.factor_training",
    "recgym.users.fitted.recurrent",
    "recgym.users.fitted.sequential_training",
    "recgym.users.fitted.training_loop",
}
TORCH = {"torch", "stable_baselines3", "safetensors.torch", "tensorboard"}
FILES = sorted(path for top in ("recgym", "agents", "benchmarks") for path in (ROOT / top).rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module):
    """Returns the longest name in LAYER that covers the module."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in LAYER:
            return ".".join(parts[:n])
    raise KeyError(module)


def imports(path):
    """Yields every module that is imported: at the top, in functions, and for types alone."""
    modules = {module_of(file) for file in FILES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules else node.module


def is_ours(module):
    return module.split(".")[0] in {"recgym", "agents", "benchmarks"}


def violation(module, imported):
    """Returns why `module` may not import `imported`, or None."""
    here, there = room(module), room(imported)
    if here == "recgym" and module not in ("recgym", "recgym.__main__"):
        return "a new room or module needs its line in LAYERS"
    if here == there == "agents":
        return "an algorithm never imports another" if module != "agents.vsknn" else None
    if ".tables." in module and here == there and ".tables" not in imported:
        return "the engine that reads tables knows nothing of the data sets that use it"
    if here == there or (here in NEIGHBOURS and there in NEIGHBOURS):
        return None
    return None if LAYER[there] < LAYER[here] else f"{here} (line {LAYER[here]}) imports {there} (line {LAYER[there]})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    module = module_of(path)
    wrong = [
        f"{module} imports {name}: {why}"
        for name in imports(path)
        if is_ours(name) and (why := violation(module, name))
    ]
    assert not wrong, "\n".join(wrong)


def test_checker_sees_planted_violations():
    assert violation("recgym.log", "recgym.envs.env")
    assert violation("recgym.evaluation.evaluate", "agents.base")
    assert violation("agents.ddpg", "agents.td3")
    assert violation("agents.ddpg", "benchmarks.run")
    assert violation("recgym.catalog", "recgym.evaluation.metrics")
    assert violation("recgym.datasets.movielens", "recgym.embeddings.svd")
    assert violation("recgym.stray", "recgym.errors")
    assert not violation("agents.ddpg", "agents.networks")
    assert not violation("benchmarks.run", "agents")


def test_no_import_cycles():
    graph = {module_of(path): {name for name in imports(path) if is_ours(name)} for path in FILES}
    done, stack = set(), []

    def visit(module):
        assert module not in stack, " -> ".join([*stack[stack.index(module) :], module])
        if module in done or module not in graph:
            return
        stack.append(module)
        for imported in graph[module] - {module}:
            visit(imported)
        stack.pop()
        done.add(module)

    for module in graph:
        visit(module)


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(ROOT / "recgym")], ids=lambda path: path.name
)
def test_only_named_modules_of_recgym_import_torch(path):
    if module_of(path) in MAY_NEED_TORCH:
        return
    found = [name for name in imports(path) if name.split(".")[0] in TORCH or name in TORCH]
    assert not found, f"{path.name} imports {found}"


def test_loose_modules_are_few():
    loose = [path.name for path in (ROOT / "recgym").glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(loose) <= 12, loose
    assert len(LAYERS) <= 24


def test_old_names_lead_to_the_modules_of_today():
    for old, new in MOVED.items():
        if new != "agents.integrations.d3rlpy":  # its library is an extra
            said = pytest.warns(DeprecationWarning, match=f"{old} is now {new}")
            with nullcontext() if old in sys.modules else said:
                assert importlib.import_module(old) is importlib.import_module(new)
    with pytest.warns(DeprecationWarning):
        old_name = importlib.import_module("recgym.users.parts.satiation")  # as pickles name it
    assert old_name is importlib.import_module("recgym.users.behaviours.satiation")


def test_top_level_imports_are_light():
    code = """if True:
        import sys, time, warnings, importlib
        warnings.simplefilter("error")
        start = time.process_time()
        import recgym
        seconds = time.process_time() - start  # of this process: other work on the machine does not count
        import gymnasium
        assert not any(m.split(".")[0] in ("torch", "pandas", "pyarrow", "scipy") for m in sys.modules), "heavy import"
        importlib.reload(recgym)
        assert seconds < 1.5, seconds
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environment_without_torch():
    code = """if True:
        import sys
        import gymnasium, recgym
        env = gymnasium.make("recgym/Synthetic-Frame-v0", n_users=60, n_items=40, dim=8)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
