"""The rows of the ranking protocols, with their hyperparameters; all chosen on the validation split, or published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.quality.entry import Entry

_GRU: dict[str, Any] = {"core": "gru", "width": 128, "n_layers": 1, "dropout": 0.3, "lr": 4e-3}
_TRIED = "4 trials: GRU and transformer for 5 epochs, this one for 12 and for 20"
_LONG: dict[str, Any] = {"batch_size": 64, "pieces": 200, "decays": True, "dim": 16}  # they learn vectors of their own

FLOORS = (
    Entry("uniform", "benchmarks.build:uniform", {}),
    Entry("popularity", "recgym.policies:Popularity", {}),
    Entry("recent popularity", "recgym.policies:RecentPopularity", {"days": 30.0}, "4 lengths of the window"),
    Entry("newest items", "recgym.recent:NewestItems", {}),
)
_IALS = "benchmarks.quality.ials:IALS"
_GRID = "8 settings of factors, penalty and alpha"


def _rankers(knn: dict[str, Any], ease: float, ials: dict[str, Any]) -> tuple[Entry, ...]:
    return (
        Entry("item_knn", "agents.baselines:ItemKNN", knn, "8 settings of k and shrinkage"),
        Entry("vsknn", "agents.vsknn:VSKNN", {"k": 500, "n_recent": 5000}, "1 setting, no trial"),
        Entry("ease", "agents.baselines:EASE", {"regularization": ease}, "4 penalties"),
        Entry("ials", _IALS, ials, _GRID),
    )


SAMPLED = _rankers({"k": 50, "shrinkage": 10.0}, 1000.0, {"factors": 192, "regularization": 100.0, "alpha": 10.0})
FULL = _rankers({"k": 20, "shrinkage": 0.0}, 200.0, {"factors": 192, "regularization": 30.0, "alpha": 4.0})
_SELF = {"core": "transformer", "width": 64, "n_layers": 2, "dropout": 0.2, "lr": 2e-3}
_GRU_CE = Entry("gru cross-entropy", "agents:SequenceModel", _GRU, _TRIED, 2_700, **_LONG, seeds=5)
CROSS_ENTROPY = (
    _GRU_CE,
    Entry("transformer cross-entropy", "agents:SequenceModel", _SELF, "1 setting, no trial", 1_620, **_LONG),
)
_FROM_SCRATCH = Entry(
    "sqn from scratch", "agents:SQN", _GRU | {"advantage_weight": 0.5}, "1 setting, no trial", 1_620, **_LONG, rl=True
)
_CRITIC = {"core": "gru", "width": 128, "dropout": 0.3, "lr": 3e-3, "gamma": 0.0, "critic_only": True}


SQN = Entry(  # its policy is the cross-entropy model's, moved by what a critic has learned beside it
    "sqn",
    "agents:SQN",
    _CRITIC,
    "9 trials of the critic, 4 value weights each",
    270,
    **_LONG | {"n_looks": 1},
    rl=True,
    begins_with=_GRU_CE,
    serving={"value_weight": 0.25},
    seeds=5,
)
_GOES_ON: dict[str, Any] = {**_LONG, "n_looks": 1, "begins_with": _GRU_CE}  # where cross-entropy stopped
_SMALL_STEPS: dict[str, Any] = {"core": "gru", "width": 128, "n_layers": 1, "dropout": 0.3, "lr": 1e-3}
_EIGHT = "8 trials of correction, step size, baseline and imitation"
LONGER = Entry(
    "gru cross-entropy longer",
    "agents:SequenceModel",
    _SMALL_STEPS,
    "2 trials of the step size",
    270,
    **_GOES_ON,
    seeds=5,
)
_REINFORCES = tuple(
    Entry(
        f"reinforce {name} over gru",
        "agents:SequenceREINFORCE",
        _SMALL_STEPS | {"correction": correction, "beta_lr": 1e-2},
        _EIGHT,
        270,
        **_GOES_ON,
        rl=True,
        seeds=3,
    )
    for name, correction in (("top-k", "top_k"), ("off-policy", "off_policy"))
)
_TD3_BC_OVER_GRU = Entry(  # its actor learns at every other update
    "td3_bc over gru",
    "agents:SequenceTD3BC",
    _SMALL_STEPS | {"alpha": 0.3, "gamma": 0.5},
    "5 trials of the value's weight and discount",
    540,
    **_GOES_ON,
    rl=True,
    seeds=5,
)
OVER_GRU = (*_REINFORCES, _TD3_BC_OVER_GRU)
GRU_TOGETHER, SQN_TOGETHER = (  # what four seeds say as one
    replace(entry, name=f"{entry.name} x4", together=entry, seeds=1) for entry in (_GRU_CE, SQN)
)

_DEFAULTS = "the class's defaults, no trial"
_FRAMES: dict[str, Any] = {"decays": True, "n_looks": 4, "rl": True, "seeds": 5}  # 10 events, SVD vectors of width 128
_TD3_BC = Entry("td3_bc", "agents:TD3BC", {}, _DEFAULTS, 1_200, **_FRAMES)
_REINFORCE = Entry("reinforce top-k", "agents:REINFORCE", {"encoder": "gru"}, _DEFAULTS, 1_200, **_FRAMES)
LEARNERS = (
    Entry("ddpg", "agents:DDPG", {}, _DEFAULTS, 1_200, **_FRAMES),
    Entry("td3", "agents:TD3", {}, _DEFAULTS, 1_200, **_FRAMES),
    _TD3_BC,
    Entry("bcq", "agents:BCQ", {}, _DEFAULTS, 300, **_FRAMES),
    _REINFORCE,
    Entry("drr", "agents:DRR", {}, _DEFAULTS, 1_200, **_FRAMES),
    Entry("lstm_ac", "agents:LSTMActorCritic", {}, _DEFAULTS, 1_200, **_FRAMES),
    _FROM_SCRATCH,
    SQN,
    *OVER_GRU,
    SQN_TOGETHER,
)

# The sum of a whole history in the space of whitened singular vectors is a ranker already; it is what DRR begins from.
_WHITE: dict[str, Any] = {"dim": 32, "vector_options": {"damping": 0.5, "power": 0.0}, "frame_size": 200}
_REPAIR = {"dropout": 0.1, "actor_lr": 3e-3, "encoder_lr": 3e-3, "temperature": 20.0, "input_scale": 1.75}
REPAIRED = Entry(
    "drr",
    "agents:DRR",
    _REPAIR,
    "7 trials of frames, vectors, state module and order",
    1_500,
    later=1.0,
    min_history=5,
    decays=True,
    rl=True,
    n_looks=5,
    seeds=5,
    **_WHITE,
)

ROWS: dict[str, tuple[Entry, ...]] = {
    "Q1": (*FLOORS, *SAMPLED, *CROSS_ENTROPY, GRU_TOGETHER, LONGER, *LEARNERS),
    "Q2": (*FLOORS, *FULL, *CROSS_ENTROPY, GRU_TOGETHER, LONGER, *LEARNERS),
    "Q3": (*FLOORS[:2], SAMPLED[2], REPAIRED),
    "Q3 masked": (*FLOORS[:2], SAMPLED[2], REPAIRED),
    "Q4": (_GRU_CE, GRU_TOGETHER, LONGER, *OVER_GRU, SQN, SQN_TOGETHER, _FROM_SCRATCH, _REINFORCE, _TD3_BC),
}
_ON_OFF = (  # one encoder, with rewards and without; what goes on learning also beside as much more cross-entropy
    ("sqn", "gru cross-entropy"),
    (SQN_TOGETHER.name, GRU_TOGETHER.name),
    *((entry.name, other) for entry in OVER_GRU for other in ("gru cross-entropy", "gru cross-entropy longer")),
)
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "Q1": _ON_OFF,
    "Q2": _ON_OFF,
    "Q4": (*_ON_OFF, ("sqn from scratch", "gru cross-entropy")),
}
QUOTED: dict[str, tuple[tuple[str, ...], ...]] = {  # name and source, hit_rate@10, ndcg@10: read, not measured here
    "Q1": (
        ("EASE, tuned (Ferrari Dacrema et al. 2021)", ".719", ".449"),
        ("NeuMF, re-run (ibid.)", ".709", ".435"),
        ("SASRec, 100 fresh negatives (pmixer/SASRec.pytorch)", ".825", ".595"),
    ),
    "Q2": (
        ("SASRec, one negative (antklen/sasrec-bert4rec-recsys23)", ".250", ".134"),
        ("GRU4Rec, cross-entropy (HSTU repository)", ".281", ".165"),
        ("SASRec, cross-entropy (antklen)", ".315", ".182"),
        ("HSTU-large, own split (HSTU repository)", ".329", ".189"),
    ),
    "Q3": (
        ("DRR as published (shashist/recsys-rl), own split", ".4905", ".2636"),
        ("DDPG with noise, its best (ibid.)", ".502", ".280"),
    ),
}
