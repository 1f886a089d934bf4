"""Every agent on a pretended CUDA device; run by tests/test_pretended.py in a process of its own.

    python tests/pretended_runs.py quick|all

Prints a line for each agent and option that does not hold, and `ok N`.
"""

import sys
import tempfile
import warnings

import pretend_cuda

pretend_cuda.install()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from conftest import make_catalog, make_log  # noqa: E402

import agents  # noqa: E402
import recgym  # noqa: E402
from agents import checkpoint  # noqa: E402
from agents.networks.state_encoders import ENCODERS  # noqa: E402
from agents.training.online import OnlineState, buffer_for  # noqa: E402
from agents.training.train import batches_for  # noqa: E402
from recgym.batches import FrameBatches, histories  # noqa: E402
from recgym.envs.env import RecVectorEnv  # noqa: E402
from recgym.users import ReplayUsers  # noqa: E402

VECTOR = ("DDPG", "TD3", "TD3BC", "SAC", "BCQ", "DRR")
ITEM = ("REINFORCE", "DQN", "LSTMActorCritic")
QUICK = [("DDPG", {}), ("REINFORCE", {"gamma": 0.9}), ("SQN", {"width": 8})]
ALL = [(name, {"hidden": 16}) for name in VECTOR]
ALL += [
    (name, {"hidden": 16} | option)
    for name in VECTOR
    for option in ({"critic_action": "vector"}, {"n_negatives": 4}, {"mapper": "cosine"})
]
ALL += [(name, {"hidden": 16, "encoder": "gru"}) for name in VECTOR]
ALL += [("DRR", {"n_users": 6, "encoder": one}) for one in ("drr", "attention")]
ALL += [("BCQ", {"reconstruction": "vector"}), ("TD3BC", {"bc": "vector"})]
ALL += [(name, {"encoder": one, "n_users": 6, "hidden": 16}) for name in ITEM for one in ENCODERS]
ALL += [("REINFORCE", {"head": one, "hidden": 64}) for one in ("linear", "vectors", "adaptive")]
ALL += [("REINFORCE", {"gamma": 0.9}), ("REINFORCE", {"correction": "none"})]
ALL += [(name, {"n_negatives": 4, "hidden": 16}) for name in ITEM]
ALL += [
    ("SequenceModel", {"core": core, "width": 8}) for core in ("transformer", "gated", "gru", "lstm", "convolution")
]
ALL += [("SequenceModel", {"n_negatives": 4}), ("SequenceModel", {"item_vectors": "catalog", "bc_reward": 1.0})]
ALL += [("SequenceREINFORCE", {"gamma": gamma, "width": 8}) for gamma in (0.0, 0.9)]
ALL += [("SequenceTD3BC", {"value_after": 1}), ("SequenceTD3BC", {"value_after": 0, "gamma": 0.0})]
ALL += [("SQN", {"advantage_after": 1}), ("SQN", {"n_negatives": 0}), ("SQN", {"critic_only": True})]

SLATES = [
    ("SlateQ", {"slates": how, "choice": choice})
    for how in ("optimal", "greedy")
    for choice in ("logit", "independent")
]
SLATES += [("GeMS", {"latent_dim": 3})]

# Host syncs of one update beyond those of copying a batch; agents that index by masks wait at each, the rest never.
WAITS = {"SequenceModel": 4, "SequenceREINFORCE": 6, "SequenceTD3BC": 12, "SQN": 12}
ADAPTIVE = 15  # in torch's adaptive softmax, which looks for the items of each of its parts


def weights(agent):
    return torch.cat([p.detach().flatten().cpu() for net in agent.nets for p in net.parameters()])


def whole_life(name, options, log, catalog):
    """Makes an agent on the device, and does with it all that one can."""
    agent = getattr(agents, name)(catalog, frame_size=3, device="cuda:0", **options)
    assert all(p.device.type == "cuda" for net in agent.nets for p in net.parameters()), "weights on the host"
    own = batches_for(agent, log, 3, 4, 0, 0.0)
    agents.fit(agent, own, 2)
    if not name.startswith(("SQN", "Sequence")):
        agents.fit(agent, FrameBatches(log, 3, 4, min_history=1, gamma=0.9), 1)
    batch = next(iter(own))
    pretend_cuda.waits.clear()
    agent.update(batch)
    found = sum(pretend_cuda.waits.values())
    most = ADAPTIVE if options.get("head") == "adaptive" else WAITS.get(name, 0)
    assert found <= most, f"{found} host syncs in an update: {dict(pretend_cuda.waits)}"
    agent.losses(batch)
    for asked in (histories(log, np.arange(6), np.full(6, 4)), histories(log, np.arange(6), np.arange(6))):
        scores = agent.scores(asked)
        assert scores.device.type == "cuda", "scores on the host"
        assert scores.isfinite().all()
        agent.act(asked), agent.act(asked, explore=True)
    recgym.recommend(agent, [(item, 0.4) for item in log.item_ids[:3].tolist()], k=5)
    goes_both_ways(agent, own, asked)
    lives_online(agent, log, catalog)
    assert not pretend_cuda.unsafe, f"copies that nobody waited for: {dict(pretend_cuda.unsafe)}"


class Sampled:
    """What a buffer holds, as batches to go on with."""

    def __init__(self, buffer):
        self.buffer, self.state_dict, self.load_state_dict = buffer, buffer.state_dict, buffer.load_state_dict

    def __iter__(self):
        return iter([self.buffer.sample(4)])


def life_of_slates(name, options, log, catalog):
    """The same of agents that live in slates alone."""
    agent = getattr(agents, name)(catalog, frame_size=4, k=2, hidden=16, device="cuda:0", **options)
    form = {
        "observation": "history",
        "autoreset_mode": "SameStep",
        "horizon": 3,
        "frame_size": 4,
        "action": "item",
        "k": 2,
    }
    env = RecVectorEnv(3, users=ReplayUsers(log, frame_size=4), catalog=catalog, **form)
    if name == "GeMS":
        agent.pretrain(np.array([[0, 1], [2, 3]]), np.array([[1, 0], [0, 1]]), 2, batch_size=2)
    buffer = agents.fit_online(agent, env, 5, batch_size=4, warm_up=6, buffer_size=40)
    batch = buffer.sample(4)
    pretend_cuda.waits.clear()
    agent.update(batch)
    assert not pretend_cuda.waits, f"host syncs in an update: {dict(pretend_cuda.waits)}"
    agent.losses(batch)
    asked = histories(log, np.arange(6), np.arange(6))
    assert (
        agent.act(asked).device.type == agent.slates(asked, np.ones((6, catalog.n_items), bool)).device.type == "cuda"
    )
    goes_both_ways(agent, Sampled(buffer), asked)
    assert not pretend_cuda.unsafe, f"copies that nobody waited for: {dict(pretend_cuda.unsafe)}"


def goes_both_ways(agent, batches, asked):
    """CUDA to CPU to CUDA: the same scores, a new stream, said; and on one device the run goes on bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(f"{folder}/run", agent.updates, agent, batches)
        again = agents.load(f"{folder}/run", device="cuda:0")
        checkpoint.load(f"{folder}/run", again, batches)
        agents.fit(again, batches, 2)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            here = agents.load(f"{folder}/run", device="cpu")
        assert any("cannot go on on cpu" in str(one.message) for one in said), "nothing was said of the stream"
        assert torch.allclose(here.scores(asked), agent.scores(asked).cpu(), atol=1e-6)
        agents.save(here, f"{folder}/back")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            back = agents.load(f"{folder}/back", device="cuda:0")
        assert back.device.type == "cuda"
        assert torch.equal(weights(back), weights(agent))
        checkpoint.load(f"{folder}/run", again, batches)
        agents.fit(again, batches, 2)
        first = weights(again)
        checkpoint.load(f"{folder}/run", again, batches)
        agents.fit(again, batches, 2)
        assert torch.equal(weights(again), first), "a resumed run differs"


def lives_online(agent, log, catalog):
    vector = isinstance(agent, agents.EmbeddingAgent)
    options = {"observation": "history", "autoreset_mode": "SameStep", "horizon": 2, "frame_size": 3}
    options["action"] = "embedding" if vector else "item"
    env = RecVectorEnv(3, users=ReplayUsers(log, frame_size=3), catalog=catalog, **options)
    online = OnlineState(env, buffer_for(agent, env, 40))
    agents.fit_online(agent, env, 5, buffer=online.buffer, batch_size=4, warm_up=6)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder, 5, agent, online)
        checkpoint.load(folder, agent, online)
    agents.fit_online(agent, env, 7, buffer=online.buffer, batch_size=4, warm_up=6, first_step=5)


def main():
    log, catalog, failed = make_log(), make_catalog(), 0
    runs = QUICK if sys.argv[1:] == ["quick"] else ALL + SLATES
    for name, options in runs:
        pretend_cuda.unsafe.clear()
        try:
            with pretend_cuda.Watch():
                (life_of_slates if (name, options) in SLATES else whole_life)(name, options, log, catalog)
        except Exception as error:
            failed += 1
            place = error.__traceback__
            lines = []
            while place is not None:
                lines.append(f"{place.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{place.tb_lineno}")
                place = place.tb_next
            print(f"{name} {options}: {type(error).__name__}: {str(error)[:300]} at {' '.join(lines[-5:])}", flush=True)
    print(f"ok {len(runs) - failed}")
    sys.exit(failed > 0)


main()
