"""Values that borrow from like actions, against hand computation, enumeration and worlds whose truth is known."""

import numpy as np
import pytest

from recgym import ope
from recgym.errors import DataError
from recgym.ope.smooth import kernel_weights

GROUP = np.array([0, 0, 1, 1])
WORTH = np.array([0.2, 0.2, 0.7, 0.7])  # by group alone


def drawn(n, seed=0, worth=WORTH):
    random = np.random.default_rng(seed)
    beta = random.dirichlet(np.ones(4), size=n)
    items = (beta.cumsum(axis=1) < random.random(n)[:, None]).sum(axis=1)
    return (random.random(n) < worth[items]).astype(float), beta, items


def test_marginal_weights_are_those_of_the_definition():
    random = np.random.default_rng(1)
    pi, beta = random.dirichlet(np.ones(4), size=5), random.dirichlet(np.ones(4), size=5)
    shares = random.dirichlet(np.ones(3), size=4)  # P(g | a)
    group, reward = np.array([0, 1, 2, 0, 1]), random.random(5)
    found = ope.mips(reward, pi, beta, group, shares)
    for i in range(5):
        above = sum(pi[i, a] * shares[a, group[i]] for a in range(4))
        below = sum(beta[i, a] * shares[a, group[i]] for a in range(4))
        assert found[i] == pytest.approx(above / below * reward[i], rel=1e-12)
    labels = ope.mips(reward, pi, beta, GROUP[[0, 1, 2, 3, 0]], GROUP)
    assert labels[2] == pytest.approx(reward[2] * pi[2, 2:].sum() / beta[2, 2:].sum())


def test_each_item_its_own_embedding_is_plain_ips():
    reward, beta, items = drawn(50)
    pi = np.full((50, 4), 0.25)
    rows = np.arange(50)
    np.testing.assert_allclose(
        ope.mips(reward, pi, beta, items, np.arange(4)), ope.ips(reward, pi[rows, items], beta[rows, items])
    )


def test_mips_is_right_and_steadier_where_groups_are_all_there_is():
    pi = np.tile([0.7, 0.1, 0.1, 0.1], (4000, 1))
    reward, beta, items = drawn(4000)
    by_group = ope.mips(reward, pi, beta, GROUP[items], GROUP)
    rows = np.arange(4000)
    plain = ope.ips(reward, pi[rows, items], np.maximum(beta[rows, items], 1e-12))
    assert by_group.mean() == pytest.approx(0.8 * 0.2 + 0.2 * 0.7, abs=4 * by_group.std() / np.sqrt(4000))
    assert by_group.std() < plain.std()


def test_what_groups_leave_out_is_seen():
    reward, _, items = drawn(4000)
    assert ope.direct_effect(reward, items, GROUP[items]).p_value > 0.01
    reward, _, items = drawn(4000, worth=np.array([0.2, 0.5, 0.7, 0.7]))
    found = ope.direct_effect(reward, items, GROUP[items])
    assert found.p_value < 1e-6 and 0.01 < found.share < 0.2
    assert np.isnan(ope.direct_effect(reward, items, items).p_value)
    assert ope.direct_effect(np.array([0.0, 0, 1, 1]), np.array([0, 0, 1, 1]), np.zeros(4, int)) == (1.0, 0.0)


def test_kernels_by_hand():
    action, target, density = np.array([0.0, 1.0]), np.array([0.5, 1.0]), np.array([0.4, 0.2])
    found = ope.kernel_ips(np.array([2.0, 1.0]), action, target, density, 0.5, kernel="epanechnikov")
    np.testing.assert_allclose(found, [0.0, 0.75 / 0.5 / 0.2])
    gaussian = ope.kernel_ips(np.array([2.0, 1.0]), action, target, density, 0.5)
    np.testing.assert_allclose(gaussian[0], 2.0 * np.exp(-0.5) / np.sqrt(2 * np.pi) / 0.5 / 0.4)
    two = kernel_weights(np.zeros((1, 2)), np.zeros((1, 2)), np.ones(1), 0.5, "gaussian", False)
    np.testing.assert_allclose(two, (1 / np.sqrt(2 * np.pi) / 0.5) ** 2)
    assert kernel_weights(action, target, density, 0.5, "gaussian", True).mean() == pytest.approx(1.0)
    robust = ope.kernel_dr(
        np.array([2.0, 1.0]), action, target, density, 0.5, np.array([2.0, 1.0]), np.array([3.0, 4.0])
    )
    np.testing.assert_allclose(robust, [3.0, 4.0])  # the model explains all


def test_kernels_find_the_value_of_a_vector():
    random = np.random.default_rng(2)
    action = random.normal(size=20_000)
    reward = 1.0 - (action - 1.0) ** 2 + random.normal(0, 0.1, 20_000)
    density = np.exp(-0.5 * action**2) / np.sqrt(2 * np.pi)
    target = np.full(20_000, 0.8)
    for kernel in ("gaussian", "epanechnikov"):
        for normalise in (False, True):
            found = ope.kernel_ips(reward, action, target, density, 0.1, kernel=kernel, normalise=normalise).mean()
            assert found == pytest.approx(1.0 - 0.04, abs=0.08)
    wrong = np.full(20_000, 0.5)  # a model that is: doubly robust values are right all the same
    assert ope.kernel_dr(reward, action, target, density, 0.1, wrong, wrong).mean() == pytest.approx(0.96, abs=0.08)


def test_what_does_not_fit_is_refused():
    even = np.full((2, 4), 0.25)
    with pytest.raises(DataError, match=r"pi and beta must have one shape \(n, n_items\)"):
        ope.mips(np.ones(2), even, even[:1], np.zeros(2, int), GROUP)
    with pytest.raises(DataError, match=r"group must lie in 0\.\.1, got 0 to 5"):
        ope.mips(np.ones(2), even, even, np.array([0, 5]), GROUP)
    with pytest.raises(DataError, match="embeddings must be numbered from 0, got float64"):
        ope.mips(np.ones(2), even, even, np.zeros(2, int), GROUP * 0.5)
    with pytest.raises(ope.NoOverlapError, match="got 1 of 2 it could not"):
        ope.mips(np.ones(2), even, np.array([[0.5, 0.5, 0, 0]] * 2), np.array([0, 1]), GROUP)
    with pytest.raises(DataError, match="kernel must be one of gaussian, epanechnikov, got 'box'"):
        ope.kernel_ips(np.ones(1), np.ones(1), np.ones(1), np.ones(1), 1.0, kernel="box")
    with pytest.raises(DataError, match="a bandwidth above 0, got"):
        ope.kernel_ips(np.ones(1), np.ones(1), np.ones(1), np.ones(1), 0.0)
    far = np.ones(1), np.zeros(1), np.full(1, 9.0), np.ones(1), 0.5
    with pytest.raises(ope.NoOverlapError, match="raise the bandwidth"):
        ope.kernel_ips(*far, kernel="epanechnikov", normalise=True)
