"""The documentation site: Sphinx, furo and MyST-NB; pages of environments, agents and names are made as it is built."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import site_pages  # noqa: E402

import recgym  # noqa: E402

project = "recgym"
author = "The recgym developers"
release = version = recgym.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "generated/notebooks"]
html_theme = "furo"
html_title = f"recgym {release}"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_cache_path = str(ROOT / "docs" / "_build" / "cells")
nb_execution_mode = "cache"
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_merge_streams = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_rtype = False
default_role = "code"
nitpicky = False
suppress_warnings = [
    "myst.header",  # blocks of generated text begin at their own level
    "myst.xref_missing",  # links of DESIGN and the like to files that are no page; tests/test_readme.py checks files
]


def setup(app: Any) -> None:
    """Makes the generated pages, and the notebooks' other halves, before anything is read."""
    app.connect("builder-inited", lambda app: site_pages.write(Path(app.srcdir) / "generated"))
    app.connect("builder-inited", lambda app: site_pages.notebooks(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", site_pages.as_rst)
