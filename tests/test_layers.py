"""Imports point down, every file has a layer, and torch stays out of recgym."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {  # module or folder -> layer; a file may import only from layers below, or from its own folder
    "recgym.errors": 0,
    "recgym.rng": 0,
    "recgym.catalog": 1,
    "recgym.cache": 2,
    "recgym.download": 2,
    "recgym.metrics": 1,
    "recgym.options": 1,
    "recgym.processes": 2,
    "recgym.rewards": 1,
    "recgym.disk": 0,
    "recgym.locks": 0.5,
    "recgym.manifests": 0.5,
    "recgym.store": 0.9,
    "recgym.ids": 0.5,
    "recgym.log": 3,
    "recgym.actions": 2,
    "recgym.frames": 3,
    "recgym.learned": 4,
    "recgym.learned.dssm": 5.5,
    "recgym.batches": 5,
    "recgym.policies": 5,
    "recgym.recent": 5,
    "recgym.datasets": 5,
    "recgym.data_source": 5.5,
    "recgym.embeddings": 6,
    "recgym.users": 5,
    "recgym.render": 5,
    "recgym.scoring": 6,
    "recgym.questions": 6,
    "recgym.ope": 8,
    "recgym.stochastic": 6.5,
    "recgym.collection": 7,
    "recgym.export": 8.5,
    "recgym.fidelity": 8.5,
    "recgym.sessions": 5,
    "recgym.spaces": 5,
    "recgym.infos": 5.5,
    "recgym.context": 5.2,
    "recgym.vector": 6,
    "recgym.env": 7,
    "recgym.evaluate": 8,
    "recgym.worlds": 7,
    "recgym.option_docs": 7.5,
    "recgym.registry": 8,
    "recgym.pages": 8.2,
    "recgym.best_slates": 7,
    "recgym.planning": 8,
    "recgym.comparison": 9,
    "recgym.floors": 9,
    "recgym.testing": 8,
    "recgym.torchrl_batch": 7,
    "recgym.testing.__main__": 9,
    "recgym.testing.worth": 9.2,
    "recgym.serving": 9.2,
    "recgym.commands": 9.5,
    "recgym.__main__": 10,
    "recgym": 9,
    "agents.base": 10,
    "agents.networks": 9.5,
    "agents.bounds": 10,
    "agents.finite": 9.5,
    "agents.scaling": 10,
    "agents.embedding_agent": 10.7,
    "agents.losses": 10.8,
    "agents.anomaly": 10.1,
    "agents.diagnosis": 10.6,
    "agents.diagnostics": 10.8,
    "agents.actors": 10,
    "agents.twins": 10.8,
    "agents.replay": 10,
    "agents.prioritized": 10.5,
    "agents.returns": 10.5,
    "agents.reports": 10,
    "agents.checkpoint": 10,
    "agents.saving": 9.8,
    "agents.cores": 10.5,
    "agents.correction": 10,
    "agents.encoders": 10.6,
    "agents.encoded": 10.6,
    "agents.heads": 10.5,
    "agents.item_agent": 10.5,
    "agents.sequence_network": 10.8,
    "agents.softmax": 10,
    "agents.auto": 10.5,
    "agents.online": 10.9,
    "agents.train": 11,
    "agents.baselines": 11,
    "agents.sb3_buffer": 11,
    "agents.sb3_env": 11,
    "agents": 12,  # one file per algorithm, and the package itself
    "benchmarks": 13,
}
SIBLINGS = {  # folders and pairs of one layer whose files may import each other (never in a circle)
    "recgym.datasets",
    "recgym.embeddings",
    "recgym.users",
    "recgym.worlds",
    "recgym.actions",
    "recgym.commands",
    "recgym.serving",
    "recgym.batches",
    "recgym.learned",
    "recgym.log",
    "recgym.ope",
    "recgym.export",
    "recgym.fidelity",
    "benchmarks",
}
TORCH = {"torch", "stable_baselines3", "safetensors.torch", "tensorboard"}
FILES = sorted(path for top in ("recgym", "agents", "benchmarks") for path in (ROOT / top).rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module):
    """Returns the longest key of LAYERS that covers the module."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in LAYERS:
            return ".".join(parts[:n])
    raise KeyError(module)


def imports(path):
    """Yields (module, at_top_level) for every import, TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text())
    modules = {module_of(file) for file in FILES}
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in modules else node.module), id(node) in top


def is_ours(module):
    return module.split(".")[0] in {"recgym", "agents", "benchmarks"}


def violation(module, imported):
    """Returns why `module` may not import `imported`, or None."""
    if imported in ("recgym", "agents") and module.split(".")[0] != imported:
        imported_layer = LAYERS["recgym" if imported == "recgym" else "agents.train"]  # public names
    else:
        imported_layer = LAYERS[place(imported)]
    same = place(module) == place(imported)
    if same and place(module) in SIBLINGS:
        return None
    if same and place(module) == "agents" and imported != "agents":
        return "an algorithm never imports another"
    if imported_layer >= LAYERS[place(module)] and not (same and module == imported):
        return f"layer {LAYERS[place(module)]} imports layer {imported_layer}"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    module = module_of(path)
    wrong = [
        f"{module} imports {name}: {why}"
        for name, _ in imports(path)
        if is_ours(name) and (why := violation(module, name))
    ]
    assert not wrong, "\n".join(wrong)


def test_checker_sees_planted_violations():
    assert violation("recgym.log", "recgym.env")
    assert violation("recgym.evaluate", "agents.base")
    assert violation("agents.ddpg", "agents.td3")
    assert violation("agents.ddpg", "benchmarks.run")
    assert violation("recgym.catalog", "recgym.metrics")
    assert not violation("agents.ddpg", "agents.networks")
    assert not violation("benchmarks.run", "agents")


def test_no_import_cycles():
    graph = {module_of(path): {name for name, _ in imports(path) if is_ours(name)} for path in FILES}
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
def test_only_learned_imports_torch(path):
    if path.is_relative_to(ROOT / "recgym" / "learned"):
        return
    found = [name for name, _ in imports(path) if name.split(".")[0] in TORCH or name in TORCH]
    assert not found, f"{path.name} imports {found}"


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
