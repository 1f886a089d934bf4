"""Every python block of README and docs/ runs, page by page; every command they name answers --help."""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IN_ORDER = "docs/quickstart.md"  # its shell lines run too, between its Python
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
CODE = {
    page: blocks for page, text in PAGES.items() if (blocks := re.findall(r"```python\n(.*?)```", text, flags=re.S))
}


def test_the_readme_is_short_and_shows_code():
    assert len(PAGES["README.md"].splitlines()) <= 200 and len(CODE["README.md"]) >= 3


@pytest.mark.parametrize("page", sorted(CODE.keys() - {IN_ORDER}))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """A page stands alone: its blocks run in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in CODE[page]:
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.slow
def test_the_quickstart_leads_from_a_table_to_a_judged_agent(tmp_path, monkeypatch, capsys):
    """By the page alone, in under ten minutes: all that stands on it, in order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    began, namespace, said = time.monotonic(), {}, ""
    for language, block in re.findall(r"```(python|bash)\n(.*?)```", PAGES[IN_ORDER], flags=re.S):
        if language == "python":
            exec(compile(block, IN_ORDER, "exec"), namespace)
        for line in block.strip().splitlines() if language == "bash" else []:
            words = [sys.executable, "-m", *shlex.split(line)]
            said += subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "5,000 events, 200 users, 60 items" in said and "ndcg" in said
    assert capsys.readouterr().out.count("hit_rate") == 2 and len(namespace["agent"].catalog.item_ids) == 60
    assert time.monotonic() - began < 600


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#|generated/)([^)#]+)", PAGES[page])  # what is generated, `make docs` checks
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


COMMANDS = sorted(
    name
    for name in set(re.findall(r"python -m ((?:recgym|agents|benchmarks)[\w.]*)", "".join(PAGES.values())))
    if not name.endswith(".NAME")
)


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_answer_help(module):
    assert (ROOT / (module.replace(".", "/"))).exists() or (ROOT / (module.replace(".", "/") + ".py")).exists()
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
