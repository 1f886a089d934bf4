"""`python -m recgym serve RUN`: recommendations of a trained agent over HTTP, and a page to try it."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from recgym.commands.runs import load_served
from recgym.errors import DataError, RecgymError
from recgym.options import check_finite, check_sizes

if TYPE_CHECKING:
    from recgym.serving.state import Settings

_TOKEN = "RECGYM_RELOAD_TOKEN"
_EPILOG = f"""\
RUN is the folder of a training run (its newest checkpoint is served), its best/, or a folder that agents.save wrote.
SIGHUP loads it anew. With {_TOKEN} set in the environment, so does POST /reload with that token.
SIGTERM and Ctrl-C end the server when it has answered what it was asked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="folder of a trained agent; nothing else is needed")
    add("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)")
    add("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda or auto (default: %(default)s)")
    add("--beside", type=Path, metavar="RUN", help="a second run that the page shows beside the first")
    add("--log", type=Path, metavar="FOLDER", help="write down every shown list with its propensities, and answers")
    add("--explore", type=float, metavar="TEMPERATURE", help="draw lists from a softmax over scores, standardised")
    add("--epsilon", type=float, default=0.0, help="with --explore: share of uniform choices (default: %(default)s)")
    add("--seed", type=int, help="of the draws; without one they cannot be foreseen")
    add("--wait-ms", type=float, default=2.0, help="how long a request waits for others (default: %(default)s)")
    add("--batch", type=int, default=64, help="lists scored together at most (default: %(default)s)")
    add("--limit", type=float, default=10.0, metavar="SECONDS", help="a request may take (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Serves until a signal ends it; returns 0."""
    try:
        import uvicorn

        from recgym.serving.app import create_app
        from recgym.serving.state import State
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "pydantic", "starlette"):
            raise
        raise RecgymError('serving must have FastAPI and uvicorn, got none; pip install "recgym[serve]"') from error
    settings = _settings(options)
    second = None if options.beside is None else load_served(options.beside, options.device)
    state = State(partial(load_served, options.run_folder, options.device), settings, second)
    _leave_a_core()
    listening = _listen(options.host, options.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    app = create_app(state, lambda: print(f"{options.run_folder} is served at {address} (Ctrl-C ends it)", flush=True))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=15, backlog=1024,
        timeout_graceful_shutdown=int(settings.limit_s) + 5,
    )  # fmt: skip
    sys.setswitchinterval(0.0001)  # threads that read and score take turns: five milliseconds are long for either
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    from recgym.serving.state import Settings

    if options.explore is None and options.epsilon:
        raise DataError(f"epsilon must come with --explore, got {options.epsilon:g} alone; pass both")
    check_finite(limit=options.limit, wait_ms=options.wait_ms)
    check_sizes(batch=options.batch)
    if not (0 <= options.wait_ms <= 1000 and 0 < options.limit <= 600):
        raise DataError(
            f"wait-ms must lie in 0..1000 and limit in 0..600, got {options.wait_ms:g} and {options.limit:g}; mend them"
        )
    token = os.environ.get(_TOKEN)
    if token is not None and len(token) < 16:
        raise DataError(f"{_TOKEN} must have at least 16 letters, got {len(token)}; draw one at random")
    return Settings(
        log=options.log, explore=options.explore, epsilon=options.epsilon, wait_ms=options.wait_ms,
        batch=options.batch, limit_s=options.limit, reload_token=token, seed=options.seed,
    )  # fmt: skip


def _leave_a_core() -> None:
    """Scores with all cores but one, which reads requests meanwhile; `OMP_NUM_THREADS` says otherwise."""
    torch = sys.modules.get("torch")  # an agent without networks comes without it
    if torch is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) - 1, 1))


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket, so that whoever reads the address can ask at once."""
    try:
        if not 0 <= port <= 65_535:
            raise OSError("no such port")
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(1024)
        return made
    except OSError as error:
        raise RecgymError(f"{host}:{port} must be free to listen at, got {error}; choose another --port") from error
