"""A CUDA device pretended over CPU tensors: real numbers, and an error wherever a real device would raise one.

Every storage has a home, the CPU or the pretended device. What names a device in Python (factories, `.to`, `.numpy`,
generators, `.device`) is replaced by `install`, before anything that uses torch is imported; `Watch` sees all ATen
operations, those of backward passes and optimizers too, refuses what mixes homes, and counts what makes the host wait.

It cannot see kernels that CUDA lacks, autocast, and numbers that differ. torch's FakeTensorMode cannot do any of this
in a build without CUDA (2.13): it has no kernels for indexing there.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import clip_grad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
ANYWHERE = None  # home of what C++ makes for its own use, such as the scalars of a backward pass
FACTORIES = [
    "arange",
    "as_tensor",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]
CROSSES = ("_to_copy", "copy_", "_copy_from", "set_", "detach", "alias", "_local_scalar_dense")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_unique2", "is_nonzero")

waits: Counter[str] = Counter()  # what made the host wait for the device
unsafe: Counter[str] = Counter()  # copies to the host that were not waited for
_homes: dict[int, tuple[StorageWeakRef, torch.device | None]] = {}
_making = 0  # depth of factories that Python has called


class MixedDevices(RuntimeError):
    """A real device would have raised here."""


def home(tensor: torch.Tensor) -> torch.device | None:
    """Returns where a tensor is pretended to be; ANYWHERE for what goes with any."""
    reference, place = _homes.get(tensor.untyped_storage()._cdata, (None, CPU))
    return CPU if reference is not None and reference.expired() else place


def settle(tensor: Any, place: torch.device | None) -> Any:
    """Gives a tensor's storage a home."""
    if isinstance(tensor, torch.Tensor):
        storage = tensor.untyped_storage()
        _homes[storage._cdata] = StorageWeakRef(storage), place
        if len(_homes) > 1 << 15:
            for key in [key for key, (reference, _) in _homes.items() if reference.expired()]:
                del _homes[key]
    return tensor


def named(device: Any) -> torch.device:
    """Returns the home that a device's name stands for."""
    return CUDA if torch.device(device).type == "cuda" else CPU


class Watch(TorchDispatchMode):
    """Refuses operations whose tensors have different homes, and gives their results one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        place = self._checked(name, args, tensors)
        asked, generator = kwargs.get("device"), kwargs.get("generator")
        if asked is not None:
            place = CUDA if named(asked) == CUDA else place  # where C++ names a device it is the real one
            kwargs["device"] = CPU
        if generator is not None and getattr(generator, "device", CPU).type != (place or CPU).type:
            raise MixedDevices(f"{name}: numbers on {place} from a stream of {generator.device}")
        if place == CUDA and name in WAITING:
            waits[name] += 1
        before = {tensor.untyped_storage()._cdata for tensor in tensors}
        made = func(*args, **kwargs)
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in before:
                settle(leaf, ANYWHERE if not tensors and not _making else place or CPU)
        return made

    def _checked(self, name: str, args: Any, tensors: list[torch.Tensor]) -> torch.device | None:
        """Returns the home of an operation's result."""
        large = {place for tensor in tensors if tensor.ndim and (place := home(tensor))}
        small = {place for tensor in tensors if not tensor.ndim and (place := home(tensor))}
        if name in CROSSES:
            return home(args[0])
        if name in INDEXING:  # indices may lie on the host, the table may not lie there alone
            own, indices = home(args[0]), [index for index in args[1] if index is not None]
            values = [one for one in tensors if one.ndim and one is not args[0] and not any(one is i for i in indices)]
            if (own == CPU and CUDA in map(home, indices)) or any(home(value) not in (own, None) for value in values):
                raise MixedDevices(f"{name}: table on {own}, indices on {[home(index) for index in indices]}")
            if own == CUDA and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                waits["mask as index"] += 1
            return own
        together = name.startswith(("_fused_", "_foreach_"))
        if len(large | (small if together else set())) > 1 or (large == {CPU} and CUDA in small):
            raise MixedDevices(f"{name}: {[(tuple(tensor.shape), home(tensor)) for tensor in tensors]}")
        return next(iter(large or small), None)


_Real = torch.Generator


class Generator(_Real):
    """A stream of a home; the state of a CUDA one is 16 bytes, seed and offset, and each kind refuses the other's."""

    _seen: list[torch.Tensor] = []  # noqa: RUF012, what the 16 bytes stand for

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = _Real.__new__(cls, "cpu")
        made.place = named(device)
        return made

    def __init__(self, device: Any = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:
        return self.place

    def get_state(self) -> torch.Tensor:
        state = super().get_state()
        if self.place == CPU:
            return state
        self._seen.append(state)
        return torch.from_numpy(np.array([len(self._seen) - 1, 0], dtype=np.int64).view(np.uint8).copy())

    def set_state(self, state: torch.Tensor) -> Any:
        if home(state) != CPU or state.numel() != (16 if self.place == CUDA else 5056):
            raise RuntimeError(f"a stream of {self.place} got a state of {state.numel()} bytes on {home(state)}")
        return super().set_state(state if self.place == CPU else self._seen[int(state.view(torch.int64)[0])])


def _factory(real: Any) -> Any:
    def made(*args: Any, **kwargs: Any) -> Any:
        global _making
        given = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        device, generator = kwargs.get("device"), kwargs.get("generator")
        place = named(device) if device is not None else CPU if given is None else home(given) or CPU
        if generator is not None and getattr(generator, "device", CPU).type != place.type:
            raise MixedDevices(f"{real.__name__}: numbers on {place} from a stream of {generator.device}")
        if device is not None:
            kwargs["device"] = CPU
        _making += 1
        try:
            found = real(*args, **kwargs)
        finally:
            _making -= 1
        shared = given is not None and found.untyped_storage()._cdata == given.untyped_storage()._cdata
        return settle(found.clone() if shared and home(given) != place else found, place)

    return made


def _to(real: Any) -> Any:
    def moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        like = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        names = [arg for arg in (*args, kwargs.get("device")) if isinstance(arg, str | torch.device)]
        place = named(names[0]) if names else home(like) if like is not None else home(tensor)
        dtypes = [arg for arg in (*args, kwargs.get("dtype")) if isinstance(arg, torch.dtype)]
        dtypes += [like.dtype] if like is not None else []
        found = real(tensor, dtypes[0]) if dtypes else tensor
        if place == home(tensor):
            return found
        if place == CPU:
            (unsafe if kwargs.get("non_blocking") else waits)["copy to the host"] += 1
        return settle(found.clone(), place)

    return moved


def _on_host(real: Any) -> Any:
    def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if home(tensor) == CUDA:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return real(tensor, *args, **kwargs)

    return read


def install() -> None:
    """Replaces what names devices in Python; for a process of its own, there is no way back."""
    for name in FACTORIES:
        setattr(torch, name, _factory(getattr(torch, name)))
    torch.Generator = Generator  # type: ignore[misc]
    torch.Tensor.to = _to(torch.Tensor.to)
    torch.Tensor.cpu = lambda tensor, *_: tensor.to("cpu")
    torch.Tensor.numpy, torch.Tensor.__array__ = _on_host(torch.Tensor.numpy), _on_host(torch.Tensor.__array__)
    torch.Tensor.device = property(lambda tensor: home(tensor) or CPU)
    torch.Tensor.is_cuda = property(lambda tensor: home(tensor) == CUDA)
    grouped = clip_grad._group_tensors_by_device_and_dtype

    def by_home(lists: Any, *args: Any, **kwargs: Any) -> Any:  # C++ would see the real device
        found = grouped(lists, *args, **kwargs).items()
        return {(home(parts[0][0]) or CPU, dtype): (parts, places) for (_, dtype), (parts, places) in found}

    clip_grad._group_tensors_by_device_and_dtype = by_home
