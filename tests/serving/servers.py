"""Servers to ask: in a thread of the test's process, or in a process of their own."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import requests
import uvicorn

from recgym.commands.runs import load_served
from recgym.serving.app import create_app
from recgym.serving.state import Settings, State

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def in_thread(run, second=None, load=None, **settings):
    """Yields the address and the state of a server in this process."""
    state = State(load or (lambda: load_served(run)), Settings(**settings), second)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(state), log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", state
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def in_process(run, *options, env=None):
    """Yields the address and the process of `recgym serve`; it is ended at the end."""
    command = [sys.executable, "-m", "recgym", "serve", str(run), "--port", "0", *map(str, options)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (env or {})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd="/")
    try:
        line = process.stdout.readline()
        assert "served at" in line, line + process.stderr.read()
        yield line.partition("served at ")[2].split()[0], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        process.stdout.close()
        process.stderr.close()


def until(what, seconds=20):
    """Returns what `what()` returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def recommend(address, **body):
    return requests.post(f"{address}/recommend", json=body, timeout=20)
