"""Seeds that cannot be are refused where a user gives them."""

import numpy as np
import pytest

import recgym
from recgym.envs.registry import make_vector_env
from recgym.errors import DataError
from recgym.evaluation.evaluate import evaluate_ranking, evaluate_sessions
from recgym.options import check_seed

BAD = [-1, 1.5, "x", None, True]


@pytest.mark.parametrize("seed", [0, 5, 2**62 - 1, np.int64(3), np.uint32(3)])
def test_whole_numbers_are_seeds(seed):
    check_seed(seed)


@pytest.mark.parametrize("seed", BAD)
def test_other_seeds_are_refused(seed):
    with pytest.raises(
        DataError, match=rf"seed must be a whole number of at least 0 and below 2\*\*62, got {seed!r}; g"
    ):
        check_seed(seed)


@pytest.mark.parametrize("seed", [*BAD, 2**32])
def test_sessions_and_comparisons(seed):
    small = {"n_users": 20, "n_items": 30}
    scores = lambda history: np.zeros((len(history.items), 30))  # noqa: E731
    match = rf"seed must be a whole number of at least 0 and below 2\*\*32, got {seed!r}"
    with pytest.raises(DataError, match=match):
        recgym.compare(scores, scores, "recgym/Drift-v0", seed=seed, options=small)
    fixed = {"action": "item", "observation": "history", "autoreset_mode": "Disabled"}
    with pytest.raises(DataError, match=match):
        evaluate_sessions(scores, make_vector_env(2, world="drift", **small, **fixed), seed=seed)


def test_ranking(log):
    with pytest.raises(DataError, match=r"seed must be a whole number of at least 0 .*, got -1"):
        evaluate_ranking(lambda history: np.zeros((len(history.items), log.n_items)), log, seed=-1)


def test_the_command_of_the_fidelity_report(capsys):
    from recgym.__main__ import main

    assert main(["fidelity", "--dataset", "synthetic", "--seed", "-1"]) != 0
    assert "seed must be a whole number of at least 0" in capsys.readouterr().err
