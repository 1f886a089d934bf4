"""Requests that come together are worked on together: one at a time in one thread, in batches of what waited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from recgym.errors import RecgymError


class BusyError(RecgymError):
    """There is more to do than can be done in time; ask again later."""


class _Waiting(NamedTuple):
    asked: Any
    future: asyncio.Future[Any]
    since: float  # the loop's time


class Batcher:
    """Gathers what is asked for within a few milliseconds, and has one thread work on it.

    Args:
        work: From what was asked for to a result for each, in order; a result that is an exception is raised.
        most: Asked for at most in one batch.
        wait_s: Seconds that the first one of a batch waits for others.
        queue: Asked for at most at a time; more is refused.
        limit_s: Seconds after which whoever asked is told that it takes too long.
        report: Told the size of every batch.
        thread: The one thread, where it is shared with other work; by default one of its own.
    """

    def __init__(
        self,
        work: Callable[[list[Any]], Sequence[Any]],
        *,
        most: int = 64,
        wait_s: float = 0.002,
        queue: int = 2_048,
        limit_s: float = 10.0,
        report: Callable[[int], None] = lambda size: None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self.work, self.most, self.wait_s, self.queue, self.limit_s = work, most, wait_s, queue, limit_s
        self.report = report
        self.thread = thread or ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._waiting: deque[_Waiting] = deque()
        self._come = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def n_waiting(self) -> int:
        """How many wait for a batch."""
        return len(self._waiting)

    async def ask(self, many: Sequence[Any]) -> list[Any]:
        """Returns the results of all that is asked for.

        Raises:
            BusyError: if too much waits, or it takes too long.
        """
        if self._closing or len(self._waiting) + len(many) > self.queue:
            raise BusyError(f"at most {self.queue} lists may wait, got {len(many)} more; ask again in a second")
        loop = asyncio.get_running_loop()
        mine = [_Waiting(one, loop.create_future(), loop.time()) for one in many]
        self._waiting.extend(mine)
        self._come.set()
        if self._running is None:
            self._running = loop.create_task(self._run())
        try:
            async with asyncio.timeout(self.limit_s):
                return list(await asyncio.gather(*(one.future for one in mine)))
        except TimeoutError:
            message = f"a list must be made within {self.limit_s:g} s, got no time for {len(many)}; ask again later"
            raise BusyError(message) from None

    async def _run(self) -> None:
        while not (self._closing and not self._waiting):
            await self._come.wait()
            if len(self._waiting) < self.most and not self._closing:
                left_s = self._waiting[0].since + self.wait_s - asyncio.get_running_loop().time()
                if left_s > 0:  # else it waited for the batch before: the thread works while that one is told
                    await asyncio.sleep(left_s)
            batch = [self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))]
            batch = [one for one in batch if not one.future.done()]  # nobody waits for the others any more
            if not self._waiting and not self._closing:
                self._come.clear()
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[_Waiting]) -> None:
        self.report(len(batch))
        loop = asyncio.get_running_loop()
        results: Sequence[Any]
        try:
            results = await loop.run_in_executor(self.thread, self.work, [one.asked for one in batch])
        except Exception as error:  # each is told; the next batch is worked on all the same
            results = [error] * len(batch)
        for one, result in zip(batch, results, strict=True):
            if one.future.done():
                continue
            if isinstance(result, Exception):
                one.future.set_exception(result)
            else:
                one.future.set_result(result)

    async def close(self) -> None:
        """Finishes what was asked for, and takes no more."""
        self._closing = True
        self._come.set()
        if self._running is not None:
            await self._running
