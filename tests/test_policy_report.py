"""The table for one's own log: what it says where all is well, and what it says where it is not."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_catalog, make_log

from recgym.__main__ import main
from recgym.commands.evaluate_policy import build_policy
from recgym.envs.vector import RecVectorEnv
from recgym.errors import DataError
from recgym.evaluation.collection import collect, true_value
from recgym.evaluation.policies import GaussianPolicy, SoftmaxPolicy
from recgym.frames import History
from recgym.log import InteractionLog
from recgym.ope.logged import decisions, evaluated_probabilities, people_of
from recgym.ope.report import evaluate_policy
from recgym.scorers import Popularity
from recgym.users import ReplayUsers


@pytest.fixture(scope="module")
def world():
    log = make_log(lengths=(14, 18, 9, 25, 30, 12) * 5)
    return log, RecVectorEnv(
        64,
        users=ReplayUsers(log, frame_size=5),
        catalog=make_catalog(),
        frame_size=5,
        horizon=3,
        action="item",
        observation="history",
    )


def policies(log):
    popularity = Popularity.fit(log)
    return {
        "soft": SoftmaxPolicy(popularity, 2.0, standardise=True),
        "near": SoftmaxPolicy(popularity, 1.3, standardise=True),
        "greedy": SoftmaxPolicy(popularity, 0.01, standardise=True),
    }


def test_close_policies_are_estimated_well(world):
    log, env = world
    behaviour, evaluated = policies(log)["soft"], policies(log)["near"]
    found = evaluate_policy(collect(behaviour, env, 1500, seed=0), evaluated)
    truth = true_value(evaluated, env, 20_000, seed=0).mean()
    names = {row.estimator for row in found.estimates}
    assert names == {
        *("fqe", "trajectory_is", "sn_trajectory_is", "per_decision_is", "sn_per_decision_is", "sequential_dr")
    }
    for row in found.estimates:
        width = max(row.interval.high - row.interval.low, 0.05)
        assert abs(row.interval.mean - truth) < width, row
    assert found.diagnosis.believable and found.warnings == ()
    assert "weights: believable" in str(found) and "sequential_dr" in str(found)


def test_a_policy_far_from_the_log_is_not_believed(world):
    log, env = world
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the table says it; nothing is printed besides
        found = evaluate_policy(collect(policies(log)["soft"], env, 300, seed=0), policies(log)["greedy"])
    assert not found.diagnosis.believable
    assert any("estimates by weights: do not believe it" in text for text in found.warnings)
    noted = {row.estimator: row.note for row in found.estimates}
    assert "hardly any overlap" in noted["trajectory_is"]
    assert noted["fqe"] == "the interval leaves out the error of the model"
    assert str(found).count("do not believe it: only") == 1


class Never:
    """Shows one item only, which the log never shows."""

    reward = "raw"

    def __init__(self, log):
        self.item_ids = log.item_ids

    def probabilities(self, history, allowed):
        flags = np.zeros(allowed.shape)
        flags[:, -1] = 1.0
        return flags


def bandit_log(n=400, seed=0):
    random = np.random.default_rng(seed)
    beta = np.array([0.5, 0.3, 0.2, 0.0])
    items = random.choice(4, n, p=beta)
    return InteractionLog.from_events(
        np.arange(n),
        items,
        (random.random(n) < 0.2 + 0.2 * items).astype(float),
        propensities=beta[items],
        item_ids=np.arange(4),
        reward_range=(0.0, 1.0),
    )


def of_people(log, user_id):
    return replace(log, users={**log.users, "user_id": np.array(user_id, dtype=object)})


def copied(log, times):
    """Every session so many times, each time the same person's."""
    log = of_people(log, log.user_ids.tolist())
    found = log.select_users(np.repeat(np.arange(log.n_users), times))  # side by side, as people's sessions stand
    return replace(found, user_ids=np.arange(found.n_users))


@pytest.mark.parametrize("behaviour", [None, "popularity"])
def test_what_one_person_does_again_makes_nothing_more_certain(behaviour):
    log = bandit_log()
    log = log if behaviour is None else replace(log, propensities=None)
    again = copied(log, 4)
    once, people = (evaluate_policy(one, Fixed(one), behaviour=behaviour) for one in (log, again))
    sessions = evaluate_policy(of_people(again, [None] * again.n_users), Fixed(again), behaviour=behaviour)
    assert "bootstrap over sessions" in str(once) + str(sessions) and "bootstrap over people" in str(people)
    for row, of_copies, too_sure in zip(once.estimates, people.estimates, sessions.estimates, strict=True):
        width, kept, shrunk = (one.interval.high - one.interval.low for one in (row, of_copies, too_sure))
        assert kept == pytest.approx(width, rel=0.25), row.estimator
        assert shrunk < 0.65 * kept or "SLOPE" in row.note, row.estimator
    if behaviour is not None:
        ends = [[row.high - row.low for row in one.sensitivity] for one in (once, people, sessions)]
        assert ends[1][0] == pytest.approx(ends[0][0], rel=0.3) and ends[2][0] < 0.65 * ends[1][0]


def test_bernstein_intervals_are_of_people_too():
    log = bandit_log(60)
    tables = [evaluate_policy(one, Fixed(log), interval="bernstein") for one in (log, copied(log, 3))]
    assert "empirical Bernstein over people" in str(tables[1]) and "over people" not in str(tables[0])
    for once, again in zip(*(table.estimates for table in tables), strict=True):
        close = 1e-5 if "ips" in once.estimator else 0.05  # a model's penalty is worth fewer of more sessions
        assert np.allclose(once.interval, again.interval, rtol=close, equal_nan=True), once.estimator
    uneven = of_people(log, [min(place, 40) for place in range(60)])  # the last one has twenty
    wide = evaluate_policy(uneven, Fixed(log), interval="bernstein").estimates
    assert all(np.isnan(one.interval.low) or one.interval.high > 0.99 for one in wide)  # nothing can be told


def test_sessions_of_unknown_people_are_of_one_each():
    log = bandit_log(50)
    named = of_people(log, [None, None, "a", "a", *range(46)])
    assert people_of(named).tolist() == [0, 1, 2, 2, *range(3, 49)]
    assert people_of(of_people(log, [None] * 50)) is people_of(log) is None
    alone = evaluate_policy(of_people(log, ["a"] * 50), Fixed(log))
    assert all(np.isnan(one.interval.low) for one in alone.estimates)  # of one person nothing is known of others


class Uniform:
    reward = "raw"

    def __init__(self, log):
        self.item_ids = log.item_ids

    def probabilities(self, history, allowed):
        return allowed / allowed.sum(axis=1, keepdims=True)


def test_whether_items_may_come_again_is_said_and_can_be_chosen():
    random = np.random.default_rng(4)
    items = np.array([random.choice(4, 2, replace=False) for _ in range(300)], dtype=np.int32)
    log = InteractionLog(
        items=items.ravel(),
        rewards=(items.ravel() == 3).astype(np.float32),
        offsets=np.arange(301) * 2,
        user_ids=np.arange(300),
        item_ids=np.arange(4),
        propensities=np.tile(np.float32([1 / 4, 1 / 3]), 300),
    )
    guessed, once, again = (evaluate_policy(log, Uniform(log), repeats=one) for one in (None, False, True))
    assert "items come once in a session, as in the log" in str(guessed) and "come once" not in str(once)
    assert guessed.estimates == once.estimates != again.estimates
    found = {row.estimator: row.interval.mean for row in again.estimates}
    weights = np.tile([1.0, 0.75], (300, 1)).cumprod(axis=1)  # a quarter each, at both steps
    assert found["per_decision_is"] == pytest.approx((weights * (items == 3)).sum(axis=1).mean(), rel=1e-6)
    more = replace(log, items=np.concatenate([[3, 3], log.items[2:]]).astype(np.int32))
    assert "items may come again in a session, as in the log" in str(evaluate_policy(more, Uniform(more)))


def long_log(n_steps, n=30, seed=0):
    """Sessions that show the first item nearly always, and claim that chance did."""
    random = np.random.default_rng(seed)
    items = random.integers(0, 4, n * n_steps).astype(np.int32) * (random.random(n * n_steps) < 0.02)
    return InteractionLog(
        items=items.astype(np.int32),
        rewards=random.integers(0, 2, n * n_steps).astype(np.float32),
        offsets=np.arange(n + 1) * n_steps,
        user_ids=np.arange(n),
        item_ids=np.arange(4),
        propensities=np.full(n * n_steps, 0.01, np.float32),
    )


@pytest.mark.parametrize("interval", ["bootstrap", "bernstein"])
@pytest.mark.parametrize("n_steps", [10, 60, 400])
def test_weights_of_long_sessions_are_numbers_or_refused(n_steps, interval):
    log = long_log(n_steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of NumPy's about overflow
        found = evaluate_policy(log, Often(log), interval=interval)
    refused = {row.estimator for row in found.estimates if row.note == "no estimate: nothing overlaps"}
    assert refused == (set() if n_steps == 10 else {row.estimator for row in found.estimates} - {"fqe"})
    told = any(
        "weights of sessions must be below 1e+100, got larger ones from step 5" in text for text in found.warnings
    )
    assert told == (n_steps > 10)
    assert max(len(line) for line in str(found).splitlines() if "_is " in line) < 130


class Often:
    reward = "raw"

    def __init__(self, log):
        self.item_ids = log.item_ids

    def probabilities(self, history, allowed):
        return np.tile([0.97, 0.01, 0.01, 0.01], (len(allowed), 1))


class Fixed:
    reward = "raw"

    def __init__(self, log):
        self.item_ids = log.item_ids

    def probabilities(self, history, allowed):
        return np.tile([0.1, 0.2, 0.7, 0.0], (len(allowed), 1))


def test_bandit_logs_get_the_bandit_estimators():
    found = evaluate_policy(bandit_log(2000), Fixed(bandit_log()))
    truth = 0.1 * 0.2 + 0.2 * 0.4 + 0.7 * 0.6
    assert len(found.estimates) == 8
    for row in found.estimates:
        assert row.interval.low - 0.03 < truth < row.interval.high + 0.03, row
    assert "chosen by SLOPE" in str(found)
    assert found["ips"].mean == pytest.approx(truth, abs=0.08)


def test_no_overlap_gives_no_number_but_the_model_s():
    log = bandit_log()
    found = evaluate_policy(log, Never(log))
    assert found.diagnosis is None and "this log says nothing about it" in found.warnings[0]
    weighed = [row for row in found.estimates if row.estimator != "direct"]
    assert all(np.isnan(row.interval.mean) and "nothing overlaps" in row.note for row in weighed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensities": None}, "needs the propensity of every event, got the log 'log' without propensities"),
        ({"propensities": np.zeros(400)}, "beta must be above 0 wherever an item was shown, got 0 for 400 of 400"),
        ({"propensities": np.full(400, 1.5)}, "beta must be a probability between 0 and 1, got 1.5"),
        ({"propensities": np.full(400, np.nan)}, "beta must be known for every logged item, got 400 of 400 missing"),
        ({"item_ids": np.array(list("abcd"))}, "policy and log must have the same items and rewards"),
        ({"reward": "scaled"}, "this log is of another catalog, or was loaded with another reward transform"),
    ],
)
def test_bad_logs(change, message):
    from dataclasses import replace

    log = bandit_log()
    with pytest.raises(DataError, match=message):
        evaluate_policy(replace(log, **change), Fixed(log))


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (lambda allowed: np.full(allowed.shape, 0.5), "must not be negative and sum to 1, got a sum of 2"),
        (lambda allowed: np.ones((1, 4)), r"probabilities must have shape \(\d+, 4\), got \(1, 4\)"),
    ],
)
def test_bad_policies(probabilities, message):
    log, policy = bandit_log(), Fixed(bandit_log())
    policy.probabilities = lambda history, allowed: probabilities(allowed)
    with pytest.raises(DataError, match=message):
        evaluate_policy(log, policy)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            Popularity(np.arange(4), np.ones(4), "raw"),
            r"got Popularity \(without probabilities\); give one, or",
        ),
        (GaussianPolicy(len, 1.0, np.arange(4), "raw"), r"got GaussianPolicy \(without probabilities\)"),
        (lambda history: None, r"got function \(without item_ids, reward, probabilities\)"),
        (Fixed, r"got the class Fixed itself \(without item_ids\)"),
    ],
)
def test_what_is_no_policy(policy, message):
    log = bandit_log()
    with pytest.raises(DataError, match=r"a policy must have item_ids, reward and probabilities\(.*" + message):
        evaluate_policy(log, policy)
    with pytest.raises(DataError, match=message):
        evaluated_probabilities(policy, log, decisions(log))


def test_slates_and_empty_sessions_are_refused(world):
    log, env = world
    slates = RecVectorEnv(
        8, users=env.users, catalog=env.catalog, frame_size=5, k=2, action="item", observation="history"
    )
    with pytest.raises(DataError, match="decisions must show one item each, got slates of 2"):
        decisions(collect(policies(log)["soft"], slates, 8))
    collected = collect(policies(log)["soft"], env, 8)
    opening = collected.select_events((collected.extra["step"] < 0) | (collected.event_users() > 2))
    with pytest.raises(DataError, match="every session must have a decision, got none in 3 of 8"):
        decisions(opening)


# -- the command -------------------------------------------------------------------------------------------------------


def test_command_on_a_saved_log(world, tmp_path, capsys):
    log, env = world
    collect(policies(log)["soft"], env, 200, seed=0).save(tmp_path / "log")
    code = main(
        [
            "evaluate-policy",
            "--log",
            str(tmp_path / "log"),
            "--policy",
            "recgym.policies:Popularity",
            "--temperature",
            "2",
        ]
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "fitted on every second session, evaluated on the 100 others" in printed
    assert "sequential_dr" in printed and "95 % interval" in printed


def test_command_on_a_table(tmp_path, capsys):
    random = np.random.default_rng(0)
    items = random.choice(3, 300, p=[0.5, 0.3, 0.2])
    lines = [f"s{i},{item},{random.random() < 0.5:d},{[0.5, 0.3, 0.2][item]}" for i, item in enumerate(items)]
    (tmp_path / "shown.csv").write_text("\n".join(["who,what,clicked,chance", *lines]))
    names = ["--user", "who", "--item", "what", "--reward", "clicked", "--propensity", "chance"]
    arguments = ["evaluate-policy", "--log", str(tmp_path / "shown.csv"), "--policy", "recgym.policies:Popularity"]
    assert main([*arguments, *names]) == 0
    assert "doubly_robust" in capsys.readouterr().out
    assert main([*arguments, *names[:-2]]) == 0
    printed = capsys.readouterr().out
    assert "propensities are estimated by 'logistic', in 4 folds of people" in printed
    assert all(
        "estimated" in line for line in printed.splitlines() if line.startswith(("  ips", "  direct", "  snips"))
    )
    assert "does the policy earn more than the logged one?" in printed
    assert main(arguments) == 1
    assert "a table needs user= and item=, the names of its columns" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("chance", "message"),
    [
        ("0", "propensities must be above 0 and at most 1, got 0.0 (30 of 60 events"),
        ("1.5", "propensities must be above 0 and at most 1, got 1.5 (30 of 60 events"),
        ("", "got nothing in line 3 (30 of 60 rows)"),
        ("-0.1", "propensities must be above 0 and at most 1, got -0.1 (30 of 60 events"),
    ],
)
def test_command_refuses_impossible_propensities(tmp_path, capsys, chance, message):
    lines = ["who,what,clicked,chance", *(f"s{i},{i % 3},1,{chance if i % 2 else 0.5}" for i in range(60))]
    (tmp_path / "shown.csv").write_text("\n".join(lines))
    names = ["--user", "who", "--item", "what", "--reward", "clicked", "--propensity", "chance"]
    arguments = ["evaluate-policy", "--log", str(tmp_path / "shown.csv"), "--policy", f"{__name__}:by_first_letter"]
    assert main([*arguments, *names]) == 1
    assert message in capsys.readouterr().err


def by_first_letter(log):
    """Scores by item number; a function of the log, as a policy may be named."""
    popularity = Popularity(log.item_ids, np.arange(log.n_items))
    popularity.reward = log.reward
    return popularity


def test_command_of_a_log_that_is_not_there(tmp_path, capsys):
    arguments = ["evaluate-policy", "--log", str(tmp_path / "nowhere"), "--policy", "recgym.policies:Popularity"]
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert f"a table must be a file, got no such file at {tmp_path / 'nowhere'}" in printed


def test_temperature_infinity_is_the_uniform_policy():
    policy, rest = build_policy("recgym.policies:Popularity", bandit_log(), np.inf, 0.0)
    allowed = np.array([[True, True, False, True]])
    history = History(np.full((1, 1), 4), np.zeros((1, 1)), np.zeros(1, dtype=int))
    assert policy.probabilities(history, allowed) == pytest.approx(allowed / 3)
    assert rest.n_users == 200


def test_command_of_another_catalog(tmp_path, capsys):
    bandit_log().save(tmp_path / "log")
    arguments = ["evaluate-policy", "--log", str(tmp_path / "log"), "--policy", f"{__name__}:of_others"]
    assert main(arguments) == 1
    assert "this log is of another catalog" in capsys.readouterr().err


def of_others(log):
    return SoftmaxPolicy(Popularity(np.array(["x", "y"]), np.ones(2)))


def test_help_says_what_a_policy_is(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate-policy", "--help"])
    printed = capsys.readouterr().out
    assert "a class with fit(log)" in printed and "probabilities(history, allowed) -> (B, n_items)" in printed
    assert "--interval {bootstrap,bernstein}" in printed


def test_names_of_policies():
    log = bandit_log()
    with pytest.raises(DataError, match=r"must be named as package.module:Name, got 'recgym.policies:Nobody'"):
        build_policy("recgym.policies:Nobody", log, 1.0, 0.0)
    with pytest.raises(DataError, match=r"must be named as package.module:Name, got 'nowhere'"):
        build_policy("nowhere", log, 1.0, 0.0)
    with pytest.raises(DataError, match=r"a policy must have item_ids, reward and probabilities.* got list"):
        build_policy("builtins:list", log.user_ids, 1.0, 0.0)
    with pytest.raises(
        DataError, match=r"the log alone, got recgym.policies:Uniform, which refuses it \(item_ids must"
    ):
        build_policy("recgym.policies:Uniform", log, 1.0, 0.0)
    with pytest.raises(DataError, match=r"the log alone, got recgym:GaussianPolicy \(missing a required argument: 's"):
        build_policy("recgym:GaussianPolicy", log, 1.0, 0.0)
    with pytest.raises(DataError, match=r"of the log alone, got int for recgym.scorers:SECONDS_PER_DAY; see --help"):
        build_policy("recgym.scorers:SECONDS_PER_DAY", log, 1.0, 0.0)
    policy, same = build_policy(f"{__name__}:Fixed", log, 1.0, 0.0)
    assert isinstance(policy, Fixed) and same is log
