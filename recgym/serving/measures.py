"""Counts and durations in the text format that Prometheus reads (version 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts of numbers up to given bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, number: float) -> None:
        """Counts a number."""
        self.counts[bisect_left(self.bounds, number)] += 1
        self.total += number

    def lines(self, name: str) -> list[str]:
        """Returns the histogram as lines of text."""
        upto, lines = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            upto += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {upto}')
        return [*lines, f"{name}_sum {self.total:.6f}", f"{name}_count {upto}"]


class Measures:
    """What a server counts; its size does not depend on how much it was asked."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.counts: Counter[str] = Counter()
        self.seconds, self.batches = Histogram(_SECONDS), Histogram(_SIZES)

    def text(self, labels: Mapping[str, str], n_waiting: int) -> str:
        """Returns all of it; `labels` tell what is served, `n_waiting` how many lists wait for a batch."""
        told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        lines = ["# TYPE recgym_model_info gauge", f"recgym_model_info{{{told}}} 1"]
        lines += ["# TYPE recgym_waiting_lists gauge", f"recgym_waiting_lists {n_waiting}"]
        lines.append("# TYPE recgym_requests_total counter")
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'recgym_requests_total{{route="{_escaped(route)}",status="{status}"}} {count}')
        for name, count in sorted(self.counts.items()):
            lines += [f"# TYPE recgym_{name}_total counter", f"recgym_{name}_total {count}"]
        for name, histogram in (("request_seconds", self.seconds), ("batch_lists", self.batches)):
            lines += [f"# TYPE recgym_{name} histogram", *histogram.lines(f"recgym_{name}")]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
