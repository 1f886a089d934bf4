"""Work shared out over processes of one machine, with results that do not depend on how many there were.

Processes are forked, so that any function and any scorer will do, closures included, and a log is not copied. Each
computes with one thread of torch: it is the processes that keep the cores busy.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from typing import Any, TypeVar

from recgym.errors import RecgymError
from recgym.options import check_sizes

T = TypeVar("T")
_work: Callable[[int], Any]  # what this process is to do, known to forked processes only


def in_processes(work: Callable[[int], T], n: int, n_jobs: int = 1) -> list[T]:
    """Returns `[work(0), ..., work(n - 1)]`, worked out by `n_jobs` processes.

    Args:
        work: What to do for each number; what it changes is lost, what it returns is pickled.
        n: How many numbers.
        n_jobs: Processes. With one, or one number, all is done in this process.

    Raises:
        DataError: if `n_jobs` is no whole number of at least 1.
        RecgymError: if processes cannot be forked here (Windows, or CUDA is in use), or one of them was killed.
    """
    check_sizes(n_jobs=n_jobs)
    n_jobs = min(n_jobs, n)
    if n_jobs <= 1:
        return [work(number) for number in range(n)]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RecgymError(f"n_jobs must be 1 where CUDA is in use, got {n_jobs}; a forked process has no device")
    if "fork" not in multiprocessing.get_all_start_methods():
        raise RecgymError(f"n_jobs must be 1 where the system has no fork, got {n_jobs} on {sys.platform}")
    try:
        with ProcessPoolExecutor(n_jobs, multiprocessing.get_context("fork"), _begin, (work,)) as pool:
            return list(pool.map(_done, range(n)))
    except BrokenProcessPool:
        raise RecgymError(
            f"{n_jobs} processes must live to the end of their work, got one that was killed; if memory is short, "
            "lower n_jobs"
        ) from None


def shares(n: int, n_jobs: int) -> list[range]:
    """Returns the numbers 0 to n - 1 in at most `n_jobs` consecutive parts, as even as can be.

    Example:
        >>> shares(5, 2), shares(1, 2)
        ([range(0, 3), range(3, 5)], [range(0, 1)])
    """
    check_sizes(n_jobs=n_jobs)
    ends = [-(-n * job // n_jobs) for job in range(n_jobs + 1)]
    return [range(first, end) for first, end in pairwise(ends) if end > first]


def jobs_for(scorer: Any, n_jobs: int) -> int:
    """Returns the processes that may ask a scorer: one where it says `in_order`, its answers depend on earlier ones."""
    check_sizes(n_jobs=n_jobs)
    return 1 if getattr(scorer, "in_order", False) else n_jobs


def _begin(work: Callable[[int], Any]) -> None:
    global _work
    _work = work
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # more would wait for ever for threads that were not forked


def _done(number: int) -> Any:
    return _work(number)
