"""Estimators for slates: what they refuse, and what they say of thin overlap. Their values: test_ope.py, parity/."""

import warnings

import numpy as np
import pytest

from recgym import ope
from recgym.errors import DataError


def pseudo_inverse(**change):
    given = {"slates": [[0, 1], [3, 2]], "pi_positions": np.full((2, 2, 4), 0.25)}
    given |= {"beta_moments": ope.uniform_slate_moments(4, 2), **change}
    return ope.pseudo_inverse(np.ones(2), **given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pseudo_inverse(pi_positions=np.full((2, 4), 0.5)), r"must have shape \(n, k, n_items\), got \(2, 4\)"),
        (lambda: pseudo_inverse(slates=[[0, 1], [0, 4]]), r"items of slates must be between 0 and 3, got 4 \(1 of 4\)"),
        (lambda: pseudo_inverse(slates=[[0, 1], [-1, 2]]), r"items of slates must be between 0 and 3, got -1 \(1 of 4"),
        (lambda: pseudo_inverse(slates=[[0.0, 1], [1, 2]]), "slates must hold item indices, got float64 numbers"),
        (
            lambda: pseudo_inverse(pi_positions=np.full((2, 2, 4), 7.0)),
            r"pi_positions must be a probability between 0 and 1, got 7 \(16 of 16",
        ),
        (lambda: pseudo_inverse(pi_positions=np.full((2, 2, 4), np.nan)), "pi_positions must be known .* got 16 of 16"),
        (
            lambda: pseudo_inverse(pi_positions=np.full((2, 2, 4), 0.5)),
            r"pi_positions must sum to at most 1 over the items of a position, got 2 \(4 of 4 positions\)",
        ),
        (lambda: pseudo_inverse(beta_moments=np.full((8, 8), np.nan)), "beta_moments must be finite, got 64 of 64"),
        (lambda: ope.slate_moments([[0, 4]], [1.0], 4), "items of slates must be between 0 and 3, got 4"),
        (lambda: ope.slate_moments([[0, 1]], [2.0], 4), "probabilities must be a probability between 0 and 1, got 2"),
        (lambda: ope.slate_moments([[0, 1]], [0.5, 0.5], 4), r"probabilities must have shape \(1,\), got \(2,\)"),
        (
            lambda: ope.slate_ips(np.ones((3, 2)), np.zeros(3), np.full(3, 0.5)),
            "some logged slate must have a positive probability under the evaluated policy, got none of 3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_positions_without_overlap_are_refused(place):
    random = np.random.default_rng(0)
    beta, pi, rewards = np.full((1000, 3), 0.1), np.full((1000, 3), 0.1), random.random((1000, 3))
    pi[:, place] = 0.0
    pi[5, place] = 0.1
    for function in (ope.reward_interaction_ips, ope.independent_ips):
        with pytest.warns(ope.OverlapWarning, match=r"at least 30, got 1.0 of 1000"):
            function(rewards, pi, beta)
    pi[5, place] = 0.0
    for function in (ope.reward_interaction_ips, ope.independent_ips):
        with pytest.raises(ope.NoOverlapError, match=rf"every position, got none of 1000 at position {place + 1} of 3"):
            function(rewards, pi, beta)


def test_thin_pseudo_inverse_weights_are_said():
    n, n_items = 200, 50
    random, moments = np.random.default_rng(0), ope.uniform_slate_moments(50, 2)
    shown = np.array([random.choice(n_items, 2, replace=False) for _ in range(n)])
    wanted = np.zeros((n, 2, n_items))
    wanted[:, [0, 1], [7, 8]] = 1.0  # the policy shows one slate; one log in fifty has an item of it in its place
    with pytest.warns(ope.OverlapWarning, match=r"effective sample size should be at least 30, got \d.\d of 200"):
        ope.pseudo_inverse(np.ones(n), shown, wanted, moments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = ope.pseudo_inverse(np.ones(n), shown, np.full((n, 2, n_items), 1.0 / n_items), moments)
    assert values == pytest.approx(np.ones(n))
