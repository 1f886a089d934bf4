"""What a server holds while it runs: the run it serves, what waits, what is written down, and what it counts."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from recgym.errors import DataError, RecgymError
from recgym.log import shown as shown_lists
from recgym.serving.batching import Batcher
from recgym.serving.exploring import Explorer
from recgym.serving.measures import Measures
from recgym.serving.requests import Answer, Event, Recommend, shown
from recgym.serving.served import Asked, Listed, Served, rank

_REMEMBERED = 20_000  # newest lists whose items are remembered, to refuse answers about others


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        log: Folder that shown lists are written to, or None.
        explore: Temperature of the softmax that lists are drawn from; None shows the best.
        epsilon: Share of uniform choices among them.
        wait_ms: Milliseconds that a request waits for others to be scored with.
        batch: Lists scored together at most.
        limit_s: Seconds that a request may take.
        reload_token: What `POST /reload` must bring; None: there is no such route.
        seed: Of the draws; None is the machine's own chance.
    """

    log: Path | None = None
    explore: float | None = None
    epsilon: float = 0.0
    wait_ms: float = 2.0
    batch: int = 64
    limit_s: float = 10.0
    reload_token: str | None = None
    seed: int | None = None


class _Job(NamedTuple):
    """A list to make, and what is written down of it."""

    asked: Asked
    user: Any
    logged: bool


class State:
    """A server's state; requests of one event loop use it.

    Args:
        load: Returns what is served; called again by `reload`.
        settings: See there.
        second: A second run to show beside the first, or None.

    Raises:
        RecgymError: if the run or the log's folder is not what it must be.
    """

    def __init__(self, load: Callable[[], Served], settings: Settings, second: Served | None = None) -> None:
        self.load, self.settings, self.second = load, settings, second
        self.measures = Measures()
        self.log = None if settings.log is None else shown_lists.ShownLists(settings.log)
        self.take(load())
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        limits: dict[str, Any] = {"limit_s": settings.limit_s, "thread": self.thread}
        most, wait_s = settings.batch, settings.wait_ms / 1000
        self.lists = Batcher(self._make, most=most, wait_s=wait_s, report=self.measures.batches.add, **limits)
        self.answers = Batcher(self._write, most=1_000, wait_s=wait_s, **limits)
        self._remembered: OrderedDict[str, frozenset[Any]] = OrderedDict()
        self.closing = False

    def take(self, served: Served) -> None:
        """Serves another run from the next request on; those under way are answered by the one they were asked of."""
        explore = self.settings.explore
        explorer = None
        if explore is not None:
            explorer = Explorer(served.scorer, explore, self.settings.epsilon, self.settings.seed)
        if self.log is not None:
            about = {"run": served.about, "temperature": explore, "epsilon": self.settings.epsilon}
            self.log.know(served.mark, served.item_ids, served.reward, served.titles, about)
        self.now = (served, explorer)

    async def reload(self) -> str:
        """Loads the run anew, serves it and returns its mark; where it cannot be loaded the old one stays.

        Raises:
            RecgymError: if it cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        served = await loop.run_in_executor(None, self.load)
        self.take(served)
        self.measures.counts["reloads"] += 1
        return served.mark

    async def close(self) -> None:
        """Finishes what was asked for."""
        self.closing = True
        await self.lists.close()
        await self.answers.close()
        self.thread.shutdown()
        if self.log is not None:
            self.log.close()

    # -- lists ---------------------------------------------------------------------------------------------------------

    async def recommend(self, asked: Recommend) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
            DataError: if the request cannot be met, with the culprit.
            BusyError: if there is too much to do.
        """
        served, explorer = self._by(asked.by)
        histories, users = _pasts(asked)
        if self.log is not None and asked.by == "run" and not asked.exclude_seen:
            raise DataError("exclude_seen must be true where lists are logged, got false; leave it out")
        unknown: list[list[Any]] = []
        jobs = []
        common: list[Any] = []
        allowed = self._allowed(served, asked, common)
        for history, user in zip(histories, users, strict=True):
            found = [served.find(one.item) for one in history]
            unknown.append([one.item for one, index in zip(history, found, strict=True) if index is None])
            known = [one.rating for one, index in zip(history, found, strict=True) if index is not None]
            items, rewards = [index for index in found if index is not None], served.rewards(known)
            index = served.user(user)
            one = Asked(served, items, rewards, index, asked.k, allowed, asked.exclude_seen, explorer)
            jobs.append(_Job(one, user, self.log is not None and asked.by == "run"))
        made = await self.lists.ask(jobs)
        self.measures.counts["lists"] += len(made)
        self.measures.counts["unknown_items"] += sum(map(len, unknown)) + len(common)
        answers = [
            _told(job.asked, listed, mark, asked.explain) | {"unknown": list(dict.fromkeys([*lacking, *common]))}
            for job, (listed, mark), lacking in zip(jobs, made, unknown, strict=True)
        ]
        return answers[0] if asked.histories is None else {"lists": answers, "model": served.mark}

    def _by(self, by: str) -> tuple[Served, Explorer | None]:
        served, explorer = self.now
        if by == "run":
            return served, explorer
        other = served.by_popularity if by == "popularity" else self.second
        if other is None:
            why = "the run does not know it" if by == "popularity" else "the server was started without --beside"
            raise DataError(f"by must be what this server has, got {by!r}; {why}")
        return other, None

    def _allowed(self, served: Served, asked: Recommend, unknown: list[Any]) -> Any:
        """Returns which items the request leaves; those it names that are not known are added to `unknown`."""

        def indices(ids: Sequence[Any]) -> list[int]:
            found = [served.find(one) for one in ids]
            unknown.extend(one for one, index in zip(ids, found, strict=True) if index is None)
            return [index for index in found if index is not None]

        candidates = None if asked.candidates is None else indices(asked.candidates)
        return served.allowed(indices(asked.exclude), candidates, asked.where)

    def _make(self, jobs: list[_Job]) -> list[Any]:
        """Returns lists with their marks, or errors; what is logged is on the disk by then. Runs in the one thread."""
        made = rank([job.asked for job in jobs])
        found: list[Any] = []
        lines = []
        for job, listed in zip(jobs, made, strict=True):
            mark = uuid.uuid4().hex if job.logged and isinstance(listed, Listed) else None
            found.append(listed if isinstance(listed, RecgymError) else (listed, mark))
            if mark is not None and isinstance(listed, Listed):
                lines.append(_line(job, listed, mark))
        if self.log is not None and lines:
            try:
                self.log.write(lines)
            except RecgymError as error:  # nothing is shown that could not be written down
                return [error if job.logged else one for job, one in zip(jobs, found, strict=True)]
            for line in lines:
                self._remembered[line["list"]] = frozenset(line["items"])
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    # -- answers -------------------------------------------------------------------------------------------------------

    async def feedback(self, answers: Sequence[Answer]) -> int:
        """Writes down answers of people; returns how many.

        Raises:
            DataError: if nothing is logged, or an item was not in its list.
        """
        if self.log is None:
            raise DataError("feedback must be of logged lists, got a server without --log; start it with --log FOLDER")
        served, _ = self.now
        lines = []
        for place, one in enumerate(answers):
            index = served.find(one.item)
            item = one.item if index is None else served.item_ids[index]
            there = self._remembered.get(one.list)
            if there is not None and item not in there:
                raise DataError(
                    f"answers[{place}].item must be in its list, got {shown(one.item)}; answer what was shown"
                )
            lines.append({"answer": one.list, "item": item, "reward": one.reward, "at": time.time()})
        await self.answers.ask(lines)
        self.measures.counts["answers"] += len(lines)
        return len(lines)

    def _write(self, lines: list[Mapping[str, Any]]) -> list[Any]:
        assert self.log is not None
        self.log.write(lines)
        return [None] * len(lines)


def _pasts(asked: Recommend) -> tuple[list[list[Event]], list[Any]]:
    """Returns histories and users of a request."""
    if asked.histories is None:
        if asked.users is not None:
            raise DataError("users must come with histories, got users alone; use user for one history")
        return [asked.history or []], [asked.user]
    if asked.history is not None or asked.user is not None:
        raise DataError("a request must have history or histories, got both (or user with histories); give one")
    users = [None] * len(asked.histories) if asked.users is None else asked.users
    if len(users) != len(asked.histories):
        raise DataError(f"users must be one per history, got {len(users)} for {len(asked.histories)}; align them")
    return list(asked.histories), users


def _told(asked: Asked, listed: Listed, mark: str | None, explain: bool) -> dict[str, Any]:
    """Returns a list as it is answered."""
    served, items = asked.served, listed.items.tolist()
    because = served.reasons(items, asked.items, asked.rewards) if explain else []
    rows = []
    for place, (item, score, chance) in enumerate(
        zip(items, listed.scores.tolist(), listed.shown.marginal.tolist(), strict=True)
    ):
        row = {"id": served.item_ids[item], "title": served.title(item), "score": score if abs(score) < 1e30 else None}
        row["propensity"] = round(chance, 9)
        if explain:
            near = because[place]
            row["because"] = None if near is None else {"id": served.item_ids[near], "title": served.title(near)}
        rows.append(row)
    return {"items": rows, "list": mark, "model": served.mark}


def _line(job: _Job, listed: Listed, mark: str) -> dict[str, Any]:
    """Returns what is written down of a shown list, see `recgym.log.shown`."""
    asked, ids = job.asked, job.asked.served.item_ids
    return {
        "list": mark,
        "time": int(time.time()),
        "model": asked.served.mark,
        "user": job.user,
        "history": [[ids[item], reward] for item, reward in zip(asked.items, asked.rewards, strict=True)],
        "items": [ids[item] for item in listed.items.tolist()],
        "marginal": listed.shown.marginal.tolist(),
        "given": listed.shown.given_above.tolist(),
        "error": listed.shown.error.tolist(),
        "allowed": shown_lists.packed(asked.allowed),
    }
