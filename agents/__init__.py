"""Agents for recgym: learners, rankers and the loops that train them."""

from __future__ import annotations

import lazy_loader

from recgym._moved import redirect

# Public names are those of __init__.pyi, loaded on first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

redirect()
