"""Run with `fail_writes.so` preloaded: fails every write of every writer in turn, and says what became of the files.

LD_PRELOAD=fail_writes.so python tests/faults/inject.py FOLDER MOST_PER_KIND SEED
"""

import ctypes
import json
import os
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from fault_kinds import KINDS, fresh, same  # noqa: E402

from recgym.errors import RecgymError  # noqa: E402

SHIM = ctypes.CDLL(None)


def attempt(name, path, n, for_good):
    """Writes the new over the old in a process of its own with the n-th write failing; returns code and writes seen."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code, said = 2, ""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            SHIM.fail_writes_arm(str(path.parent).encode(), n, for_good)
            KINDS[name][0](path, "new")
            code = 0
        except RecgymError as error:
            code, said = 1, str(error)
        except BaseException as error:
            said = repr(error)
        seen = SHIM.fail_writes_seen(), SHIM.fail_writes_failed()
        SHIM.fail_writes_arm(b"", 0, 0)
        os.write(write, json.dumps([code, *seen, said[:200]]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else [3, n, 1, "the process died"]


def main(folder, most, seed):
    """Prints a line of JSON per kind: tries, wrong, raw, and the first of each."""
    chance = random.Random(seed)
    for name, (_, read) in KINDS.items():
        old, new = (read(fresh(folder / which, name, which)) for which in ("old", "new"))
        _, n_writes, _, _ = attempt(name, fresh(folder / "x", name, "old"), 10**9, 0)
        tries = [(n, mode) for n in range(1, n_writes + 1) for mode in (0, 1)]
        tries = sorted(chance.sample(tries, min(most, len(tries))))
        wrong, raw = [], []
        for n, mode in tries:
            path = fresh(folder / "x", name, "old")
            code, _, failed, said = attempt(name, path, n, mode)
            if code >= 2:
                raw.append(f"write {n}/{mode}: {said}")
            try:
                found = read(path)
                right = same(found, new) or (code > 0 and same(found, old)) or not failed
            except Exception as error:
                right, said = False, f"{said} then {error!r}"
            if not right:
                wrong.append(f"write {n}/{mode}: code {code}, {said}")
        print(json.dumps({"kind": name, "tries": len(tries), "wrong": wrong, "raw": raw}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
