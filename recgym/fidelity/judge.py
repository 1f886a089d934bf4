"""The fidelity report: a user model against what users did afterwards, and against simpler models of the same log."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from recgym.errors import DataError
from recgym.evaluation.metrics import mean_interval
from recgym.fidelity import measures, policies, sequences
from recgym.fidelity.answers import CHOICES, Said, answer_rows, ask, baseline
from recgym.fidelity.card import Card, Row, bare
from recgym.fidelity.held_out import Questions, and_misses, questions, with_misses
from recgym.fidelity.plots import Pictures
from recgym.fidelity.replayed import replay, session_lengths
from recgym.fidelity.trust import JUDGE, how_fitted, leaks, words
from recgym.log import InteractionLog
from recgym.log.session_split import split_sessions
from recgym.users.fitted.learned import LearnedUsers

N_SEQUENCES, LONGEST = 1000, 200  # users whose held-out events are simulated, and how many of each one's
N_SESSIONS, LONGEST_SESSION = 500, 400
_FEWEST = 20  # sequences that a judge needs


def report(
    model: LearnedUsers,
    train: InteractionLog,
    held_out: InteractionLog,
    *,
    shown_at_random: bool = False,
    like_at: float | None = None,
    compare: bool = True,
    seed: int = 0,
) -> Card:
    """Returns the simulator card of a learned user model; `print` it, or `write` it as a page.

    Args:
        model: Fitted on `train`, e.g. by `recgym.users.fit`.
        train: Training events.
        held_out: Events of the same users that came after them, or of items they were shown at random.
        shown_at_random: Whether held-out items were shown at random, not chosen: only then the true value of policies
            is known.
        like_at: Reward from which an event counts as liked; by default the least above the mean of the training
            rewards.
        compare: Whether to fit the baselines too, which takes a minute per million events.
        seed: Of resampling and simulated luck.

    Raises:
        DataError: if the logs or the model differ in users, items or rewards, or fewer than two held-out users are
            known to the model.

    Example:
        >>> from recgym import embeddings, fidelity, users
        >>> from recgym.datasets import load
        >>> train, later = load("synthetic", n_users=100, n_items=40).split_ratio(0.2)
        >>> model = users.fit(train, embeddings.svd(train, dim=8), dim=4, max_epochs=2)
        >>> card = fidelity.report(model, train, later, compare=False)
        >>> card.leaks, 0.5 < card["AUC"].mean < 1.0
        ((), True)
    """
    for name, ours, theirs in (("user", train.user_ids, model.user_ids), ("item", train.item_ids, model.item_ids)):
        if not np.array_equal(ours, theirs):
            raise DataError(
                f"the model must be fitted on the {name}s of the training log, got {len(theirs)} against {len(ours)} "
                f"ids that are not the same; pass the log that it was fitted on"
            )
    asked = questions(train, held_out)
    asked, dropped = _known(asked)
    misses = int(model.about.get("misses", 0))
    judged, told = asked, train  # of a log of what was taken: with what was not, or a constant would be right
    if misses:
        judged, told = and_misses(asked, misses, seed), with_misses(train, misses, seed)
    bound = _least_liked(told) if like_at is None else like_at
    said = {"this model": ask(model, judged, bound)}
    if compare:
        simpler = tqdm(CHOICES, desc="fitting simpler models", unit="model", disable=None, leave=False)
        said |= {name: baseline(told, judged, name) for name in simpler}
    sections = {"Answers to held-out events": answer_rows(said, judged, judged.outcome >= bound, seed)}
    sequence_rows, samples = _sequences(model, train, asked, seed)
    sections["Simulated sequences"] = tuple(sequence_rows)
    found = None
    if shown_at_random:
        found = _policies(said["this model"], train, asked, seed)
        sections["Policies"] = tuple(_policy_rows(found))
    curves = {name: measures.calibration(judged.outcome, one.mean) for name, one in said.items()}
    return Card(
        title=f"Simulator card: {model.answers.kind} users of {train.name}",
        kind=model.answers.kind,
        about=_about(model, train, held_out, bound, dropped, shown_at_random),
        rows=sections,
        trust=words(sections, found),
        leaks=leaks(model, train, held_out),
        notes=tuple(_not_measured(sections, model)),
        pictures=Pictures(curves, samples, found),
        fitted=how_fitted(model, train),
    )


def _least_liked(log: InteractionLog) -> float:
    above = log.rewards[log.rewards > log.rewards.mean(dtype=np.float64)]
    return float(above.min()) if len(above) else np.inf


def _known(asked: Questions) -> tuple[Questions, int]:
    """Returns the questions about users of the training log, and how many others there are."""
    known = asked.users >= 0
    if len(np.unique(asked.users[known])) < 2:
        raise DataError(
            f"held-out events must be of two or more users whom the model knows, got {np.count_nonzero(known)} of "
            f"{len(known)} that are; hold out events (split_ratio, split_last), not users"
        )
    columns = {name: getattr(asked, name)[known] for name in ("users", "items", "outcome", "rows", "begins")}
    return asked._replace(**columns), int(np.count_nonzero(~known))


def _sequences(
    model: LearnedUsers, train: InteractionLog, asked: Questions, seed: int
) -> tuple[list[Row], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Returns how simulated sequences differ from real ones; two halves of the real users show what chance does."""
    twins = replay(model, asked, n_users=N_SEQUENCES, longest=LONGEST, seed=seed)
    in_half = np.repeat(_half(len(twins.lengths), seed), twins.lengths)
    rewards = sequences.distance(twins.real, twins.simulated)
    halves = "two halves of the real users"
    chance = sequences.distance(twins.real[in_half], twins.real[~in_half])
    rows = [
        Row("rewards, KS distance", "lower", bare(rewards.ks), {halves: bare(chance.ks)}),
        Row("rewards, Wasserstein distance", "lower", bare(rewards.wasserstein), {halves: bare(chance.wasserstein)}),
    ]
    rows = [] if model.misses else rows
    samples = {} if model.misses else {"rewards": (twins.real, twins.simulated)}
    long = twins.lengths >= (np.inf if model.misses else 3)  # the log has no sequence with what was not taken in it
    if np.count_nonzero(long) >= _FEWEST:
        kept = np.repeat(long, twins.lengths)
        features = [sequences.summaries(one[kept], twins.lengths[long]) for one in (twins.real, twins.simulated)]
        right = mean_interval(sequences.told_apart(*features, seed=seed), seed=seed)
        rows.append(Row(JUDGE, "0.5", right))
    if model.leaving.sessions != "never":
        real = np.minimum(_real_lengths(model, train), LONGEST_SESSION)
        made = session_lengths(model, train, n_users=N_SESSIONS, longest=LONGEST_SESSION, seed=seed)
        length, half = sequences.distance(real, made), _half(len(real), seed)
        chance = sequences.distance(real[half], real[~half])
        rows += [
            Row("session length, KS distance", "lower", bare(length.ks), {halves: bare(chance.ks)}),
            Row("session length, Wasserstein", "lower", bare(length.wasserstein), {halves: bare(chance.wasserstein)}),
        ]
        samples["session length"] = (real, made)
    return rows, samples


def _not_measured(sections: dict[str, tuple[Row, ...]], model: LearnedUsers) -> Iterator[str]:
    measured = {row.measure for rows in sections.values() for row in rows}
    if "AUC" not in measured:
        yield "Held-out events are all liked or all not: nothing is said of liking."
    elif "AUC within users" not in measured:
        yield "No user both liked and disliked held-out events: whether answers are personal is not known."
    if model.misses:
        yield "The log holds only what was taken: drawn items stand for what was not, and sequences are not compared."
    elif JUDGE not in measured:
        yield f"Fewer than {_FEWEST} users have three held-out events or more: no judge was asked about sequences."
    if model.leaving.sessions == "never":
        yield "These users never leave: the length of sessions is up to the environment."


def _half(n: int, seed: int) -> np.ndarray:
    """Returns which of n are in a random half of them (n,) bool."""
    return np.random.default_rng(seed).permutation(n) % 2 == 0


def _real_lengths(model: LearnedUsers, train: InteractionLog) -> np.ndarray:
    """Returns how long the sessions are that leaving was fitted on, those known to be over (n,)."""
    if model.leaving.sessions == "one":
        return train.lengths[train.lengths > 0]
    cut = split_sessions(train, "interval", model.about["gap_seconds"])
    return cut.lengths[cut.users["over"]]


def _policies(said: Said, train: InteractionLog, asked: Questions, seed: int) -> policies.Agreement:
    """Returns how the model and the truth value the fixed policies; rewards count from the lowest there is."""
    low = (train.reward_range or (0.0, 1.0))[0]
    made = policies.fixed_policies(train)
    worth = [policies.values(made, asked.users, asked.items, one - low) for one in (said.mean, asked.outcome)]
    return policies.agreement(*worth, seed=seed)


def _policy_rows(found: policies.Agreement) -> list[Row]:
    return [
        Row("rank correlation (Spearman)", "higher", found.spearman),
        Row("rank correlation (Kendall)", "higher", found.kendall),
        Row("value error, mean", "0", found.error),
        Row("value error, mean of its size", "lower", found.absolute_error),
        Row("regret of choosing by it", "lower", found.regret),
    ]


def _about(
    model: LearnedUsers, train: InteractionLog, held_out: InteractionLog, bound: float, dropped: int, random: bool
) -> dict[str, str]:
    low, high = train.reward_range or (float(train.rewards.min()), float(train.rewards.max()))
    how = "shown at random" if random else "later events of the same users"
    misses = int(model.about.get("misses", 0))
    how += f"; beside each up to {misses} drawn of those not known to have been taken" if misses else ""
    about = {
        "fitted on": f"{model.fitted_on.name}, {model.fitted_on.n_events:,} events, SHA-256 {model.fitted_on.log_hash}",
        "fitted how": ", ".join(f"{name} {value}" for name, value in how_fitted(model, train).items()),
        "judged on": f"{held_out.n_events:,} events of {held_out.n_users:,} users, {how}",
        "rewards": f"{train.reward}, {low:.4g} to {high:.4g}; liked from {bound:.4g} on",
        "sequences": f"held-out items of {N_SEQUENCES:,} users at most, the first {LONGEST} of each, answers simulated",
    }
    if model.leaving.sessions != "never":
        about["sessions"] = (
            f"{model.leaving.sessions!r}: training sessions; {N_SESSIONS} simulated, {LONGEST_SESSION} events at most"
        )
    if dropped:
        about["left out"] = f"{dropped:,} held-out events of users without training events"
    return about
