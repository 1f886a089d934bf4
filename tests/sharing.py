"""What tests of data-parallel training run in processes of their own."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import torch

import agents
from agents.training.train import batches_for, fit
from recgym import Catalog, datasets, embeddings

# Hyperparameters that leave nothing to chance, so that processes together are one with the whole batch up to rounding.
EXACT = {
    "BCQ": None,  # draws latent points
    "DDPG": {},
    "DQN": {},
    "DRR": {},
    "LSTMActorCritic": {},
    "REINFORCE": {},
    "SAC": None,  # draws actions
    "SequenceModel": {"bc_reward": 1.0},
    "SequenceREINFORCE": {},
    "SequenceTD3BC": {"target_noise": 0.0},
    "SQN": {"n_negatives": 0},
    "TD3": {"target_noise": 0.0},
    "TD3BC": {"target_noise": 0.0},
}
SMALL = {"hidden": 16, "width": 8, "n_layers": 1, "generator_hidden": 16, "max_length": 12}
N_UPDATES = 15


def weights_of(agent) -> torch.Tensor:
    tensors = chain.from_iterable(net.state_dict().values() for net in agent.nets)
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def trained(name: str, chance: bool, n_updates: int = N_UPDATES) -> torch.Tensor:
    """The weights of an agent after some updates, by as many processes as there are in the group."""
    log = datasets.load("synthetic", n_users=60, n_items=40)
    catalog: Catalog = embeddings.svd(log, dim=8)
    maker = getattr(agents, name)
    known = maker.make_config.__dataclass_fields__
    config = {key: value for key, value in SMALL.items() if key in known}
    if not chance:
        config |= {"dropout": 0.0} | EXACT[name]
    agent = maker(catalog, frame_size=5, seed=1, device="cpu", **config)
    fit(agent, batches_for(agent, log, 5, 32, 3, 0.5), n_updates)
    return weights_of(agent)


def one_of_two(rank: int, folder: Path) -> None:
    """Trains every learner as one of two processes, and keeps its weights."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in EXACT:
        torch.save(trained(name, chance=True), folder / f"{name}-{rank}.pt")
        if EXACT[name] is not None:
            torch.save(trained(name, chance=False), folder / f"{name}-exact-{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
