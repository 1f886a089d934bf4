import numpy as np
import pytest
import torch

from agents.training.anomaly import AnomalyDetector, fit_detector
from recgym.errors import DataError


def curve(n=400, dim=12, seed=0):
    """Vectors on a curve in d dimensions: what an autoencoder can learn."""
    random = np.random.default_rng(seed)
    t = random.uniform(-1, 1, size=(n, 1))
    return np.concatenate([np.sin(3 * t * (i + 1) / dim) if i % 2 else t**2 - i / dim for i in range(dim)], axis=1)


def test_what_is_no_item_is_rebuilt_badly():
    vectors = curve()
    fitted = fit_detector(vectors, n_steps=600)
    assert len(fitted.error) == 360 and len(fitted.held_out_error) == 40
    made_up = torch.tensor(np.random.default_rng(1).normal(vectors.mean(0), vectors.std(0), vectors.shape)).float()
    error = fitted.detector.reconstruction_error(made_up)
    assert fitted.held_out_error.mean() < 0.1  # of an item's variance
    assert error.mean() > 5 * fitted.held_out_error.mean()
    torch.testing.assert_close(
        fitted.detector.reconstruction_error(made_up[:1]), error[:1]
    )  # whatever stands beside it


def test_an_error_of_one_is_that_of_the_mean():
    vectors = torch.tensor(curve()).float()
    detector = fit_detector(vectors, n_steps=0, holdout=0.0).detector
    for parameter in detector.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)  # says the mean to everything
    assert detector.reconstruction_error(vectors).mean().item() == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(detector(vectors[:2]), vectors.mean(0).expand(2, -1))


def test_it_can_rebuild_negative_numbers():
    vectors = -1.0 - np.abs(curve())
    assert fit_detector(vectors, n_steps=400).held_out_error.mean() < 0.2


def test_one_seed_one_detector_and_nobody_elses_numbers_change():
    stream = torch.get_rng_state()
    first, again = (fit_detector(curve(), n_steps=5).error for _ in range(2))
    assert torch.equal(first, again) and torch.equal(stream, torch.get_rng_state())


@pytest.mark.parametrize("vectors", [np.ones((5, 3)), np.ones((1, 3)), np.zeros((0, 3))])
def test_nothing_to_learn_from(vectors):
    with pytest.raises(DataError, match="needs two different vectors to learn from, got"):
        fit_detector(vectors)


def test_layers():
    kinds = [type(layer).__name__ for layer in AnomalyDetector(128).layers]
    assert kinds == [*["Linear", "ReLU", "BatchNorm1d"] * 3, "Linear"]
