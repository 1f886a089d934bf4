"""Every kind of file that recgym writes: how an old and a new one are written, and what is read back of it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import torch
from conftest import make_catalog, make_log

from agents import checkpoint
from agents.ddpg import DDPG
from benchmarks.results import COLUMNS, Results
from recgym import embeddings, export, users
from recgym.errors import StoreError
from recgym.log import InteractionLog
from recgym.users import LearnedUsers
from recgym.users.fitted import training_loop as loop

LOGS = {"old": make_log((14, 18, 9)), "new": make_log((12, 30, 7, 25))}
CATALOGS = {"old": make_catalog(), "new": make_catalog(seed=3)}
_made = {}


def made(which, name, make):
    """What is slow to make, made once."""
    if (which, name) not in _made:
        _made[which, name] = make()
    return _made[which, name]


def columns(log):
    return {**log.event_columns(), "offsets": log.offsets, "item_ids": log.item_ids, "user_ids": log.user_ids}


def joined(path):
    batches = list(export.read(path))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def vectors(path):
    catalog, _ = embeddings.load_vectors(path, LOGS["old"])
    return {"vectors": catalog.embeddings * np.float32(catalog.scale), "ids": catalog.item_ids}


def agent():
    return DDPG(CATALOGS["old"], frame_size=5, device="cpu", hidden=8, seed=0)


def weights(path):
    one = agent()
    checkpoint.load(path, one)
    parameters = [parameter for net in one.nets for parameter in net.parameters()]
    return {str(number): parameter.detach().numpy().copy() for number, parameter in enumerate(parameters)}


def trained(which):
    one = agent()
    with torch.no_grad():
        for net in one.nets:
            for parameter in net.parameters():
                parameter.mul_(2.0 if which == "new" else 1.0)
    return one


def fitted(which):
    return made(which, "users", lambda: users.fit(LOGS[which], CATALOGS[which], dim=4, max_epochs=1, n_members=1))


def learned(path):
    model = LearnedUsers.load(path)
    return {**model.answers.arrays(), "levels": model.levels, "users": model.user_ids, "recent": model.recent[0]}


class Learner:
    """A fit of one tensor."""

    def __init__(self, value):
        self.tensors = {"w": torch.full((300,), value, requires_grad=True)}
        self.optimizer = torch.optim.Adam(self.tensors.values())
        self.tensors["w"].sum().backward()
        self.optimizer.step()


def resumed(path):
    learner = Learner(0.0)
    done, losses = loop._resumed(learner, path, {"fit": "x"})
    if not done:
        raise StoreError(f"{path} was set aside")
    return {"w": learner.tensors["w"].detach().numpy().copy(), "losses": np.array(losses)}


def rows(path):
    found = Results(path).rows()
    return {"rows": np.array([[row[name] for name in COLUMNS] for row in found])}


def put(path, which):
    row = dict.fromkeys(COLUMNS, which) | {"metric": "m", "seed": "0", "agent": "a"}
    Results(path).put([row])


def episodes(path):
    """All values of a Minari data set that holds what was written."""
    export.verify(path)
    found = {"vectors": np.load(path / "embeddings.npy")}
    with h5py.File(path / "data" / "main_data.hdf5") as file:
        file.visititems(lambda name, part: found.update({name: part[()]} if hasattr(part, "shape") else {}))
    return found


KINDS = {
    "log": (lambda path, which: LOGS[which].save(path), lambda path: columns(InteractionLog.open(path))),
    "parts": (
        lambda path, which: LOGS[which].to_parquet(path, 2),
        lambda path: columns(InteractionLog.from_parquet(path)),
    ),
    "compact": (lambda path, which: export.to_compact(LOGS[which], path, CATALOGS[which], frame_size=5), joined),
    "hdf5": (lambda path, which: export.to_hdf5(LOGS[which], path, CATALOGS[which], frame_size=5), joined),
    "parquet": (lambda path, which: export.to_parquet(LOGS[which], path, CATALOGS[which], frame_size=5), joined),
    "vectors.npy": (
        lambda path, which: embeddings.save_vectors(path, LOGS["old"].item_ids, CATALOGS[which].embeddings),
        vectors,
    ),
    "vectors.safetensors": (
        lambda path, which: embeddings.save_vectors(path, LOGS["old"].item_ids, CATALOGS[which].embeddings),
        vectors,
    ),
    "users": (lambda path, which: fitted(which).save(path), learned),
    "unfinished": (
        lambda path, which: loop._keep(Learner(1.0 + (which == "new")), path, {"fit": "x"}, 1, [[0.5]]),
        resumed,
    ),
    "checkpoint": (lambda path, which: checkpoint.save(path, 1 + (which == "new"), trained(which)), weights),
    "results.csv": (put, rows),
}
if find_spec("minari") is not None:  # in the environment of other people's libraries
    KINDS["minari-v0"] = (
        lambda path, which: export.to_minari(LOGS[which], path.parent, path.name, CATALOGS[which], frame_size=5),
        episodes,
    )
READ_BY_OTHERS = {"minari-v0"}  # recgym compares it with its hashes, and reads no value
TEXT = {"results.csv"}  # tables people edit: no checksum


def same(one, other):
    """Whether two readings are equal, value and type."""
    return one.keys() == other.keys() and all(
        np.asarray(one[name]).dtype == np.asarray(other[name]).dtype and np.array_equal(one[name], other[name])
        for name in one
    )


def files_of(path: Path):
    """The files of one kind: those in the folder, or the file and what stands beside it."""
    return sorted(file for file in path.parent.rglob("*") if file.is_file() and not file.name.endswith(".lock"))


def fresh(folder: Path, name: str, which: str) -> Path:
    """A folder of its own with one thing of a kind in it; returns the path of the thing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    KINDS[name][0](folder / name, which)
    return folder / name
