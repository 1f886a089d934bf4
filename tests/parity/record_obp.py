"""Records what obp says, for test_obp.py. Runs in an environment of its own, never in the tests:

python3.9 -m venv VENV
VENV/bin/pip install obp==0.5.7 "numpy<1.24" "matplotlib<3.8"
VENV/bin/python tests/parity/record_obp.py tests/parity OBD_FOLDER

The inputs that cannot be made again without obp are rounded to float32 *before* obp sees them, and stored.
"""

import json
import sys
from pathlib import Path

import numpy as np
import obp
import sklearn
from obp.dataset import (
    OpenBanditDataset,
    SyntheticBanditDataset,
    SyntheticSlateBanditDataset,
    linear_behavior_policy_logit,
    logistic_reward_function,
)
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustWithShrinkage,
    DoublyRobustWithShrinkageTuning,
    InverseProbabilityWeighting,
    InverseProbabilityWeightingTuning,
    RegressionModel,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SelfNormalizedSlateRewardInteractionIPS,
    SelfNormalizedSlateStandardIPS,
    SlateCascadeDoublyRobust,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateStandardIPS,
    SwitchDoublyRobust,
    SwitchDoublyRobustTuning,
)
from obp.ope.helper import estimate_bernstein_lower_bound
from obp.policy import BernoulliTS, IPWLearner
from sklearn.linear_model import LogisticRegression

SEED = 0
LAMBDAS = [0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0, np.inf]
SINGLE = {
    "direct": DirectMethod(),
    "ips": InverseProbabilityWeighting(),
    "clipped_ips 2": InverseProbabilityWeighting(lambda_=2.0),
    "clipped_ips 10": InverseProbabilityWeighting(lambda_=10.0),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "doubly_robust": DoublyRobust(),
    "sndr": SelfNormalizedDoublyRobust(),
    "switch_dr 2": SwitchDoublyRobust(lambda_=2.0),
    "switch_dr 10": SwitchDoublyRobust(lambda_=10.0),
    "dr_os 2": DoublyRobustWithShrinkage(lambda_=2.0),
    "dr_os 50": DoublyRobustWithShrinkage(lambda_=50.0),
}
TUNED = {
    "clipped_ips": InverseProbabilityWeightingTuning,
    "switch_dr": SwitchDoublyRobustTuning,
    "dr_os": DoublyRobustWithShrinkageTuning,
}


def rounded(array):
    return np.asarray(array, dtype=np.float32).astype(np.float64)


def estimates(reward, action, pscore, action_dist, q, position):
    inputs = {
        "reward": reward,
        "action": action,
        "pscore": pscore,
        "action_dist": action_dist,
        "estimated_rewards_by_reg_model": q,
        "position": position,
    }
    values = {name: float(estimator.estimate_policy_value(**inputs)) for name, estimator in SINGLE.items()}
    chosen = {}  # obp sorts the list it is given
    for name, tuning in TUNED.items():
        estimator = tuning(lambdas=list(LAMBDAS), tuning_method="slope", delta=0.1)
        values[f"{name} slope"] = float(estimator.estimate_policy_value_with_tuning(**inputs))
        chosen[name] = LAMBDAS.index(estimator.best_hyperparam)
    weights = action_dist[np.arange(len(action)), action, position] / pscore
    bernstein = estimate_bernstein_lower_bound(weights * reward, x_max=float((weights * reward).max()), delta=0.05)
    return {"values": values, "slope": chosen, "bernstein low, 90 %": float(bernstein)}


def synthetic():
    """The bandit of obp's paper: 10,000 rounds, 30 actions, 5 context features, beta -3."""
    data = SyntheticBanditDataset(
        n_actions=30, dim_context=5, reward_function=logistic_reward_function, beta=-3, random_state=SEED
    )
    train, test = (data.obtain_batch_bandit_feedback(n_rounds=10_000) for _ in range(2))
    base = {"max_iter": 10_000, "C": 100, "random_state": 12345}
    policy = IPWLearner(n_actions=30, base_classifier=LogisticRegression(**base))
    policy.fit(context=train["context"], action=train["action"], reward=train["reward"], pscore=train["pscore"])
    action_dist = policy.predict_proba(context=test["context"], tau=0.1)  # stochastic, so that weights vary
    model = RegressionModel(n_actions=30, base_model=LogisticRegression(**base))
    q = model.fit_predict(
        context=test["context"], action=test["action"], reward=test["reward"], n_folds=3, random_state=12345
    )
    action_dist, q, pscore = rounded(action_dist), rounded(q), rounded(test["pscore"])
    position, rows = np.zeros(len(pscore), dtype=int), np.arange(len(pscore))
    arrays = {
        "reward": test["reward"].astype(np.uint8),
        "beta": pscore.astype(np.float32),
        "pi": action_dist[rows, test["action"], 0].astype(np.float32),
        "q": q[rows, test["action"], 0].astype(np.float32),
        "v": DirectMethod()._estimate_round_rewards(action_dist=action_dist, estimated_rewards_by_reg_model=q),
    }
    truth = float(np.average(test["expected_reward"], weights=action_dist[:, :, 0], axis=1).mean())
    return arrays, estimates(test["reward"], test["action"], pscore, action_dist, q, position) | {"truth": truth}


def open_bandit(folder, campaign):
    """Random to Thompson sampling on the Open Bandit sample; policy and model are tables (items, positions)."""
    log = OpenBanditDataset(behavior_policy="random", campaign=campaign, data_path=Path(folder))
    feedback = log.obtain_batch_bandit_feedback()
    sampling = BernoulliTS(
        n_actions=log.n_actions,
        len_list=log.len_list,
        is_zozotown_prior=True,
        campaign=campaign,
        random_state=12345,
    )
    pi = rounded(sampling.compute_batch_action_dist(n_rounds=1, n_sim=100_000)[0])  # (n_items, 3)
    shown, clicked = np.zeros(pi.shape), np.zeros(pi.shape)
    np.add.at(shown, (feedback["action"], feedback["position"]), 1.0)
    np.add.at(clicked, (feedback["action"], feedback["position"]), feedback["reward"])
    q = rounded((clicked + 0.5) / (shown + 100.0))
    n = feedback["n_rounds"]
    arrays = {f"pi {campaign}": pi.astype(np.float32), f"q {campaign}": q.astype(np.float32)}
    found = estimates(
        feedback["reward"],
        feedback["action"],
        feedback["pscore"],
        np.broadcast_to(pi, (n, *pi.shape)),
        np.broadcast_to(q, (n, *q.shape)),
        feedback["position"],
    )
    on_policy = OpenBanditDataset(behavior_policy="bts", campaign=campaign, data_path=Path(folder))
    return arrays, found | {"n": n, "on policy": float(on_policy.reward.mean())}


NAMES = ("pscore", "pscore_item_position", "pscore_cascade")


def slate_log(n, k, m):
    """Slates of k of m items, logged by a linear policy: the log, and its inverse policy's probabilities by name."""
    data = SyntheticSlateBanditDataset(
        n_unique_action=m,
        len_list=k,
        dim_context=2,
        reward_type="binary",
        reward_structure="cascade_additive",
        behavior_policy_function=linear_behavior_policy_logit,
        random_state=SEED,
    )
    logged = data.obtain_batch_bandit_feedback(n_rounds=n, return_pscore_item_position=True)
    logits = -0.5 * data.behavior_policy_function(
        context=logged["context"], action_context=data.action_context, random_state=SEED
    )
    joint, marginal, cascade = data.obtain_pscore_given_evaluation_policy_logit(
        action=logged["action"], evaluation_policy_logit_=logits, return_pscore_item_position=True
    )
    return logged, {NAMES[0]: rounded(joint), NAMES[1]: rounded(marginal), NAMES[2]: rounded(cascade)}


def slate():
    """The slate estimators on 500 slates of 3 of 8 items, and the cascade doubly robust one with a made-up model."""
    n, k, m = 500, 3, 8
    logged, pi = slate_log(n, k, m)
    random = np.random.RandomState(SEED)
    q_all, pi_all = rounded(random.rand(n, k, m)), random.dirichlet(np.ones(m), (n, k))
    beta = {name: rounded(logged[name]) for name in NAMES}
    shared = {"slate_id": logged["slate_id"], "reward": logged["reward"], "position": logged["position"]}

    def value(estimator, name):
        return float(
            estimator.estimate_policy_value(**shared, **{name: beta[name], f"evaluation_policy_{name}": pi[name]})
        )

    cascade_dr = SlateCascadeDoublyRobust(len_list=k, n_unique_action=m).estimate_policy_value(
        **shared,
        action=logged["action"],
        pscore_cascade=beta["pscore_cascade"],
        evaluation_policy_pscore_cascade=pi["pscore_cascade"],
        q_hat=q_all.flatten(),
        evaluation_policy_action_dist=pi_all.flatten(),
    )
    values = {
        "slate_ips": value(SlateStandardIPS(len_list=k), "pscore"),
        "independent_ips": value(SlateIndependentIPS(len_list=k), "pscore_item_position"),
        "reward_interaction_ips": value(SlateRewardInteractionIPS(len_list=k), "pscore_cascade"),
        "sn_trajectory_is": value(SelfNormalizedSlateStandardIPS(len_list=k), "pscore"),
        "sn_per_decision_is": value(SelfNormalizedSlateRewardInteractionIPS(len_list=k), "pscore_cascade"),
        "sequential_dr": float(cascade_dr),
    }
    action = logged["action"].reshape(n, k)
    arrays = {
        "slate reward": logged["reward"].reshape(n, k).astype(np.uint8),
        "slate q": np.take_along_axis(q_all, action[:, :, None], axis=2)[:, :, 0].astype(np.float32),
        "slate v": np.average(q_all, weights=pi_all, axis=2),
    }
    for name in NAMES:
        arrays |= {f"slate beta {name}": beta[name].reshape(n, k).astype(np.float32)}
        arrays |= {f"slate pi {name}": pi[name].reshape(n, k).astype(np.float32)}
    return arrays, {"values": values}


def main(target, folder):
    arrays, found = synthetic()
    slate_arrays, slate_found = slate()
    arrays |= slate_arrays
    campaigns = {}
    for campaign in ("men", "women"):
        more, campaigns[campaign] = open_bandit(folder, campaign)
        arrays |= more
    about = {
        "made by": "tests/parity/record_obp.py",
        "seed": SEED,
        "versions": {"obp": obp.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "lambdas": [str(value) for value in LAMBDAS],
    }
    found = {"about": about, "synthetic": found, "slate": slate_found, "open bandit": campaigns}
    (Path(target) / "obp.json").write_text(json.dumps(found, indent=1) + "\n")
    np.savez_compressed(Path(target) / "obp.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
