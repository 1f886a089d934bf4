"""What the contracts and the golden hashes must know of each kind of environment: small data, and options worth a run.

A new kind is run as it is registered; a row of `CASES` or `VARIANTS` says in which other ways, and one of `SMALL` how
its data are made small where the options of `Frame` are not its own.
"""

from recgym.envs.registry import KINDS

LOG = {"n_users": 120, "n_items": 90, "dim": 12}
SMALL = {  # kind -> options that make its Synthetic data small
    "Playlist": {"n_users": 120, "n_items": 90},
    "Sim": {**LOG, "max_epochs": 3, "n_members": 2},
}
DIM = {  # kind -> options that make vectors of real data cheap
    "Playlist": {},
    "Sim": {"dim": 32, "max_epochs": 1, "n_members": 2},
}
_FRAME = {
    "item": {"action": "item", "observation": "history"},
    "item slate log": {"action": "item", "observation": "frame", "k": 3, "advance": "log", "miss_reward": -0.1},
    "embedding": {"action": "embedding", "observation": "frame", "end_of_log": "terminal"},
    "embedding slate test": {
        "action": "embedding",
        "observation": "history",
        "k": 2,
        "mapper": "cosine",
        "split": "test",
        "test_size": 0.2,
    },
}
CASES = {  # kind -> name -> options; the first is run on all data, the others where data is ours, but for Frame
    "Frame": _FRAME,
    "Seq": {
        "sequence": {"action": "item", "frame_size": 12},
        "vectors slate clicks": {"observation": "sequence_embeddings", "frame_size": 30, "k": 2, "clicks": "cascade"},
    },
    "DRR": {
        "embedding": {"mapper": "l2"},
        "item published": {"action": "item", "protocol": "published", "split": "test", "horizon": 40},
        "slate test clicks": {"k": 2, "split": "test", "clicks": "position", "n_candidates": 30, "share": 0.3},
    },
    "Session": {
        "embedding": {},
        "item slate answer": {"action": "item", "k": 3, "advance": "answer", "repeats": "mask", "min_history": 0},
        "one session test": {"mode": "one", "observation": "history", "split": "test", "test_size": 0.2},
    },
    "Playlist": {
        "embedding": {},
        "item slate": {"action": "item", "k": 3, "observation": "history", "repeats": "allow"},
        "box slate test": {"k": 2, "split": "test", "test_size": 0.2, "clicks": "position", "miss_reward": -0.1},
    },
    "Sim": {
        "embedding": {},
        "item slate guarded": {"action": "item", "k": 3, "split": "test", "pessimism": 1.0, "entropy_bonus": 0.1},
        "sequential": {"model": "sequential", "action": "item", "observation": "history"},
    },
}
VARIANTS = {  # kind -> name -> options of a golden run; the first is run on all data, the others where data is ours
    "Frame": {
        "default": {},
        "slate": {"k": 3, "miss_reward": -0.1, "repeats": "zero"},
        "log": {"advance": "log", "end_of_log": "terminal", "split": "test"},
        "clicks": {"k": 3, "clicks": "position", "attraction": 0.7, "answers": "first"},
    },
    "Seq": {"default": {}, "cascade": {"k": 3, "frame_size": 7, "clicks": "cascade", "attraction": 0.5}},
    "DRR": {
        "default": {},
        "published": {"protocol": "published", "split": "test", "horizon": 100, "repeats": "zero"},
        "slate": {"k": 3, "split": "test", "n_candidates": 60, "share": 0.2, "clicks": "cascade", "attraction": 0.9},
    },
    "Session": {
        "default": {},
        "answer": {"advance": "answer", "k": 3, "repeats": "mask", "mode": "one"},
        "cold": {"min_history": 0, "history": "session", "gap_seconds": 600, "split": "test"},
    },
    "Playlist": {"default": {}, "slate": {"k": 3, "repeats": "allow", "clicks": "cascade", "split": "test"}},
    "Sim": {},  # trained floats differ between machines; test_learned_users.py has a golden run of fixed parameters
}
for _kind in KINDS:  # one without a row is run as it is registered
    if not _kind.datasets:
        SMALL.setdefault(_kind.name, {}), DIM.setdefault(_kind.name, {})
    CASES.setdefault(_kind.name, {"registered": {}})
    VARIANTS.setdefault(_kind.name, {"default": {}})
KIND_OF = {env_id: kind.name for kind in KINDS for env_id in kind.ids()}
OLD = {env_id: kind.name for kind in KINDS for env_id in kind.old_ids()}
DATASET_OF = {env_id: given.get("dataset") for kind in KINDS for env_id, given in (kind.ids() | kind.old_ids()).items()}


def data_of(env_id):
    """Returns which data an id names: "Synthetic" also where the users need none."""
    return env_id.split("/")[1].split("-")[0] if DATASET_OF[env_id] else "Synthetic"


def cases(table, everywhere=(), old=False):
    """Returns (id, name) for every id, or older ones too, of the kinds in a table of options by kind and name."""
    return [
        (env_id, name)
        for env_id, kind in (KIND_OF | OLD if old else KIND_OF).items()
        for place, name in enumerate(table.get(kind, {}))
        if place == 0 or data_of(env_id) in ("Synthetic", "Table") or kind in everywhere
    ]
