"""Ten thousand damaged files of every kind: a log, or an error of ours, soon and in bounded memory; nothing raw."""

import gzip
import json
import lzma
import random
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from test_fuzz import mutated, outcome, table

from recgym import InteractionLog, datasets, embeddings
from recgym.datasets.tables.options import make_options
from recgym.datasets.tables.table import read_table

KINDS = ("csv", "gz", "xz", "parquet", "jsonl", "zip", "npy", "npz", "safetensors", "coat", "obd")


def made(kind, folder):
    """Writes a good file or folder, and returns what reads it and the files that are damaged."""
    lines = table()
    log = InteractionLog.from_events([1, 1, 2], [0, 1, 0], [1.0, 0.5, 1.0])
    path = folder / f"t.{kind}"
    options = {"user": "u", "item": "i", "reward": "r", "time": "t", "missing": "drop"}
    vectors = np.eye(2, 3, dtype=np.float32)
    if kind in ("npy", "npz", "safetensors"):
        write = {"npy": lambda: np.save(path, vectors), "safetensors": lambda: save_file({"embeddings": vectors}, path)}
        write.get(kind, lambda: np.savez_compressed(path, embeddings=vectors, item_ids=np.arange(2)))()
        return lambda: embeddings.load_vectors(path, log), [path]
    if kind == "coat":
        random_ = np.random.default_rng(0)
        np.savetxt(folder / "train.ascii", random_.integers(0, 6, (5, 8)), fmt="%d")
        np.savetxt(folder / "propensities.ascii", random_.uniform(0.1, 0.9, (5, 8)))
        (folder / "user_item_features").mkdir(exist_ok=True)
        np.savetxt(folder / "user_item_features" / "user_features.ascii", np.eye(5, 2), fmt="%d")
        (folder / "user_item_features" / "user_features_map.txt").write_text("age:old\nage:young\n")
        return lambda: datasets.load("coat", folder=folder), [one for one in folder.rglob("*") if one.is_file()]
    if kind == "obd":
        place = folder / "random" / "men"
        place.mkdir(parents=True, exist_ok=True)
        events = {"timestamp": ["2019-11-24 00:00:00+00:00"] * 6, "item_id": [0, 1, 2] * 2, "position": [1, 2, 3] * 2}
        events |= {"click": [0, 1] * 3, "propensity_score": [0.3] * 6, "user_feature_0": list("ababab")}
        pd.DataFrame(events).to_csv(place / "men.csv")
        pd.DataFrame({"item_id": [0, 1, 2], "item_feature_0": [0.5, 1, 2]}).to_csv(place / "item_context.csv")
        return lambda: datasets.load("obd", folder=folder), list(place.iterdir())
    if kind == "parquet":
        (folder / "t.csv").write_bytes(lines)
        pd.read_csv(folder / "t.csv").to_parquet(path, write_page_checksum=True)
    elif kind == "jsonl":
        names, *rows = lines.decode().split()
        path.write_text(
            "".join(json.dumps(dict(zip(names.split(","), row.split(","), strict=True))) + "\n" for row in rows)
        )
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("t.csv", lines)
    else:
        path.write_bytes({"gz": gzip.compress, "xz": lzma.compress}.get(kind, bytes)(lines))
    return lambda: read_table(path, make_options(options)), [path]


def run(kind, folder, seeds):
    read, files = made(kind, folder)
    good = {path: path.read_bytes() for path in files}
    assert not isinstance(outcome(read), str), outcome(read)
    found = Counter()
    for seed in seeds:
        numbers = random.Random(seed)
        path = numbers.choice(files)
        path.write_bytes(mutated(good[path], numbers))
        found["refused" if isinstance(outcome(read), str) else "read"] += 1
        path.write_bytes(good[path])
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_read_or_refused(kind, tmp_path):
    assert run(kind, tmp_path, range(40))["refused"] > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_mutants(kind, tmp_path):
    assert run(kind, tmp_path, range(1000, 1910))["refused"] > 100
