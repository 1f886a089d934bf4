"""How a command ends: a user's mistake is one line and exit code 1, an interruption says how to go on and is 130."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from recgym.errors import RecgymError

_DEBUG = "RECGYM_DEBUG"


def ended(
    run: Callable[[list[str]], Any],
    words: Sequence[str] | None = None,
    *,
    called: str = "recgym",
    go_on: str = "",
) -> int:
    """Runs a command and returns its exit code: what it returned where that is a number, 0, 1 or 130.

    What we refuse, what the system refuses (a file, a port, a full disk) and a package that is missing are one line;
    `--debug`, or `RECGYM_DEBUG=1`, shows where it happened. Anything else is a fault of ours, and keeps its traceback.

    Args:
        run: The command; called with its words, without `--debug`.
        words: By default those of this process.
        called: How the command is called, which an interruption repeats.
        go_on: What must be added to the words to go on after an interruption, e.g. `--resume`.
    """
    words = list(sys.argv[1:] if words is None else words)
    given = [word for word in words if word != "--debug"]
    before = os.environ.get(_DEBUG)
    if given != words:
        os.environ[_DEBUG] = "1"  # for commands within the command, and processes it starts
    try:
        code = run(given)
        sys.stdout.flush()  # here, where a reader who left is nobody's mistake
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has seen enough
        _leave_quietly()
        return 0
    except (RecgymError, OSError, ImportError, MemoryError) as error:
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        print(f"error: {_line(error)}", file=sys.stderr)
        return 1
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        print(f"error: {end.code}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        more = [go_on] if go_on and go_on not in given else []
        print(f"\ninterrupted; to go on: {called} {shlex.join([*given, *more])}".rstrip(), file=sys.stderr)
        return 130
    finally:
        if given != words:
            os.environ.pop(_DEBUG)
            os.environ.update({} if before is None else {_DEBUG: before})
    return code if isinstance(code, int) else 0


def _line(error: BaseException) -> str:
    """Returns what an error says in one line; a system's own names the file, and what it had to be."""
    if isinstance(error, OSError) and not isinstance(error, RecgymError) and error.strerror:
        of = f" ({error.filename})" if error.filename is not None else ""
        return f"the system must let a command do its work, got {error.strerror}{of}; see to that, or --debug"
    if isinstance(error, MemoryError):
        return f"memory must hold what was asked for, got {error or 'none left'}; ask for less"
    return " ".join(str(error).split())


def _leave_quietly() -> None:
    """Lets what is still to be written go nowhere, so that the interpreter does not complain as it ends."""
    with suppress(OSError, ValueError):  # an output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
