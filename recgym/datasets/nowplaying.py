"""#nowplaying-RS: songs people tweeted they were listening to, with the songs' audio features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from recgym.datasets.sources import Files, data_dir
from recgym.datasets.tables.text import read_columns
from recgym.errors import DataError, MissingDataError
from recgym.log import InteractionLog
from recgym.storage import cache

AUDIO = (  # features on a scale; distances between songs are measured in these
    *("instrumentalness", "liveness", "speechiness", "danceability", "valence"),
    *("loudness", "tempo", "acousticness", "energy"),
)
LABELS = ("mode", "key")  # features whose numbers are names
_EVENTS = "context_content_features.csv"
_FORMAT = 1  # raise it when the same file and options would make another log


def nowplaying(*, min_events: int = 3, folder: str | Path | None = None) -> InteractionLog:
    """Returns the listening events of #nowplaying-RS, each worth 1, kept in the cache once they were read.

    It reads `context_content_features.csv` with its columns `user_id`, `track_id`, `created_at` and the 11 audio
    features, in any order; other columns are left alone. Events that lack one of these are left out, and a song has
    the features of its first line. Two lines of one user, song and second (a tweet with two hashtags) are one event.

    | column | |
    |---|---|
    | `item_features[name]` | for each of the 9 names of `AUDIO` and of `"mode"` and `"key"`, float32 |
    | `times` | `created_at`, read as UTC |

    Args:
        min_events: Users with fewer events are left out; What Next? asks for 3.
        folder: Folder with the file; by default `nowplaying` under `RECGYM_DATA`.

    Source: Poddar, Zangerle, Yang (2018), #nowplaying-RS: a new benchmark dataset for building context-aware music
    recommender systems, SMC.

    Raises:
        MissingDataError: if the file is not there.
        DataError: if it is not in its published layout.
    """
    files = Files("nowplaying", _folder(folder))
    key = {"files": [cache.fingerprint(path) for path in files.paths(_EVENTS)], "options": {"min_events": min_events}}

    def build(target: Path) -> None:
        _read(files, min_events).save(target / "log")

    return InteractionLog.open(cache.entry("log", "nowplaying", key, build, version=_FORMAT) / "log")


def _read(files: Files, min_events: int) -> InteractionLog:
    features: dict[str, pa.DataType | None] = dict.fromkeys((*AUDIO, *LABELS), pa.float64())
    types = {"user_id": pa.string(), "track_id": pa.string(), "created_at": pa.timestamp("s")} | features
    table = read_columns(files.text(_EVENTS), types, null_values=("",)).drop_null()
    if table.num_rows == 0:
        raise DataError(f"{files.path / _EVENTS} must hold events with all audio features, got none; get it again")
    frame = table.to_pandas().drop_duplicates(["user_id", "track_id", "created_at"])
    log = InteractionLog.from_events(
        frame["user_id"].to_numpy(dtype=str),
        frame["track_id"].to_numpy(dtype=str),
        np.ones(len(frame), dtype=np.float32),
        frame["created_at"].astype("int64").to_numpy(),
        name="nowplaying",
    )
    songs = frame.drop_duplicates("track_id").set_index("track_id").loc[log.item_ids]
    log = replace(log, item_features={name: songs[name].to_numpy(dtype=np.float32) for name in features})
    log = log.filter_users(min_events)
    return log.select_items(np.flatnonzero(np.bincount(log.items, minlength=log.n_items)))


def _folder(folder: str | Path | None) -> Path:
    data = data_dir()
    place = Path(folder) if folder is not None else None if data is None else data / "nowplaying"
    if place is None or not place.is_dir():
        raise MissingDataError(
            f"#nowplaying-RS must lie in a folder with {_EVENTS}, got {place or 'no RECGYM_DATA'}; get it from "
            "https://zenodo.org/record/3247476 and put it into nowplaying/ under RECGYM_DATA, or use the generated log "
            "'synthetic-songs'"
        )
    return place
