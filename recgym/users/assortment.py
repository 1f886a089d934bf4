"""The slate that earns most at the next step, where the law of choice gives it exactly.

An item answered with probability p earns its worth w, and m, the environment's `miss_reward`, where it is not; so a
slate earns `k * m + sum p_j * (w_j - m)`, and only the gains `w - m` count. Functions return columns of their arguments
(B, k), in the order they are shown; where fewer than k are offered, C stands in the places that are left.

`offered` (B, C) bool says which columns may be shown.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 50  # of Dinkelbach's iteration, which needs a handful
_NOT_OFFERED = -1e12  # what stands for "only where nothing else is left"


def by_place(chance: np.ndarray, gain: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
    """Returns the best slate where places are answered by themselves, lower ones with the same or a smaller share.

    The sum of `look_j * chance * gain` is largest with the largest products first (rearrangement inequality).

    Args:
        chance: Probability of an answer at the top place (B, C).
        gain: Worth of an answer less that of a miss (B, C).
        offered: See above.
        k: Places.
    """
    return _largest(np.where(offered, chance * gain, -np.inf), k)


def by_first(gain: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
    """Returns the best slate where the first place is always answered and no other is; arguments as `by_place`."""
    return _largest(np.where(offered, gain, -np.inf), k)


def by_share(weight: np.ndarray, outside: np.ndarray, gain: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
    """Returns the best slate where place i is answered with probability `weight_i / (outside + sum of weights)`.

    At the largest mean gain z of a slate, `max over slates of sum weight * (gain - z) = outside * z`; z is found by
    Dinkelbach's iteration, which ends at the optimum after finitely many steps.

    Args:
        weight: Of every item (B, C), 0 or more.
        outside: Of no answer (B, 1).
        gain: As of `by_place`, like the two after it.
        offered: See there.
        k: See there.

    Source: Dinkelbach (1967), On nonlinear fractional programming, Management Science 13(7); for multinomial logit
    Rusmevichientong, Shen and Shmoys (2010), Operations Research 58(6), section 3.
    """
    level = np.full((len(weight), 1), -np.inf)
    columns = _largest(np.where(offered, weight * gain, -np.inf), k)
    padded = [np.concatenate([part, np.zeros((len(part), 1))], axis=1) for part in (weight, gain)]
    for _ in range(_ROUNDS):
        w, g = (np.take_along_axis(part, columns, axis=1) for part in padded)  # (B, k)
        total = w.sum(axis=1, keepdims=True) + outside
        reached = np.divide((w * g).sum(axis=1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
        if (reached <= level + 1e-12).all():
            break
        level = np.maximum(level, reached)
        columns = _largest(np.where(offered, weight * (gain - level), -np.inf), k)
    return columns


def in_cascade(chance: np.ndarray, gain: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
    """Returns the best slate where users look from the top, and no further than the first answer.

    In the best order gains fall (two neighbours that stand otherwise are better exchanged); down that order, an item
    is shown or left out by what the places below can earn (dynamic programming).

    Args:
        chance: Probability of an answer, if the item is looked at (B, C).
        gain: As of `by_place`, like the two after it.
        offered: See there.
        k: See there.

    Source: Kempe and Mahdian (2008), A cascade model for externalities in sponsored search, WINE, section 3.
    """
    n_rows, n = chance.shape
    counts = offered & (chance > 0)
    last = np.where(offered, _NOT_OFFERED**2, np.inf)  # what is never answered comes behind, what is not offered last
    most = min(n, int(counts.sum(axis=1).max(initial=0)) + k)  # of the others no more are needed
    order = np.argsort(np.where(counts, -gain, last), axis=1, kind="stable")[:, :most]
    a, g, real = (np.take_along_axis(part, order, axis=1) for part in (chance, gain, offered))
    value = np.full((n_rows, k + 1), -np.inf)  # of the places left, by how many they are
    value[:, 0] = 0.0
    value[:, 1:] = _NOT_OFFERED * np.arange(1, k + 1)
    shown = np.zeros((most, n_rows, k + 1), dtype=bool)
    for place in range(most - 1, -1, -1):
        here, won = a[:, place, None], g[:, place, None]
        with_it = here * won + (1.0 - here) * value[:, :-1]
        empty = value[:, :-1] <= _NOT_OFFERED / 2  # places that nobody fills count whether they are looked at or not
        with_it = np.where(empty, here * won + value[:, :-1], with_it)
        shown[place, :, 1:] = real[:, place, None] & (with_it > value[:, 1:])
        value[:, 1:] = np.where(shown[place, :, 1:], with_it, value[:, 1:])
    columns = np.full((n_rows, k), n, dtype=np.int64)
    left, filled = np.full(n_rows, k), np.zeros(n_rows, dtype=np.int64)
    for place in range(most):
        rows = np.flatnonzero(shown[place, np.arange(n_rows), left])
        columns[rows, filled[rows]] = order[rows, place]
        left[rows] -= 1
        filled[rows] += 1
    return columns


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest values (B, k), largest first; C where they are minus infinity or too few."""
    n_rows, n = values.shape
    few = min(k, n)
    columns = np.full((n_rows, k), n, dtype=np.int64)
    best = np.argpartition(-values, few - 1, axis=1)[:, :few] if few < n else np.broadcast_to(np.arange(n), (n_rows, n))
    found = np.take_along_axis(values, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    best, found = np.take_along_axis(best, order, axis=1), np.take_along_axis(found, order, axis=1)
    columns[:, :few] = np.where(found > -np.inf, best, n)
    return columns
