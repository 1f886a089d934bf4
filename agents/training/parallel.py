"""Processes that train together and share every batch: `torchrun -m agents.NAME`, `recgym train --processes 2 NAME`.

Each process has the agent, its rows of every batch (`rank` of `n_ranks`) and random streams of its own; gradients are
averaged by hooks before optimizers see them, so the replicas stay equal to the bit. No algorithm knows of it. Where
nothing is drawn at random the weights are those of one process with the whole batch, up to rounding
(`agents.networks.whole_batch`). Streams are a function of seed, rank and step: a checkpoint needs only the first's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import torch
from torch import distributed
from torch.autograd import Variable

from agents.networks.whole_batch import shared_by
from recgym.errors import DataError, RecgymError

_PATIENCE = timedelta(days=1)  # how long processes wait for one another: the first one evaluates and saves meanwhile
_MEETING = timedelta(minutes=10)  # how long they wait for one another to begin


class Ranks(NamedTuple):
    """Which process of how many this is."""

    rank: int = 0
    n: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is this process that writes, evaluates and talks."""
        return self.rank == 0


def present() -> Ranks:
    """Returns this process's place in the group of torch.distributed it is in; alone outside of one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def restarted() -> bool:
    """Returns whether torchrun started this process again after one of the group had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


@contextmanager
def joined() -> Iterator[Ranks]:
    """Runs its body in the group that torchrun's variables describe: gloo on CPUs, NCCL on CUDA; alone without them."""
    described = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if not described or os.environ["WORLD_SIZE"] == "1" or present().n > 1:
        yield present()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    store, rank, n_ranks = next(distributed.rendezvous("env://", timeout=_MEETING))
    store = distributed.PrefixStore(_name_of_start(store, rank, n_ranks), store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=n_ranks, timeout=_PATIENCE)
    yield present()
    distributed.barrier()  # who leaves while another still answers may be aborted by gloo's own threads
    distributed.destroy_process_group()  # after an error there is nobody to wait for: the process ends


def _name_of_start(store: Any, rank: int, n_ranks: int) -> str:
    """Returns a word that all who start now have in common and none who died before.

    torchrun keeps one store over its restarts: whoever read in it the addresses of the dead would call them for ever.
    Each asks under a word nobody had before, and the first answers every word until all have heard.
    """
    word = uuid4().hex
    if rank > 0:
        store.set(f"asks/{rank}", word)
        name: str = store.get(f"start/{word}").decode()
        store.add(f"heard/{name}", 1)
        return name
    until = time.monotonic() + _MEETING.total_seconds()
    while store.add(f"heard/{word}", 0) < n_ranks - 1:
        if time.monotonic() > until:
            raise RecgymError(f"{n_ranks} processes must begin within {_MEETING}, got fewer; look what the others say")
        for other in range(1, n_ranks):
            if store.check([f"asks/{other}"]):
                store.set(f"start/{store.get(f'asks/{other}').decode()}", word)
        time.sleep(0.01)
    return word


@contextmanager
def first_of_machine_first() -> Iterator[None]:
    """Runs its body on the first process of each machine before all others: what it caches they find."""
    waits = present().n > 1 and os.environ.get("LOCAL_RANK", "0") != "0"
    if waits:
        distributed.barrier()
    yield
    if present().n > 1 and not waits:
        distributed.barrier()


class Replicas:
    """The agents of all processes, kept one: what `agents.fit` makes updates by. Alone, it is the agent's own `update`.

    Args:
        agent: This process's; its networks stand in `agent.nets`.
        batches: Its part of the batches.
        step: Updates made before.

    Raises:
        DataError: if batches are not shared by the group's processes, the agent has no networks, or the processes do
            not begin at one step with one catalog.
    """

    def __init__(self, agent: Any, batches: Any, step: int) -> None:
        self.agent, self.ranks = agent, present()
        self._pending: dict[int, torch.Tensor] = {}  # parameters by place whose gradients wait to be averaged
        self._hooks: list[Any] = []
        if self.ranks.n == 1:
            return
        self._check(batches, step)
        with torch.no_grad():
            for tensor in chain.from_iterable((*net.parameters(), *net.buffers()) for net in agent.nets):
                distributed.broadcast(tensor, 0)
        for place, parameter in enumerate(chain.from_iterable(net.parameters() for net in agent.nets)):
            self._hooks.append(parameter.register_post_accumulate_grad_hook(self._noting(place)))

    def update(self, step: int, batch: Any) -> Mapping[str, Any]:
        """Makes update number `step`, all processes together; returns this process's losses."""
        if self.ranks.n == 1:
            losses: Mapping[str, Any] = self.agent.update(batch)
            return losses
        words = np.random.SeedSequence([getattr(self.agent, "seed", 0), self.ranks.rank, step])
        seed = int(words.generate_state(1, np.uint64)[0] >> 1)
        for stream in (getattr(self.agent, "generator", None), torch.default_generator):
            if stream is not None:
                stream.manual_seed(seed)
        with shared_by(self.ranks.n):
            losses = self.agent.update(batch)
        return losses

    def any(self, given: Any) -> bool:
        """Returns whether any process says yes; all must ask."""
        if self.ranks.n == 1:
            return bool(given)
        said = self._numbers([int(bool(given))])
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return bool(said.item())

    def close(self) -> None:
        """Lets the agent be one by itself again."""
        for hook in self._hooks:
            hook.remove()

    def _noting(self, place: int) -> Any:
        def note(parameter: torch.Tensor) -> None:
            if not self._pending:
                Variable._execution_engine.queue_callback(self._average)  # runs when this backward pass ends
            self._pending[place] = parameter

        return note

    @torch.no_grad()
    def _average(self) -> None:
        """Averages the gradients of a backward pass over processes, in an order that all have alike."""
        parameters = [parameter for _, parameter in sorted(self._pending.items())]
        self._pending = {}
        grads = []
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = parameter.grad.contiguous()
            grads.append(parameter.grad)
        for work in [distributed.all_reduce(grad, async_op=True) for grad in grads]:
            work.wait()
        torch._foreach_div_(grads, float(self.ranks.n))

    def _check(self, batches: Any, step: int) -> None:
        shared = getattr(batches, "sharing", None)
        if shared is not None and shared != tuple(self.ranks):
            raise DataError(
                f"batches must be shared by the {self.ranks.n} processes that train together, got rank {shared[0]} of "
                f"{shared[1]} in process {self.ranks.rank}; call batches.share(rank, n_ranks) or pass both at the start"
            )
        if not hasattr(self.agent, "nets"):
            raise DataError(
                f"an agent that {self.ranks.n} processes train together must have its networks in agent.nets, got "
                f"{type(self.agent).__name__} without; name them so"
            )
        catalog = getattr(self.agent, "catalog", None)
        mark = 0 if catalog is None else int(catalog.hash[:15], 16)
        everywhere = [torch.zeros_like(self._numbers([0, 0])) for _ in range(self.ranks.n)]
        distributed.all_gather(everywhere, self._numbers([step, mark]))
        steps, marks = zip(*(pair.tolist() for pair in everywhere), strict=True)
        if len(set(steps)) > 1:
            raise DataError(
                f"all processes must begin at one step, got {list(steps)}; give them a folder that all of them see"
            )
        if len(set(marks)) > 1:
            raise DataError(
                f"all processes must have one catalog, got {len(set(marks))} different ones in {self.ranks.n}; save it "
                "once and load it everywhere"
            )

    def _numbers(self, values: list[int]) -> torch.Tensor:
        only_cuda = "gloo" not in str(distributed.get_backend_config())
        return torch.tensor(values, device=self.agent.device if only_cuda else "cpu")
