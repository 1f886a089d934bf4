"""The worlds of Q5 and their learners."""

from __future__ import annotations

from benchmarks.longterm_suite import Learner, World

_LTS = {"gamma": 0.9, "dropout": 0.0, "reward_scale": 0.05, "hidden": 64}
_ITEMS = _LTS | {"mask_seen": False}
_VECTORS = _LTS | {"bc_weight": 0.0}
_CAREFUL = {"noise": 0.5, "tau": 0.02, "actor_lr": 1e-4, "temperature": 1.0}  # actors that do not run into a corner
_ONLINE = {"correction": "off_policy", "baseline": None, "bc_weight": 0.0}
_AC = {"width": 32, "off_policy": False, "bc_weight": 0.0}
_BAG = {"dropout": 0.0, "reward_scale": 0.25, "hidden": 64, "mask_seen": False, "encoder": "drr", "gamma": 0.98}
_TASTE = {"dropout": 0.0, "hidden": 128, "gamma": 0.8, "tau": 0.01, "conservative": 0.0, "temperature": 0.1}
_PPO = {"n_steps": 30, "batch_size": 480, "n_epochs": 5, "gamma": 0.9}

WORLDS = {
    world.name: world
    for world in (
        World(
            "LongTermSatisfaction",
            "recgym/LongTermSatisfaction-v0",
            ("greedy", "planner"),
            (
                Learner("dqn", "agents:DQN", _ITEMS | {"conservative": 0.0, "temperature": 0.3}),
                Learner("reinforce", "agents:REINFORCE", _ITEMS | _ONLINE, buffer_size=7_680),
                Learner("lstm_ac", "agents:LSTMActorCritic", _ITEMS | _AC, 500, buffer_size=3_840),
                Learner("ddpg", "agents:DDPG", _VECTORS | _CAREFUL, warm_up=5_000, action="embedding"),
                Learner("td3", "agents:TD3", _VECTORS | _CAREFUL, warm_up=5_000, action="embedding"),
                Learner("sac", "agents:SAC", _VECTORS, action="embedding"),
                Learner("drr", "agents:DRR", _VECTORS | _CAREFUL, warm_up=5_000, action="embedding"),
                Learner("ppo (sb3)", "stable_baselines3:PPO", _PPO, action="embedding"),
            ),
        ),
        World(
            "InterestEvolution",
            "recgym/InterestEvolution-v1",
            ("greedy", "quality"),
            (
                Learner(
                    "actor-critic (drr state)",
                    "agents:LSTMActorCritic",
                    _BAG | {"off_policy": False, "bc_weight": 0.0, "actor_lr": 5e-4, "entropy_weight": 0.02},
                    n_steps=600,
                    buffer_size=4_000,
                    seeds=3,
                ),
                Learner(
                    "dqn (drr state)",
                    "agents:DQN",
                    _BAG | {"conservative": 0.0, "temperature": 0.1, "tau": 0.05, "lr": 5e-4},
                    n_steps=600,
                    seeds=2,
                ),
            ),
            note="Learners are trained with slates of one and judged with slates of two",
            test_size=0.1,
            n_valid=64,
            options={"frame_size": 100},  # sessions open with empty frames: what was watched tells what time is left
        ),
        World(
            "Boredom",
            "recgym/Boredom-v0",
            ("greedy", "rotating"),
            (
                Learner("dqn", "agents:DQN", _TASTE, n_steps=2_000, seeds=1),
                Learner(
                    "ppo (sb3)", "stable_baselines3:PPO", _PPO | {"gamma": 0.8}, rows=128, action="embedding", seeds=1
                ),
            ),
        ),
    )
}
