"""Records what d3rlpy's BCQ does in three updates, for test_d3rlpy.py. Runs in an environment of its own:

python3.11 -m venv VENV
VENV/bin/pip install d3rlpy==2.8.1 torch==2.13.0
VENV/bin/python tests/parity/record_d3rlpy.py tests/parity

d3rlpy's decoder leaves out the tanh of the paper (its flag for it is the wrong way round); here it is put back. All
networks step by plain gradient descent, so that a weight is compared by its gradient. Every draw is recorded.
"""

import json
import sys
from pathlib import Path

import d3rlpy
import numpy as np
import torch
from d3rlpy.models.torch.imitators import VAEDecoder
from d3rlpy.torch_utility import TorchMiniBatch

SEED, B, STATE, ACTION, STEP, UPDATES = 0, 16, 6, 3, 0.1, 3
SETTINGS = {"gamma": 0.9, "tau": 0.05, "lam": 0.75, "n_action_samples": 4, "action_flexibility": 0.05, "beta": 0.5}


def made():
    """Returns d3rlpy's BCQ with small networks."""
    sgd = d3rlpy.optimizers.SGDFactory()
    small, wide = (d3rlpy.models.VectorEncoderFactory([n, n]) for n in (8, 10))
    config = d3rlpy.algos.BCQConfig(
        actor_learning_rate=STEP,
        critic_learning_rate=STEP,
        imitator_learning_rate=STEP,
        actor_optim_factory=sgd,
        critic_optim_factory=sgd,
        imitator_optim_factory=sgd,
        actor_encoder_factory=small,
        critic_encoder_factory=small,
        imitator_encoder_factory=wide,
        **SETTINGS,
    )
    algorithm = config.create(device="cpu")
    algorithm.create_impl((STATE,), ACTION)
    return algorithm


def weights(impl):
    """Returns all weights, in the order of our networks and of the layers in them."""
    modules = impl.modules
    parts = {
        "generator": [modules.vae_encoder, modules.vae_decoder],
        "perturbator": [modules.policy],
        "critic1": [modules.q_funcs[0]],
        "critic2": [modules.q_funcs[1]],
        "perturbator_target": [modules.targ_policy],
        "critic1_target": [modules.targ_q_funcs[0]],
        "critic2_target": [modules.targ_q_funcs[1]],
    }
    return {
        f"{name}/{i}": parameter.detach().numpy().copy()
        for name, nets in parts.items()
        for i, parameter in enumerate(parameter for net in nets for parameter in net.parameters())
    }


def main(folder):
    """Writes d3rlpy.npz and d3rlpy.json."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    impl, draws = made().impl, []
    plain = VAEDecoder.forward
    VAEDecoder.forward = lambda self, x, latent, with_squash: plain(self, x, latent, with_squash=False)
    columns = {
        "state": random.normal(size=(B, STATE)),
        "next_state": random.normal(size=(B, STATE)),
        "action": random.uniform(-0.9, 0.9, size=(B, ACTION)),
        "reward": random.uniform(-1, 1, size=(B, 1)),
        "terminated": random.random((B, 1)) < 0.3,
    }
    columns = {name: column.astype(np.float32) for name, column in columns.items()}
    given = {name: torch.tensor(column) for name, column in columns.items()}
    one, zero = torch.ones(B, 1), torch.zeros(B, 1)
    batch = TorchMiniBatch(
        observations=given["state"],
        actions=given["action"],
        rewards=given["reward"],
        next_observations=given["next_state"],
        next_actions=torch.zeros(B, ACTION),
        returns_to_go=zero,
        terminals=given["terminated"],
        intervals=one,
        device="cpu",
    )

    def recorded(*shape, **_):
        drawn = torch.empty(shape[0] if isinstance(shape[0], tuple | torch.Size) else shape).normal_()
        draws.append(drawn.numpy().copy())
        return drawn

    torch.randn, torch.distributions.normal._standard_normal = recorded, recorded
    before = {f"before/{name}": value for name, value in weights(impl).items()}
    for step in range(UPDATES):
        impl.update(batch, step)
    after = {f"after/{name}": value for name, value in weights(impl).items()}
    arrays = columns | before | after | {f"draw/{i}": drawn for i, drawn in enumerate(draws)}
    np.savez(folder / "d3rlpy.npz", **arrays)
    about = {"d3rlpy": d3rlpy.__version__, "torch": torch.__version__, "seed": SEED, "updates": UPDATES, "step": STEP}
    (folder / "d3rlpy.json").write_text(json.dumps({**about, "settings": SETTINGS}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
