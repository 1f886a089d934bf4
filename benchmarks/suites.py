"""What the benchmarks run, as data. An agent of your own is one more `Entry`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One row of a table: something that scores items, and how it is made."""

    name: str  # what the table calls it
    build: str  # "package.module:Name": a class with `fit(log)`, an agent class, or a function (log, seed) -> scorer
    config: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of the above
    n_steps: int = 0  # updates from batches of the training log; agents only
    batch_size: int = 256
    later: float = 0.0  # share of decisions whose action is any later event of the user (see `FrameBatches`)


@dataclass(frozen=True)
class Suite:
    """A protocol, and the rows to run under it. Users are held out whole; nothing is fitted on them."""

    name: str
    title: str
    dataset: str  # a name for `recgym.datasets.load`
    entries: tuple[Entry, ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of `load`
    metrics: tuple[str, ...] = ("hit_rate@10", "ndcg@10", "mrr", "coverage@10", "session_return")
    pairs: tuple[tuple[str, str], ...] = ()  # (a, b): the differences a - b are rows too, paired by user
    pair_metrics: tuple[str, ...] = ()
    test_size: float = 0.05  # share of users held out for the tables
    valid_size: float = 0.05  # share of the other users held out for learning curves; nothing is fitted on them either
    split_seed: int = 0
    dim: int = 128  # of the item vectors
    frame_size: int = 10
    horizon: int = 20  # steps of a session
    k: int = 10
    n_last: int = 10  # positions asked per user
    repeats: str = "mask"  # of `evaluate_ranking`: whether items taken before are asked for
    curve_points: int = 20  # evaluations along training

    @property
    def headline(self) -> str:
        """The metric of learning curves."""
        return f"hit_rate@{self.k}"

    @property
    def plays(self) -> bool:
        """Whether sessions are played."""
        return "session_return" in self.metrics

    def smoke(self) -> Suite:
        """Returns the suite at a size that ends in seconds, to see that all its rows run: 120 generated users."""
        entries = tuple(
            replace(entry, n_steps=min(entry.n_steps, 3), batch_size=min(entry.batch_size, 32))
            for entry in self.entries
        )
        data: dict[str, Any] = {"dataset": "synthetic", "options": {"n_users": 120, "n_items": 60}}
        small: dict[str, Any] = {"dim": 8, "horizon": 3, "n_last": 3, "curve_points": 1, "test_size": 0.2}
        return replace(self, name=f"{self.name}-smoke", entries=entries, **data, **small)

    def entry(self, name: str) -> Entry:
        """Returns the entry of that name; one that reads "package.module:Name" is made on the spot."""
        known = {entry.name: entry for entry in self.entries}
        if name in known:
            return known[name]
        if ":" in name:
            return Entry(name, name)
        raise SystemExit(f"a row must be one of {list(known)} or read 'package.module:Name', got {name!r}; choose one")


FLOORS = (
    Entry("uniform", "benchmarks.build:uniform"),
    Entry("popularity", "recgym.policies:Popularity"),
    Entry("recent popularity", "recgym.policies:RecentPopularity", {"days": 30.0}),
    Entry("newest items", "recgym.recent:NewestItems"),
)
OWN_ITEMS = (  # floors where people come back to what they had
    Entry("recency", "recgym.recent:Recency"),
    Entry("repeat popularity", "recgym.recent:RepeatPopularity"),
)

GRU = {"core": "gru", "n_layers": 1, "lr": 5e-3}
RANKERS = (
    Entry("item_knn", "agents.baselines:ItemKNN"),
    Entry("vsknn", "agents.vsknn:VSKNN"),
    Entry("ease", "agents.baselines:EASE"),
)


def learners(n_steps: int, sequence_steps: int) -> tuple[Entry, ...]:
    """Returns an entry per agent of the project; those whose updates take longest get fewer."""
    return (
        Entry("ddpg", "agents:DDPG", n_steps=n_steps, later=0.7),
        Entry("td3", "agents:TD3", n_steps=n_steps, later=0.7),
        Entry("td3_bc", "agents:TD3BC", n_steps=n_steps, later=0.7),
        Entry("sac", "agents:SAC", n_steps=n_steps, later=0.7),
        Entry("bcq", "agents:BCQ", n_steps=n_steps // 5, later=0.7),
        Entry("drr", "agents:DRR", n_steps=n_steps, later=0.7),
        Entry("lstm_ac", "agents:LSTMActorCritic", n_steps=n_steps, later=0.7),
        Entry("dqn", "agents:DQN", n_steps=n_steps, later=0.7),
        Entry("reinforce", "agents:REINFORCE", {"correction": "none"}, n_steps),
        Entry("reinforce off-policy", "agents:REINFORCE", {"correction": "off_policy"}, n_steps),
        Entry("reinforce top-k", "agents:REINFORCE", {"correction": "top_k"}, n_steps),
        Entry("sasrec", "agents:SequenceModel", n_steps=sequence_steps, batch_size=64),
        Entry("gru4rec", "agents:SequenceModel", GRU, sequence_steps // 2, batch_size=64),
        Entry("sqn", "agents:SQN", {"lr": 5e-3}, sequence_steps // 2, batch_size=64),
        Entry("sequence reinforce", "agents:SequenceREINFORCE", {"lr": 5e-3}, sequence_steps // 2, batch_size=64),
        Entry("sequence td3_bc", "agents:SequenceTD3BC", {"lr": 5e-3}, sequence_steps // 2, batch_size=64),
    )


AGENT_PAIRS = tuple(
    (name, other) for other in ("popularity", "ease") for name in ("ddpg", "drr", "reinforce top-k", "sasrec")
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="quickstart",
            title="Embedded data (5,000 generated users, 2,000 items)",
            dataset="synthetic",
            entries=(
                *FLOORS,
                *RANKERS,
                Entry("ddpg", "agents:DDPG", n_steps=2_000, later=0.7),
            ),
            pairs=(("ddpg", "popularity"), ("ddpg", "ease")),
            pair_metrics=("hit_rate@10", "session_return"),
        ),
        Suite(
            name="ml1m",
            title="MovieLens-1M",
            dataset="ml-1m",
            entries=(
                *FLOORS,
                *RANKERS,
                Entry("ddpg", "agents:DDPG", n_steps=1_000, later=0.7),
            ),
            pairs=(("ddpg", "popularity"), ("ddpg", "ease")),
            pair_metrics=("hit_rate@10", "session_return"),
        ),
        Suite(
            name="shop",
            title="Embedded shop, where people come back (40 % of events repeat an item)",
            dataset="synthetic-shop",
            entries=(
                *FLOORS,
                *OWN_ITEMS,
                *RANKERS,
                Entry("ddpg", "agents:DDPG", n_steps=1_000, later=0.7),
                Entry("gru4rec", "agents:SequenceModel", GRU, 350, batch_size=64),
            ),
            metrics=("hit_rate@10", "ndcg@10", "mrr", "coverage@10"),
            pairs=tuple((name, other) for other in ("popularity", "recency") for name in ("ddpg", "gru4rec")),
            pair_metrics=("hit_rate@10",),
            repeats="ask",
        ),
        Suite(
            name="agents",
            title="Every agent on the embedded data",
            dataset="synthetic",
            entries=(*FLOORS, *RANKERS, *learners(n_steps=2_000, sequence_steps=700)),
            pairs=AGENT_PAIRS,
            pair_metrics=("hit_rate@10", "session_return"),
        ),
        Suite(
            name="agents-ml1m",
            title="Every agent on MovieLens-1M",
            dataset="ml-1m",
            entries=(*FLOORS, *RANKERS, *learners(n_steps=1_000, sequence_steps=700)),
            pairs=AGENT_PAIRS,
            pair_metrics=("hit_rate@10", "session_return"),
        ),
    )
}
