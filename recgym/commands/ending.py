"""How a command ends: a user's mistake is one line and exit code 1, an interruption says how to go on and is 130."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from recgym.errors import RecgymError


def ended(run: Callable[[], Any], *, go_on: str = "run the same command again") -> int:
    """Runs a command and returns its exit code: what it returned where that is a number, 0, 1 or 130.

    `RECGYM_DEBUG=1` shows where a mistake was found.

    Args:
        run: The command.
        go_on: What to do after an interruption.
    """
    try:
        code = run()
    except RecgymError as error:
        if os.environ.get("RECGYM_DEBUG"):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; to go on, {go_on}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0
