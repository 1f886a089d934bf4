"""A card for anyone's simulator: what can be seen of it from outside, each line with a verdict in words.

A simulator is asked by acting in it, nothing of it is read. What no line can see stays unsaid: whether its people are
like yours needs a log in which policies differ (see `recgym.evaluate_policy`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recgym.errors import DataError
from recgym.fidelity.shapes import Played, Shaped, as_gymnasium, play, rewards_of
from recgym.log import InteractionLog

_ALIKE = 0.02  # of the range of rewards: differences below it are none
_FEW = 30  # cases below which nothing is said


class Line(NamedTuple):
    """One line of the card."""

    name: str
    value: float  # NaN where it could not be measured
    good: bool | None  # None: no verdict
    words: str


@dataclass(frozen=True)
class SimulatorCard:
    """What a simulator is like from outside; `str` says it."""

    name: str
    lines: tuple[Line, ...]

    def __getitem__(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the lines whose verdict is bad."""
        return tuple(line.name for line in self.lines if line.good is not None and not line.good)

    def __str__(self) -> str:
        marks = {True: "ok  ", False: "BAD ", None: "    "}
        lines = [f"  {marks[line.good]} {line.name:20} {line.value:10.4g}  {line.words}" for line in self.lines]
        bad = f"{len(self.faults)} of {len(self.lines)} lines are bad" if self.faults else "no line is bad"
        return "\n".join([f"simulator card of {self.name}: {bad}", *lines])


def judge(
    factory: Callable[[], Any],
    log: InteractionLog | None = None,
    *,
    name: str = "simulator",
    n_sessions: int = 200,
    horizon: int = 30,
    seed: int = 0,
) -> SimulatorCard:
    """Returns the card of a simulator: `print` it.

    Args:
        factory: Makes the simulator: a Gymnasium environment with `Discrete` actions that are item indices (those of
            `log.item_ids`), or what `as_gymnasium` takes: a Gym-0.2x or RecSim-shaped one, or a function
            `rate(items_so_far, item) -> reward`.
        log: What its people should be like, in the simulator's unit of rewards. Without one, nothing is compared.
        name: Of the card.
        n_sessions: Sessions of random items that are played.
        horizon: Steps of each at most.
        seed: Of everything.

    Raises:
        DataError: if it cannot be acted in, or has other items than the log.
    """
    env = as_gymnasium(factory())
    n_items = env.n_items
    if log is not None and log.n_items != n_items:
        raise DataError(f"simulator and log must have the same items, got {n_items} and {log.n_items}; map them")
    random = np.random.default_rng(seed)
    played = play(env, random.integers(n_items, size=(n_sessions, horizon)), seed)
    span = max(float(np.ptp(played.reward)), 1e-12)
    same = _reproducible(factory, n_items, horizon, seed)
    unknown = Line("remembers", float("nan"), None, "cannot be told where one seed gives different sessions")
    lines = [
        same,
        _varied(played),
        _repeats(env, played, n_items, random, horizon, seed, span),
        _remembers(factory, n_items, random, horizon, seed, span) if same.good else unknown,
        _foretold(played),
        _leaving(played),
        *(_as_logged(played, log) if log is not None else ()),
        _exploited(env, played, n_items, horizon, seed, span),
        Line("steps a second", len(played.item) / max(played.seconds, 1e-9), None, "of one environment, random items"),
    ]
    return SimulatorCard(name, tuple(lines))


# -- lines -------------------------------------------------------------------------------------------------------------


def _reproducible(factory: Callable[[], Any], n_items: int, horizon: int, seed: int) -> Line:
    items = np.random.default_rng(seed).integers(n_items, size=(20, horizon))
    first, second = (as_gymnasium(factory()) for _ in range(2))
    same = float(np.mean([
        np.array_equal(rewards_of(first, shown, seed + n), rewards_of(second, shown, seed + n))
        for n, shown in enumerate(items)
    ]))  # fmt: skip
    words = (
        "sessions of one seed and the same items are the same" if same == 1.0 else "one seed gives different sessions"
    )
    return Line("reproducible", same, same == 1.0, words)


def _varied(played: Played) -> Line:
    spread = float(played.reward.std())
    good = spread > 1e-9
    return Line("spread of rewards", spread, good, "answers differ" if good else "every answer is the same")


def _repeats(
    env: Shaped, played: Played, n_items: int, random: np.random.Generator, horizon: int, seed: int, span: float
) -> Line:
    """Compares what an item earns again with its first time, beside what new items earn at the same steps."""
    new = ~played.repeat
    by_step = [played.reward[new & (played.step == step)] for step in range(min(horizon, 10))]
    fresh = [float(part.mean() - by_step[0].mean()) for part in by_step[1:] if len(part) >= _FEW]
    again: list[float] = []
    for number in range(100):
        found = rewards_of(env, [int(random.integers(n_items))] * min(horizon, 10), seed + number)
        if len(found) > 1:
            again.append(float(found[1:].mean() - found[0]))
    if len(again) < _FEW:
        return Line("pays for repeats", float("nan"), None, "sessions end before an item can be shown twice")
    lost = (float(np.mean(again)) - (float(np.mean(fresh)) if fresh else 0.0)) / span
    good = lost < -_ALIKE
    words = "the same item again is worth less" if good else "the same item again is paid as the first time: an exploit"
    return Line("pays for repeats", lost, good, words)


def _remembers(
    factory: Callable[[], Any], n_items: int, random: np.random.Generator, horizon: int, seed: int, span: float
) -> Line:
    """Shows one item after different pasts, chance being the same: does its answer depend on them?"""
    env, moved, n = as_gymnasium(factory()), 0.0, 0
    before = max(min(5, horizon - 1), 1)
    for number in range(100):
        last = int(random.integers(n_items))
        pasts = [[*random.integers(n_items, size=before).tolist(), last] for _ in range(2)]
        found = [rewards_of(env, past, seed + number) for past in pasts]
        if min(map(len, found)) == before + 1:
            moved, n = moved + abs(float(found[0][-1] - found[1][-1])), n + 1
    if n < _FEW:
        return Line("remembers", float("nan"), None, f"sessions end within {before} steps")
    share = moved / n / span
    good = share > 1e-9
    words = (
        "answers depend on what was shown before" if good else
        "answers do not depend on what was shown before: a bandit with a horizon, where no planning can pay"
    )  # fmt: skip
    return Line("remembers", share, good, words)


def _foretold(played: Played) -> Line:
    """Looks for a number, told before the step, that says what a random item will earn."""
    worst = 0.0
    if len(played.reward) >= _FEW and played.reward.std() > 0:
        for column in played.told.T:
            real = np.isfinite(column)
            if real.sum() >= _FEW and column[real].std() > 0 and played.reward[real].std() > 0:
                worst = max(worst, abs(float(np.corrcoef(column[real], played.reward[real])[0, 1])))
    good = worst < 0.9
    words = (
        "nothing told beforehand is the next reward" if good else "what is told beforehand is the next reward: a leak"
    )
    return Line("foretells", worst, good, words)


def _leaving(played: Played) -> Line:
    """Asks whether who leaves at a step had earned less than who stays: AUC of the mean of the last five rewards."""
    sums: dict[int, list[float]] = {}
    value = np.empty(len(played.reward))
    for place, (session, reward) in enumerate(zip(played.session.tolist(), played.reward.tolist(), strict=True)):
        sums.setdefault(session, []).append(reward)
        value[place] = np.mean(sums[session][-5:])
    at = np.bincount(played.step, value) / np.maximum(np.bincount(played.step), 1)
    value -= at[played.step]  # sessions change as they go on: only those of the same step are compared
    left, stayed = value[played.ended], value[~played.ended]
    if len(left) < _FEW or len(stayed) < _FEW:
        return Line("leaving", float("nan"), None, "hardly anybody leaves by himself")
    order = np.sort(stayed)
    below, upto = (np.searchsorted(order, left, side=side) for side in ("left", "right"))
    auc = float(np.mean(len(order) - 0.5 * (below + upto)) / len(order))  # P(stays earn more than those who leave)
    error = np.sqrt((len(left) + len(stayed) + 1) / (12.0 * len(left) * len(stayed)))
    good = abs(auc - 0.5) > 3.0 * error and abs(auc - 0.5) > 0.03
    return Line(
        "leaving",
        auc,
        good,
        "who leaves had earned otherwise" if good else "leaving has nothing to do with answers",
    )


def _as_logged(played: Played, log: InteractionLog) -> list[Line]:
    """Compares answers with a log: their level, and which items are liked."""
    from scipy.stats import spearmanr  # takes a third of a second to load

    rewards = np.asarray(log.rewards, dtype=np.float64)
    span = max(float(np.ptp(rewards)), 1e-12)
    n = [np.bincount(items, minlength=log.n_items) for items in (played.item, log.items)]
    total = [
        np.bincount(items, values, minlength=log.n_items)
        for items, values in ((played.item, played.reward), (log.items, rewards))
    ]
    both = (n[0] >= 3) & (n[1] >= 3)
    means = [sums[both] / counts[both] for sums, counts in zip(total, n, strict=True)]
    if both.sum() < 10:
        few = f"only {both.sum()} items have three answers in both"
        return [Line("level", float("nan"), None, few), Line("taste", float("nan"), None, few)]
    level = float(np.mean(means[0] - means[1]) / span)
    words = "as friendly as the log" if abs(level) < 0.1 else f"{'over' if level > 0 else 'un'}friendly, item by item"
    rank = float(spearmanr(*means).statistic) if min(part.std() for part in means) > 0 else 0.0
    liked = "items are liked as in the log" if rank > 0.2 else "which items are liked has little to do with the log"
    return [
        Line("level", level, abs(level) < 0.1, f"{words} ({both.sum()} items, of the range of rewards)"),
        Line("taste", rank, rank > 0.2, f"{liked} (rank correlation of {both.sum()} items)"),
    ]


def _exploited(env: Shaped, played: Played, n_items: int, horizon: int, seed: int, span: float) -> Line:
    """Plays the best single items of the random sessions for whole sessions, beside random items."""
    counts = np.bincount(played.item, minlength=n_items)
    means = np.bincount(played.item, played.reward, minlength=n_items) / np.maximum(counts, 1)
    best = np.argsort(-np.where(counts > 0, means, -np.inf))[:5]
    tried = [
        float(np.mean([rewards_of(env, [int(item)] * horizon, seed + n).sum() for n in range(20)])) for item in best
    ]
    plain = float(np.bincount(played.session, played.reward).mean())
    gain = (max(tried) - plain) / max(abs(plain), span)
    good = gain < 0.5
    words = (
        "one item for ever does not earn much more than random ones" if good else
        "one item for ever earns far more than random ones: agents will find it"
    )  # fmt: skip
    return Line("best constant", gain, good, words)
