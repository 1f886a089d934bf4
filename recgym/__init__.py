"""recgym: turn a log of who consumed what into environments, agents and numbers one can trust."""

from __future__ import annotations

import lazy_loader

from recgym._moved import redirect
from recgym.envs.registry import register_envs

__version__ = "0.1.0"

# Public names are those of __init__.pyi, loaded on first use, so that `import recgym` stays quick.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]

redirect()
register_envs()
