"""Every python block of README and docs/ runs, page by page; every command they name answers --help."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
CODE = {
    page: blocks for page, text in PAGES.items() if (blocks := re.findall(r"```python\n(.*?)```", text, flags=re.S))
}


def test_the_readme_is_short_and_shows_code():
    assert len(PAGES["README.md"].splitlines()) <= 200 and len(CODE["README.md"]) >= 3


@pytest.mark.parametrize("page", sorted(CODE))
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """A page stands alone: its blocks run in order, in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in CODE[page]:
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGES[page])
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


COMMANDS = sorted(set(re.findall(r"python -m ((?:recgym|agents|benchmarks)[\w.]*)", "".join(PAGES.values()))))


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_answer_help(module):
    assert (ROOT / (module.replace(".", "/"))).exists() or (ROOT / (module.replace(".", "/") + ".py")).exists()
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
