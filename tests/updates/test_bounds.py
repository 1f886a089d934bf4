"""Options out of range are refused when an agent is made, by the same words whichever agent it is."""

import re
from dataclasses import fields

import pytest
from conftest import make_catalog

from agents import (
    bcq,
    ddpg,
    dqn,
    drr,
    gems,
    lstm_ac,
    reinforce,
    sac,
    sequence,
    sequence_reinforce,
    sequence_td3_bc,
    slateq,
    sqn,
    td3,
    td3_bc,
)
from agents.networks.hyperparameters import check
from recgym.errors import DataError

AGENTS = [
    (bcq, "BCQ"),
    (ddpg, "DDPG"),
    (dqn, "DQN"),
    (drr, "DRR"),
    (gems, "GeMS"),
    (lstm_ac, "LSTMActorCritic"),
    (reinforce, "REINFORCE"),
    (sac, "SAC"),
    (sequence, "SequenceModel"),
    (sequence_reinforce, "SequenceREINFORCE"),
    (sequence_td3_bc, "SequenceTD3BC"),
    (slateq, "SlateQ"),
    (sqn, "SQN"),
    (td3, "TD3"),
    (td3_bc, "TD3BC"),
]
WRONG = [
    ("gamma", 3.0, r"gamma must lie in 0\.\.1, got 3\.0; leave it out for 0"),
    ("gamma", -0.1, r"gamma must lie in 0\.\.1, got -0\.1"),
    ("gamma", float("nan"), r"gamma must lie in 0\.\.1, got nan"),
    ("gamma", "0.5", r"gamma must lie in 0\.\.1, got '0\.5'"),
    ("tau", 1.5, r"tau must lie in 0\.\.1, got 1\.5; leave it out for DEFAULT"),
    ("dropout", 1.0, r"dropout must lie in 0\.\.1, 1 excluded, got 1\.0; leave it out for 0\."),
    ("lr", 0.0, r"lr must be above 0, got 0\.0; leave it out for 0\.001"),
    ("actor_lr", -1e-3, r"actor_lr must be at least 0, got -0\.001; leave it out for DEFAULT"),
    ("temperature", 0.0, r"temperature must be above 0, got 0\.0; leave it out for \d"),
    ("max_norm", 0.0, r"max_norm must be above 0, got 0\.0; leave it out for 10\.0"),
    ("hidden", 0, r"hidden must be a whole number of at least 1, got 0; leave it out for 256"),
    ("width", 0, r"width must be a whole number of at least 1, got 0; leave it out for 64"),
    ("width", 6.5, r"width must be a whole number of at least 1, got 6\.5"),
    ("n_users", -1, r"n_users must be a whole number of at least 0, got -1; leave it out for 0"),
    ("precision", "fp16", r"precision must be one of fp32, tf32, bf16, got 'fp16'"),
    ("reward_range", (1.0, 0.0), r"reward_range must be two numbers, the lower first, got \(1\.0, 0\.0\)"),
    ("reward_range", (1.0,), r"reward_range must be two numbers, the lower first, got \(1\.0,\)"),
]


def names_of(module):
    return {field.name for field in fields(module.Config)}


@pytest.mark.parametrize(("option", "value", "message"), WRONG, ids=lambda part: str(part)[:20])
def test_every_agent_that_has_an_option_refuses_what_it_cannot_be(option, value, message):
    having = [(module, name) for module, name in AGENTS if option in names_of(module)]
    assert having
    for module, name in having:
        default = re.escape(str(getattr(module.Config, option, None)))
        with pytest.raises(DataError, match=message.replace("DEFAULT", f"{default}$")):
            getattr(module, name)(make_catalog(), frame_size=5, device="cpu", **{option: value})


def test_bounds_of_rewards_need_a_discount():
    with pytest.raises(DataError, match=r"with reward_range=\(0, 1\) gamma must be below 1, got 1\.0; leave"):
        ddpg.DDPG(make_catalog(), frame_size=5, device="cpu", reward_range=(0, 1), gamma=1.0)
    check(5, ddpg.Config(gamma=1.0))


@pytest.mark.parametrize(("module", "name"), AGENTS, ids=lambda part: part if isinstance(part, str) else "")
def test_the_edges_of_ranges_are_allowed(module, name):
    edges = {"gamma": 1.0, "tau": 1.0, "dropout": 0.0, "max_norm": None, "actor_lr": 0.0, "reward_range": None}
    config = module.Config(**{option: value for option, value in edges.items() if option in names_of(module)})
    check(1, config)


def test_numbers_say_what_must_hold_of_them():
    free = {"bc_reward", "alpha", "negative_weight", "advantage_weight", "value_weight"}  # of either sign
    for module, _ in AGENTS:
        for field in fields(module.Config):
            numeric = isinstance(field.default, int | float) and not isinstance(field.default, bool)
            assert not numeric or "must" in field.metadata or field.name in free, (module.__name__, field.name)
