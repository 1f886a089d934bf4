"""The fidelity report: what a model is asked, what the card says, and leaks that were planted."""

import json
import os
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

from recgym import DataError, InteractionLog, datasets, embeddings, fidelity, users
from recgym.evaluation.metrics import Interval
from recgym.fidelity.prepare import kept
from recgym.fidelity.trust import how_fitted

SMALL = {"dim": 4, "max_epochs": 3, "n_members": 3}


@pytest.fixture(scope="module")
def parts():
    return datasets.load("synthetic", n_users=150, n_items=40).split_ratio(0.3)


@pytest.fixture(scope="module")
def model(parts):
    return users.fit(parts[0], embeddings.svd(parts[0], dim=8), **SMALL)


@pytest.fixture(scope="module")
def card(parts, model):
    return fidelity.report(model, *parts)


def answered_by(model, log, seed=0):
    """The same events with rewards drawn from the model: users of whom it knows all there is to know."""
    where = np.searchsorted(model.user_ids, log.user_ids)[log.event_users()]
    chances = np.cumsum(model.probabilities(where, log.items), axis=1)
    level = (np.random.default_rng(seed).random((len(where), 1)) >= chances).sum(axis=1)
    return replace(log, rewards=model.levels[np.minimum(level, len(model.levels) - 1)])


# -- the report --------------------------------------------------------------------------------------------------------


def test_card_says_what_was_measured(card, parts):
    for measure in ("RMSE of the reward", "AUC", "AUC within users", "judge's accuracy, real or simulated"):
        assert isinstance(card[measure], Interval)
    assert card["NDCG@5, the others counted as 1"].mean >= card["NDCG@5, users who liked some"].mean
    rows = {row.measure: row for section in card.rows.values() for row in section}
    assert set(rows["RMSE of the reward"].others) == {"biases", "als"}
    assert not card.leaks
    assert "LEAK" not in str(card)
    assert f"{parts[1].n_events:,} events" in card.about["judged on"]
    assert any("no item was shown at random" in text for text in card.trust)


def test_a_model_that_is_the_truth_is_found_right(parts, model):
    train, held_out = parts
    found = fidelity.report(model, train, answered_by(model, held_out), compare=False)
    gap = found["mean predicted - mean observed"]
    assert gap.low < 0.0 < gap.high
    assert found["judge's accuracy, real or simulated"].mean < 0.57
    assert found["calibration error of liking"].mean < 0.05
    assert any("Its level is right" in text for text in found.trust)
    assert any("pass for real" in text for text in found.trust)


def test_a_model_that_promises_too_much_is_called_optimistic(parts, model):
    train, held_out = parts
    low = replace(held_out, rewards=np.full(held_out.n_events, held_out.rewards.min()))
    found = fidelity.report(model, train, low, compare=False)
    assert any("It is optimistic" in text for text in found.trust)
    assert any("do not look like real ones" in text for text in found.trust)
    assert "AUC" not in {row.measure for section in found.rows.values() for row in section}


def test_what_one_user_likes_must_be_known_to_be_personal(parts, model):
    answers = replace(model.answers, users=np.broadcast_to(model.answers.users[:1], model.answers.users.shape))
    answers = replace(answers, items=np.broadcast_to(answers.items[:1], answers.items.shape))
    same = users.LearnedUsers(
        answers, model.leaving, levels=model.levels, user_ids=model.user_ids, item_ids=model.item_ids,
        recent=model.recent, reward_range=model.reward_range, fitted_on=model.fitted_on, about=model.about,
    )  # fmt: skip
    found = fidelity.report(same, *parts)
    assert found["AUC within users"].mean == 0.5
    assert any("not personal" in text for text in found.trust)
    assert any("worse than" in text for text in found.trust)


def test_policies_are_judged_where_items_were_shown_at_random(parts, model):
    found = fidelity.report(model, *parts, shown_at_random=True, compare=False)
    assert len(found.pictures.agreement.true) == 24
    assert found["rank correlation (Spearman)"].mean > 0.5
    assert any("Spearman" in text for text in found.trust)


def test_sequential_models_and_sessions_by_pauses_are_judged_too(parts):
    train, held_out = parts
    how = {"sessions": "interval", "gap_seconds": 86_400}
    tiny = {"dim": 4, "hidden": 8, "n_members": 1, "max_epochs": 1}
    made = users.fit(train, embeddings.svd(train, dim=8), model="sequential", **how, **tiny)
    found = fidelity.report(made, train, held_out, compare=False)
    assert found.title == "Simulator card: sequential users of synthetic"
    assert 0.0 <= found["session length, KS distance"].mean <= 1.0
    assert "'interval'" in found.about["sessions"]
    real = found.pictures.samples["session length"][0]
    assert len(real) > train.n_users  # people have more than one session


def test_card_says_what_could_not_be_measured():
    log = InteractionLog.from_events(["a", "b"] * 4, np.arange(8) % 3, [1.0, 0, 0, 1, 1, 0, 1, 0], np.arange(8))
    train, held_out = log.split_last(1)
    never = users.fit(train, embeddings.svd(train, dim=1), sessions="never", held_out=0.4, **SMALL)
    found = fidelity.report(never, train, held_out, compare=False)
    assert "length of sessions is up to the environment" in str(found)
    assert "no judge was asked" in str(found)
    assert "No user both liked and disliked" in found.markdown()
    alike = fidelity.report(never, train, replace(held_out, rewards=np.ones(2)), compare=False)
    assert "nothing is said of liking" in alike.html()


def test_report_refuses_what_does_not_belong_together(parts, model):
    train, held_out = parts
    with pytest.raises(DataError, match=r"fitted on the users of the training log, got 150 against 149 ids"):
        fidelity.report(model, train.select_users(np.arange(1, 150)), held_out)
    others = replace(held_out, user_ids=np.array([f"new {n}" for n in range(held_out.n_users)]))
    with pytest.raises(
        DataError, match=r"two or more users whom the model knows, got 0 of \d+ that are; hold out events"
    ):
        fidelity.report(model, train, others)


# -- leaks -------------------------------------------------------------------------------------------------------------


def fitted_on(log):
    return users.fit(log, embeddings.svd(log, dim=8), **SMALL | {"max_epochs": 1})


def test_a_planted_leak_is_called_a_leak(parts, tmp_path):
    train, held_out = parts
    everything = datasets.load("synthetic", n_users=150, n_items=40)
    found = fidelity.report(fitted_on(everything), train, held_out, compare=False)
    assert "fitted on 100.0% of the held-out events" in found.leaks[0]
    assert "LEAK: the model was fitted on" in str(found)
    found.write(tmp_path / "card")
    assert "**LEAK: the model" in (tmp_path / "card" / "card.md").read_text()
    assert '<p class="leak">LEAK: the model' in (tmp_path / "card" / "card.html").read_text()


def test_a_leak_of_three_events_is_seen():
    everything = datasets.load("synthetic", n_users=150, n_items=40)
    asked = np.zeros(everything.n_events, dtype=bool)
    asked[everything.offsets[1:] - 1] = True  # everyone's last events are held out; three of them leak
    leaked = np.flatnonzero(asked)[:3]
    few = everything.select_events(~asked | np.isin(np.arange(everything.n_events), leaked))
    clean = everything.select_events(~asked)
    held = everything.select_events(asked)
    assert np.array_equal(clean.user_ids, few.user_ids)
    assert "2.0% of the held-out events" in fidelity.report(fitted_on(few), clean, held, compare=False).leaks[0]
    assert not fidelity.report(fitted_on(clean), clean, held, compare=False).leaks


def test_coming_back_to_an_item_is_no_leak():
    random = np.random.default_rng(0)
    who, what = np.repeat(np.arange(30), 20), random.integers(8, size=600)  # everything is seen again
    log = InteractionLog.from_events(who, what, random.integers(2, size=600).astype(float), np.arange(600))
    train, held_out = log.split_ratio(0.2)
    assert not fidelity.report(fitted_on(train), train, held_out, compare=False).leaks


def test_a_model_of_another_log_is_told(parts):
    train, held_out = parts
    other = replace(train, rewards=train.rewards[::-1].copy())
    found = fidelity.report(fitted_on(other), train, held_out, compare=False)
    assert "another log than the training events" in found.leaks[0]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_card_is_one_page_whole_or_not(card, tmp_path, monkeypatch):
    folder = card.write(tmp_path / "card")
    assert sorted(file.name for file in folder.iterdir()) == ["card.html", "card.json", "card.md", "card.png"]
    page = (folder / "card.html").read_text()
    assert '<meta name="viewport"' in page and f"<p>recgym {version('recgym')}, 20" in page
    assert page.count("<table>") == len(card.rows)
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("https://", "http") or 'src="http' not in page
    stored = json.loads((folder / "card.json").read_text())
    assert stored["measures"]["AUC"]["model"][0] == pytest.approx(card["AUC"].mean)
    before = (folder / "card.md").read_bytes()

    def broken(*_):
        raise RuntimeError("the power failed")

    monkeypatch.setattr(type(card), "html", broken)
    with pytest.raises(RuntimeError, match="power"):
        card.write(tmp_path / "card")
    assert (folder / "card.md").read_bytes() == before


def test_card_without_matplotlib_has_no_plots(card, tmp_path, monkeypatch):
    monkeypatch.setattr("recgym.fidelity.plots.find_spec", lambda name: None)
    card.write(tmp_path / "card")
    assert not (tmp_path / "card" / "card.png").exists()
    page = (tmp_path / "card" / "card.html").read_text()
    assert "data:image" not in page
    assert "Plots need matplotlib" in page


def test_names_are_escaped_on_the_page(card):
    page = replace(card, title="<script>alert(1)</script>").html()
    assert "<script>" not in page


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_info_of_learned_users_says_what_the_card_says(tmp_path, monkeypatch, model, card):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path))
    assert "was not measured here" in kept(model)[0]
    card.write(tmp_path / "entries" / "users-synthetic-mf-123" / "card")
    replace(card, kind="sequential", trust=("of others",)).write(tmp_path / "entries" / "users-synthetic-s-1" / "card")
    assert kept(model)[: len(card.trust)] == list(card.trust)
    assert "users-synthetic-mf-123" in kept(model)[-1]


def test_info_prefers_users_who_were_fitted_alike(tmp_path, monkeypatch, model, card):
    """Words of the newest card, or of a log whose name merely begins alike, once stood under the wrong model."""
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path))
    other = {"weights": "propensity", "calibrated": True, "rewards": "binary:3"}

    def put(name, age, trust, **fitted):
        made = replace(card, trust=(trust,), fitted={**card.fitted, **fitted} if fitted else card.fitted)
        folder = made.write(tmp_path / "entries" / f"users-synthetic-{name}" / "card")
        os.utime(folder / "card.json", (1e9 - age, 1e9 - age))

    put("shop-mf-0", 0, "of another log", log="synthetic-shop")
    assert "was not measured here" in kept(model)[0]
    put("mf-1", 1, "of others", **other)
    put("mf-2", 0, "of quite others", **other, seed=5)
    differences = "rewards binary:3, here scaled; calibrated True, here False; weights propensity, here None"
    assert kept(model)[:2] == [f"of a differently fitted model: {differences}", "of others"]
    put("mf-3", 9, "old, but right")
    assert kept(model)[0] == "old, but right"
    put("mf-4", 8, "newer, and right")
    assert kept(model)[0] == "newer, and right"


@pytest.mark.parametrize("kind", ["mf", "sequential"])
def test_fits_are_told_apart_by_what_was_asked_of_them(kind, parts, tmp_path):
    """Not by what they found in their log: an environment serves other people than a card judges."""
    tiny = {"model": kind, "dim": 4, "n_members": 1, "max_epochs": 1 if kind == "sequential" else 6}

    def made(log, **options):
        found = users.fit(log, embeddings.svd(log, dim=8), **tiny | options)
        found.save(tmp_path / "users")
        return how_fitted(users.LearnedUsers.load(tmp_path / "users"), log)

    first = made(parts[0])
    assert first == made(parts[0].select_users(np.arange(75)))
    for options in ({"seed": 1}, {"sessions": "never"}, {"lr": 0.03}, {"gap_seconds": 60}):
        (name,) = options
        assert {one for one, value in made(parts[0], **options).items() if value != first[one]} == {name}
    assert made(replace(parts[0], reward="binary:3")) == first | {"rewards": "binary:3"}
