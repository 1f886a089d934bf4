"""State encoders: padding never counts, every real event does, and each is what its page says."""

import doctest
from importlib import import_module

import numpy as np
import pytest
import torch

import agents
from agents.networks import state_encoders as encoders
from agents.networks.encoded import Encoded, with_encoders
from agents.networks.sequence_cores import CausalTransformer, make_core, to_front
from agents.networks.state_encoders import ENCODERS, DrrAverage, make_encoder
from agents.training.train import fit
from recgym.batches import FrameBatches
from recgym.batches import histories as past_of
from recgym.errors import DataError
from recgym.frames import encode_frame

DIM, FRAME = 3, 4
CORES = ("gru", "lstm", "transformer", "convolution")
ORDERED = ("flat", "drr", *CORES)


def test_doctests():
    assert doctest.testmod(encoders, extraglobs={"np": np}).failed == 0


def encoder_of(name, **options):
    torch.manual_seed(0)
    return make_encoder(name, DIM, FRAME, **({"width": 8, "n_users": 6} | options)).eval()


def histories(length, width, seed=0, junk=7.0):
    """Events of the given lengths, padded on the left up to `width` with junk no encoder may look at."""
    random = np.random.default_rng(seed)
    vectors, rewards = np.full((len(length), width, DIM), junk), np.full((len(length), width), junk)
    for row, n in enumerate(length):
        vectors[row, width - n :] = random.normal(size=(n, DIM))
        rewards[row, width - n :] = random.uniform(0.1, 1.0, size=n)
    tensors = (torch.tensor(array, dtype=torch.float32) for array in (vectors, rewards))
    return (*tensors, torch.tensor(length))


@pytest.mark.parametrize("name", ENCODERS)
def test_more_padding_changes_no_state(name):
    encoder, user, lengths = encoder_of(name), torch.arange(4), [0, 1, 3, 4]
    states = encoder(*histories(lengths, 4), user)
    assert states.shape == (4, encoder.out_dim)
    for width, junk in ((5, 7.0), (9, -3.0), (200, 1e4)):
        assert torch.allclose(encoder(*histories(lengths, width, junk=junk), user), states, atol=1e-6), width


@pytest.mark.parametrize("name", ENCODERS)
def test_a_history_shorter_than_the_frame_needs_no_padding(name):
    encoder = encoder_of(name)
    assert torch.allclose(encoder(*histories([2, 1], 2)), encoder(*histories([2, 1], 6)), atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_only_the_newest_events_of_a_frame_count_and_each_of_them_does(name):
    encoder = encoder_of(name)
    vectors, rewards, length = histories([9], 9)
    state = encoder(vectors, rewards, length)
    for place in range(9):
        changed = vectors.clone()
        changed[0, place] += 1.0
        same = torch.allclose(encoder(changed, rewards, length), state, atol=1e-6)
        assert same == (place < 9 - FRAME), place


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "drr"])  # it only asks whether one was liked
def test_every_reward_of_the_frame_counts(name):
    encoder = encoder_of(name)
    vectors, rewards, length = histories([4], 4)
    for place in range(4):
        changed = rewards.clone()
        changed[0, place] = -1.0
        assert not torch.allclose(encoder(vectors, changed, length), encoder(vectors, rewards, length), atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS[1:])  # the flat frame has none
def test_gradients_reach_every_parameter(name):
    encoder = encoder_of(name)
    encoder(*histories([1, 3, 4], 4), torch.tensor([0, 1, 2])).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", ENCODERS)
def test_order_matters_except_to_attention(name):
    encoder = encoder_of(name)
    vectors, rewards, length = histories([4], 4)
    swapped = encoder(vectors.flip(1), rewards.flip(1), length)
    assert torch.allclose(swapped, encoder(vectors, rewards, length), atol=1e-6) == (name not in ORDERED)


@pytest.mark.parametrize("name", ["drr", "attention"])
def test_users_have_vectors_of_their_own_and_the_unnamed_share_one(name):
    encoder = encoder_of(name)
    vectors, rewards, length = (part.repeat_interleave(2, dim=0) for part in histories([4], 4))
    states = encoder(vectors, rewards, length, torch.tensor([0, 5]))
    assert not torch.allclose(states[0], states[1])
    unnamed = encoder(vectors, rewards, length)
    assert torch.equal(unnamed[0], unnamed[1])
    assert torch.equal(unnamed, encoder(vectors, rewards, length, torch.tensor([6, 6])))


def test_the_flat_frame_is_recnns():
    vectors, rewards, length = histories([4, 4], 4)
    table = torch.cat([vectors.flatten(0, 1), torch.zeros(1, DIM)])
    expected = encode_frame(table, torch.arange(8).view(2, 4), rewards)
    assert torch.equal(encoder_of("flat")(vectors, rewards, length), expected)


def test_drr_worked_out_by_hand():
    """u = (2, 3), g = 0.5 * (1, 0) + 0.25 * (0, 4) - 1 = (-0.5, 0); the disliked (9, 9) does not count."""
    encoder = DrrAverage(2, 3, n_users=1)
    with torch.no_grad():
        encoder.users.weight[0] = torch.tensor([2.0, 3.0])
        encoder.weight.copy_(torch.tensor([0.5, 100.0, 0.25]))
        encoder.bias.fill_(-1.0)
    vectors = torch.tensor([[[1.0, 0.0], [9.0, 9.0], [0.0, 4.0]]])
    state = encoder(vectors, torch.tensor([[1.0, -0.5, 0.2]]), torch.tensor([3]), torch.tensor([0]))
    assert state.tolist() == [[2.0, 3.0, -1.0, 0.0, -0.5, 0.0]]


@pytest.mark.parametrize("name", CORES)
def test_no_core_looks_ahead(name):
    """What stands behind an event, later events or padding, changes nothing there."""
    torch.manual_seed(0)
    core, events = make_core(name, 8, 6).eval(), torch.randn(2, 6, 8)
    hidden = core(events)
    for place in range(1, 6):
        changed = events.clone()
        changed[:, place:] = 5.0
        later = core(changed)
        assert torch.allclose(later[:, :place], hidden[:, :place], atol=1e-6)
        assert not torch.allclose(later[:, place], hidden[:, place])
    assert torch.allclose(core(events[:, :3]), hidden[:, :3], atol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 4, 10, 50])
def test_a_convolution_sees_all_the_events_it_is_made_for(length):
    torch.manual_seed(0)
    core, events = make_core("convolution", 32, length), torch.randn(1, length, 32, requires_grad=True)
    core(events)[0, -1].sum().backward()
    assert (events.grad[0].abs().sum(dim=1) > 0).all()


def test_events_move_to_the_front_in_order():
    events = torch.tensor([[9, 9, 1, 2], [1, 2, 3, 4], [9, 9, 9, 9]])
    moved = to_front(events, torch.tensor([2, 4, 0]))
    assert moved.tolist() == [[1, 2, 9, 9], [1, 2, 3, 4], [9, 9, 9, 9]]


def test_a_transformer_layer_equals_torchs():
    torch.manual_seed(0)
    ours = CausalTransformer(8, 5, n_layers=1, n_heads=2).double()
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True).double()
    block = ours.blocks[0]
    with torch.no_grad():
        ours.positions.zero_()
        pairs = zip(
            (theirs.linear1, theirs.linear2, theirs.self_attn.out_proj, theirs.norm1, theirs.norm2),
            (block.wide, block.narrow, block.out, block.norms[0], block.norms[1]),
            strict=True,
        )
        for their, our in pairs:
            their.load_state_dict(our.state_dict())
        theirs.self_attn.in_proj_weight.copy_(block.attention.weight)
        theirs.self_attn.in_proj_bias.copy_(block.attention.bias)
    events = torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    assert torch.allclose(ours(events), theirs(events, src_mask=mask), atol=1e-12)


def test_dropout_is_for_training_only():
    encoder = encoder_of("transformer", dropout=0.5)
    history = histories([4], 4)
    assert torch.equal(encoder(*history), encoder(*history))
    encoder.train()
    assert not torch.equal(encoder(*history), encoder(*history))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"encoder must be one of flat, drr, .*, got 'mean'; choose one of them"):
        make_encoder("mean", DIM)
    with pytest.raises(ValueError, match=r"width must be a multiple of n_heads, got 9 and 2; change one of them"):
        make_encoder("transformer", DIM, width=9, n_heads=2)


# -- before networks that take frames in two parts --------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_a_network_behind_an_encoder_is_given_its_state(name):
    encoder = encoder_of(name)
    vectors, rewards, length = histories([0, 2, 4], 4, junk=0.0)
    actor = torch.nn.Linear(encoder.out_dim, 2)
    encoded = Encoded(encoder, actor)
    assert torch.equal(encoded(vectors.flatten(1), rewards), actor(encoder(vectors, rewards, length)))


def test_an_event_whose_vector_is_zero_is_still_an_event():
    encoder = encoder_of("gru")
    vectors, rewards, _ = histories([3], 4, junk=0.0)
    vectors[0, 2] = 0.0
    expected = encoder(vectors, rewards, torch.tensor([3]))
    assert torch.equal(Encoded(encoder, torch.nn.Identity())(vectors.flatten(1), rewards), expected)


@pytest.mark.parametrize("agent_name", ["DDPG", "TD3", "SAC", "TD3BC"])
@pytest.mark.parametrize("name", ENCODERS)
def test_agents_with_vector_actions_learn_through_any_encoder(agent_name, name, log, catalog):
    agent_class = getattr(agents, agent_name)
    module = import_module(agent_class.__module__)
    width = make_encoder(name, catalog.dim, 5, width=8).out_dim
    config = {"hidden": 8}
    torch.manual_seed(0)
    nets = module.make_networks(width, catalog.dim, module.Config(**config))
    nets = with_encoders(nets, lambda: make_encoder(name, catalog.dim, 5, width=8))
    for field in nets._fields:
        if field.endswith("_target"):
            assert isinstance(getattr(nets, field), Encoded)
            source, target = getattr(nets, field.removesuffix("_target")), getattr(nets, field)
            assert source is not target
            assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    agent = agent_class(catalog, frame_size=5, device="cpu", nets=nets, **config)
    before = [parameter.clone() for parameter in agent.nets.actor.encoder.parameters()]
    fit(agent, FrameBatches(log, frame_size=5, batch_size=8, min_history=1), 3)
    after = agent.nets.actor.encoder.parameters()
    assert name == "flat" or any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("agent_name", ["DDPG", "TD3", "SAC", "TD3BC", "BCQ"])
@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "flat"])
def test_agents_take_an_encoder_by_name(agent_name, name, log, catalog):
    config = {"generator_hidden": 8} if agent_name == "BCQ" else {}
    agent = getattr(agents, agent_name)(
        catalog, frame_size=5, device="cpu", encoder=name, width=8, hidden=8, seed=1, **config
    )
    behind = {field: net for field, net in agent.nets._asdict().items() if isinstance(net, Encoded)}
    assert {"critics", "critics_target"} <= set(behind) or {"critic", "critic_target"} <= set(behind)
    before = {field: [p.clone() for p in net.encoder.parameters()] for field, net in behind.items()}
    fit(agent, FrameBatches(log, frame_size=5, batch_size=8, min_history=1), 4)
    for field, net in behind.items():
        changes = [not torch.equal(a, b) for a, b in zip(before[field], net.encoder.parameters(), strict=True)]
        assert any(changes), field  # learners by their gradient, slow copies by following
    assert agent.scores(past_of(log, [0, 1], [3, 0])).shape == (2, catalog.n_items)


def test_an_unknown_encoder_is_refused(catalog):
    with pytest.raises(DataError, match=r"encoder must be one of flat, .*got 'cube'"):
        agents.TD3(catalog, device="cpu", encoder="cube")
