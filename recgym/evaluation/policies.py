"""Policies that know the probability of what they show: what a log needs to be worth something later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from recgym.actions import EmbeddingActions
from recgym.errors import DataError
from recgym.evaluation.scoring import as_scores
from recgym.frames import History
from recgym.rng import RowRandom
from recgym.scorers import Scorer, check_has, check_scorer

POLICY_STREAM = 1 << 31  # of the session's random streams; user models number theirs from 0


@runtime_checkable
class StochasticPolicy(Protocol):
    """A policy over items; the places of a slate are filled one after the other, in proportion to what is left."""

    item_ids: np.ndarray  # (n_items,) outside ids, in index order
    reward: str  # name of the reward transform of the histories it reads

    def probabilities(self, history: History, allowed: np.ndarray) -> np.ndarray:
        """Returns probabilities (B, n_items) float64 that sum to 1 and are 0 where `allowed` (B, n_items) is false."""
        ...


def check_policy(given: Any) -> None:
    """Refuses what is no `StochasticPolicy`, and says what it lacks."""
    what = "a policy must have item_ids, reward and probabilities(history, allowed)"
    check_has(given, ("item_ids", "reward", "probabilities"), what, "give one, or wrap a scorer: SoftmaxPolicy(scorer)")


class SoftmaxPolicy:
    """Shows item i with probability `(1 - epsilon) * softmax(scores / temperature)_i + epsilon / number allowed`.

    Args:
        scorer: What scores the items; minus infinity means "never" (but for `epsilon`).
        temperature: Above 0; small is greedy, infinity is uniform.
        epsilon: Share of uniform choices, 0 to 1; above 0 every allowed item has a chance.
        standardise: Whether the scores of each history are first brought to mean 0 and deviation 1 over all items, so
            that a temperature means the same for every scorer.

    Raises:
        DataError: if `scorer` is none, or an option is out of range.

    Example:
        >>> from recgym.scorers import Popularity
        >>> policy = SoftmaxPolicy(Popularity(np.array(["a", "b", "c"]), np.array([2, 1, 1])), temperature=1.0)
        >>> history = History(np.array([[3]]), np.zeros((1, 1)), np.array([0]))
        >>> policy.probabilities(history, np.array([[True, True, False]])).round(3).tolist()
        [[0.731, 0.269, 0.0]]
    """

    def __init__(
        self, scorer: Scorer, temperature: float = 1.0, epsilon: float = 0.0, standardise: bool = False
    ) -> None:
        if not temperature > 0.0 or not 0.0 <= epsilon <= 1.0:
            raise DataError(
                f"temperature must be above 0 and epsilon between 0 and 1, got {temperature} and {epsilon}; mend them"
            )
        check_scorer(scorer)
        self.scorer = scorer
        self.temperature, self.epsilon, self.standardise = temperature, epsilon, standardise
        self.item_ids, self.reward = np.asarray(scorer.item_ids), scorer.reward

    def scores(self, history: History) -> np.ndarray:
        """Returns the scorer's scores (B, n_items) float64, standardised if so asked."""
        scores = as_scores(self.scorer.scores(history), len(history.items), len(self.item_ids)).astype(np.float64)
        return self.standardised(scores) if self.standardise else scores

    @staticmethod
    def standardised(scores: np.ndarray) -> np.ndarray:
        """Returns scores (B, n_items) brought to mean 0 and deviation 1, history by history; infinite ones stay."""
        known = np.where(np.isfinite(scores), scores, np.nan)
        spread = np.nanstd(known, axis=1, keepdims=True)
        return (scores - np.nanmean(known, axis=1, keepdims=True)) / np.where(spread > 0.0, spread, 1.0)

    def probabilities(self, history: History, allowed: np.ndarray) -> np.ndarray:
        """Returns the probability of every item (B, n_items) float64; see `StochasticPolicy`."""
        return self.of_scores(self.scores(history), allowed)

    def of_scores(self, scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Returns the probability of every item (B, n_items) float64 where its scores are known already."""
        scores = np.where(allowed, scores, -np.inf)
        best = scores.max(axis=1, keepdims=True)
        if not np.isfinite(best).all():
            raise DataError(
                f"every history must have an allowed item of finite score, got none in "
                f"{np.count_nonzero(~np.isfinite(best))} of {len(best)}; end the session earlier or mend the scorer"
            )
        behind = np.where(scores > -np.inf, best - scores, 0.0)
        odds = np.where(scores > -np.inf, np.exp(-behind / self.temperature), 0.0)
        odds /= odds.sum(axis=1, keepdims=True)
        return (1.0 - self.epsilon) * odds + self.epsilon * allowed / allowed.sum(axis=1, keepdims=True)


class GaussianPolicy:
    """A proto-action: an actor's vector plus normal noise, from which the environment's mapper takes the nearest items.

    Args:
        actor: From a `History` to vectors (B, d).
        sigma: Standard deviation of the noise in every direction, above 0.
        item_ids: Outside ids (n_items,), in index order.
        reward: Name of the reward transform of the histories the actor reads.
        n_samples: Proto-actions drawn to estimate the probability of an item, as it has no closed form.
    """

    def __init__(
        self,
        actor: Callable[[History], Any],
        sigma: float,
        item_ids: np.ndarray,
        reward: str = "scaled",
        n_samples: int = 256,
    ) -> None:
        if not sigma > 0.0 or n_samples < 1:
            raise DataError(f"sigma must be above 0 and n_samples at least 1, got {sigma} and {n_samples}; mend them")
        self.actor, self.sigma, self.n_samples = actor, sigma, n_samples
        self.item_ids, self.reward = np.asarray(item_ids), reward

    def mean(self, history: History) -> np.ndarray:
        """Returns the mean proto-action (B, d) float64 of each history."""
        vectors = self.actor(history)
        return np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors, dtype=np.float64)


class Choice(NamedTuple):
    """What a policy chose for B sessions, and how likely that was."""

    actions: np.ndarray  # for the environment: (B,) or (B, k) items, or (B, d) float32 proto-actions
    items: np.ndarray  # (B, k) what they show
    marginal: np.ndarray  # (B, k) probability of the item at its position, whatever stands elsewhere
    given_above: np.ndarray  # (B, k) probability of the item at its position given those above it
    error: np.ndarray  # (B, k) standard error of `marginal` where it is estimated, else 0
    log_density: np.ndarray | None = None  # (B,) natural logarithm of the density of the proto-action


def choose_items(
    policy: StochasticPolicy, history: History, allowed: np.ndarray, k: int, random: RowRandom, n_samples: int = 256
) -> Choice:
    """Returns slates of k different items, each place drawn in proportion to the probabilities of the items left.

    The marginals of the first two positions are exact. From the third on they are averaged over `n_samples` drawn
    beginnings of slates, with the standard error in `error`.
    """
    probabilities = policy.probabilities(history, allowed)  # (B, n_items)
    items, _ = draw_slates(probabilities, random.uniform(slice(None), k, POLICY_STREAM))
    marginal, given, error = slate_propensities(probabilities, items, random, n_samples, drawn=True)
    return Choice(items[:, 0] if k == 1 else items, items, marginal, given, error)


def slate_propensities(
    probabilities: np.ndarray, items: np.ndarray, random: RowRandom, n_samples: int = 256, drawn: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns of each item of given slates its probability at its position, given those above it, and an error (B, k).

    Args:
        probabilities: Of the first place (B, n_items); rows sum to 1.
        items: Slates (B, k) of different items.
        random: Chance, for the probabilities at the third position and below, which are averages over beginnings.
        n_samples: Beginnings drawn for each.
        drawn: Whether the slates were drawn from these probabilities; then their own beginnings count too.

    Raises:
        DataError: if a row has fewer than k items with a chance, or a slate holds an item twice.
    """
    rows, k = np.arange(len(items)), items.shape[1]
    _check_slates(probabilities, items)
    left = np.array(probabilities, dtype=np.float64)
    given = np.zeros(items.shape)
    for place in range(k):
        total = left.sum(axis=1)
        given[:, place] = np.divide(left[rows, items[:, place]], total, out=given[:, place], where=total > 0.0)
        left[rows, items[:, place]] = 0.0
    marginal, error = given.copy(), np.zeros(given.shape)
    if k > 1:
        marginal[:, 1] = _second_place(probabilities)[rows, items[:, 1]]
    for place in range(2, k):
        values = np.empty((len(items), n_samples + drawn))
        values[:, -1] = given[:, place]
        for draw, odds in enumerate(_later_place(probabilities, place, random, n_samples)):
            values[:, draw] = odds[rows, items[:, place]]
        marginal[:, place], error[:, place] = values.mean(axis=1), values.std(axis=1) / np.sqrt(values.shape[1])
    return marginal, given, error


def slate_marginals(probabilities: np.ndarray, k: int, random: RowRandom, n_samples: int = 256) -> np.ndarray:
    """Returns the probability of every item at every position of a slate (B, k, n_items); rows sum to 1.

    From the third position on they are averages over `n_samples` drawn beginnings.
    """
    _check_slates(probabilities, np.zeros((len(probabilities), 0), dtype=int), k)
    marginals = [probabilities, _second_place(probabilities)][:k]
    for place in range(2, k):
        marginals.append(np.mean(list(_later_place(probabilities, place, random, n_samples)), axis=0))
    return np.stack(marginals, axis=1)


def choose_vectors(
    policy: GaussianPolicy, mapper: EmbeddingActions, history: History, allowed: np.ndarray, random: RowRandom
) -> Choice:
    """Returns proto-actions, their density, and the probabilities of the items they map to, by drawing again.

    With M = `policy.n_samples` further draws, of which c map to the same item at the same position, the probability is
    (c + 1) / (M + 1): the draw that was made counts, so it is never 0; its bias is below 1 / M.
    """
    mean = policy.mean(history)  # (B, d)
    n_rows, dim = mean.shape
    noise = random.normal(slice(None), dim * (policy.n_samples + 1), POLICY_STREAM).reshape(n_rows, -1, dim)
    actions = (mean[:, None] + policy.sigma * noise).astype(np.float32)  # (B, 1 + M, d)
    density = -0.5 * (noise[:, 0] ** 2).sum(axis=1) - dim * np.log(policy.sigma * np.sqrt(2.0 * np.pi))
    items = np.stack(
        [mapper.to_items(actions[:, draw], ~allowed) for draw in range(actions.shape[1])], axis=1
    )  # (B, 1 + M, k)
    same = items == items[:, :1]
    marginal, above = same.mean(axis=1), np.logical_and.accumulate(same, axis=2).mean(axis=1)  # (B, k)
    given = above / np.concatenate([np.ones((n_rows, 1)), above[:, :-1]], axis=1)
    error = np.sqrt(marginal * (1.0 - marginal) / items.shape[1])
    return Choice(actions[:, 0], items[:, 0], marginal, given, error, density)


def draw_slates(probabilities: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns slates (B, k) int64 drawn without replacement, and each item's probability given those above it (B, k).

    Args:
        probabilities: Of the first place (B, n_items); rows sum to 1.
        uniform: Chance, in [0, 1) (B, k).
    """
    rows = np.arange(len(probabilities))
    left = np.array(probabilities, dtype=np.float64)
    items, given = np.empty(uniform.shape, dtype=np.int64), np.empty(uniform.shape)
    for place in range(uniform.shape[1]):
        upto = np.cumsum(left, axis=1)  # (B, n_items)
        total = upto[:, -1]
        if not (total > 0.0).all():
            raise DataError(
                f"a slate needs {uniform.shape[1]} items with a chance, "
                f"got fewer in {np.count_nonzero(~(total > 0.0))} of {len(rows)} histories; "
                f"lower k or pass epsilon above 0"
            )
        items[:, place] = (upto <= (uniform[:, place] * total)[:, None]).sum(axis=1)
        given[:, place] = left[rows, items[:, place]] / total
        left[rows, items[:, place]] = 0.0
    return items, given


def _second_place(probabilities: np.ndarray) -> np.ndarray:
    """Returns P(item i at the second place) = p_i sum over j other than i of p_j / (1 - p_j), (B, n_items)."""
    certain = probabilities >= 1.0  # then nothing is left, and no slate of two could have been drawn
    odds = np.where(certain, 0.0, probabilities / np.where(certain, 1.0, 1.0 - probabilities))
    return probabilities * (odds.sum(axis=1, keepdims=True) - odds)


def _later_place(probabilities: np.ndarray, place: int, random: RowRandom, n_samples: int) -> Iterator[np.ndarray]:
    """Yields the odds of every item at a later place (B, n_items) given each of `n_samples` drawn beginnings."""
    uniform = random.uniform(slice(None), n_samples * place, POLICY_STREAM + place)
    for chance in np.split(uniform, n_samples, axis=1):
        above, _ = draw_slates(probabilities, chance)  # (B, place)
        left = np.array(probabilities, dtype=np.float64)
        np.put_along_axis(left, above, 0.0, axis=1)
        yield left / left.sum(axis=1, keepdims=True)


def _check_slates(probabilities: np.ndarray, items: np.ndarray, k: int | None = None) -> None:
    k = items.shape[1] if k is None else k
    short = (probabilities > 0.0).sum(axis=1) < k
    if short.any():
        raise DataError(
            f"a slate needs {k} items with a chance, got fewer in {np.count_nonzero(short)} of {len(short)} histories; "
            f"lower k or pass epsilon above 0"
        )
    twice = (np.diff(np.sort(items, axis=1), axis=1) == 0).any(axis=1)
    if twice.any():
        raise DataError(
            f"a slate must hold different items, got one twice in {np.count_nonzero(twice)} of {len(twice)}; mend them"
        )
