import numpy as np
import pytest

from recgym.rng import RowRandom, normals, philox, uniforms

KNOWN = [  # counter, key, words: the Philox4x32-10 rows of Random123's known-answer file
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
ALL = slice(None)


def as_torch(numbers):
    return pytest.importorskip("torch").tensor(numbers)


def begun(seeds, sessions=1):
    random = RowRandom.from_seeds(seeds)
    for _ in range(sessions):
        random.begin(ALL)
    return random


@pytest.mark.parametrize("array", [np.array, as_torch])
@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(array, counter, key, words):
    given = philox(tuple(array([word]) for word in counter), tuple(array([word]) for word in key))
    assert [int(word[0]) for word in given] == list(words)


def test_known_answer_through_row_random():
    """Words 0 to 3 are one block: counter (0, step, episode, stream), key the halves of the seed."""
    step, episode, stream, seed = 7, 3, 2, 0x299F31D0A4093822
    random = begun([seed], episode)
    random.step += step
    counter = tuple(np.array([word]) for word in (0, step, episode, stream))
    expected = [int(word[0]) for word in philox(counter, (np.array([0xA4093822]), np.array([0x299F31D0])))]
    assert random.words(ALL, 4, stream)[0].tolist() == expected


def test_a_draw_depends_on_its_place_alone():
    random = begun([10, 11, 12, 13])
    alone = begun([12])
    assert np.array_equal(random.uniform([2], 6, 1), alone.uniform(ALL, 6, 1))
    first = random.uniform(ALL, 3, 0)
    random.normal(ALL, 50, 0)
    assert np.array_equal(random.uniform(ALL, 3, 0), first)  # nothing was consumed
    assert np.array_equal(random.uniform(ALL, 9, 0)[:, :3], first)  # more draws begin alike


@pytest.mark.parametrize("change", ["seed", "step", "episode", "stream", "row"])
def test_every_coordinate_matters(change):
    random, stream = begun([5, 6]), 0
    before = random.words([0], 64, stream)
    if change == "seed":
        random.seed(0, 5 + (1 << 32))
        random.begin([0])
    elif change == "step":
        random.step[0] += 1
    elif change == "episode":
        random.begin([0])
    after = random.words([1] if change == "row" else [0], 64, 1 if change == "stream" else 0)
    assert np.count_nonzero(before == after) == 0


def test_seeding_and_beginning_touch_one_row():
    random = begun([1, 2, 3], 2)
    random.step += 4
    random.seed(1, 9)
    assert random.episode.tolist() == [2, 0, 2]
    random.begin([1])
    assert (random.episode.tolist(), random.step.tolist()) == ([2, 1, 2], [4, 0, 4])
    assert np.array_equal(random.uniform([1], 2, 0), begun([9]).uniform(ALL, 2, 0))


def test_torch_gives_the_same_bits():
    torch = pytest.importorskip("torch")
    random = begun([3, 2**63 + 5, 8])
    other = RowRandom(*(torch.tensor(part) for part in (random.key, random.episode, random.step)))
    assert np.array_equal(random.uniform(ALL, 5, 2), other.uniform(ALL, 5, 2).numpy())
    assert np.array_equal(random.integers(ALL, 5, 2, 1000), other.integers(ALL, 5, 2, 1000).numpy())
    np.testing.assert_allclose(random.normal(ALL, 5, 2), other.normal(ALL, 5, 2).numpy(), rtol=1e-12)


def test_distributions():
    drawn = uniforms(1, 200_000)
    assert drawn.dtype == np.float64 and drawn.min() >= 0 and drawn.max() < 1
    counts = np.histogram(drawn, 50, (0, 1))[0]
    assert ((counts - 4000) ** 2 / 4000).sum() < 90  # chi-square of 49 degrees: 99.97 %
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    normal = normals(1, 200_000)
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01 and abs((normal**4).mean() - 3) < 0.1
    whole = begun(list(range(1000))).integers(ALL, 60, 0, 6)
    counts = np.bincount(whole.ravel(), minlength=6)
    assert len(counts) == 6 and ((counts - 10_000) ** 2 / 10_000).sum() < 25


def test_integers_below_one_bound_per_row():
    bounds = np.array([[1], [2], [2**31 - 1]])
    drawn = begun([1, 2, 3]).integers(ALL, 500, 0, bounds)
    assert (drawn >= 0).all() and (drawn < bounds).all()
    assert np.unique(drawn[1]).tolist() == [0, 1] and drawn[2].max() > 2**30


def test_uniforms_streams_and_data_are_apart_from_sessions():
    assert not (uniforms(7, 100) == uniforms(7, 100, stream=1)).any()
    assert not (uniforms(7, 100) == begun([7]).uniform(ALL, 100, 0)[0]).any()
