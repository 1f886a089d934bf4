"""The embedded log of listeners: people of narrower and wider taste play songs with audio features."""

from __future__ import annotations

import numpy as np

from recgym.datasets.nowplaying import AUDIO
from recgym.datasets.synthetic import FIRST_ITEM_ID, FIRST_USER_ID
from recgym.errors import DataError
from recgym.log import InteractionLog
from recgym.rng import normals, uniforms

_STYLES = 12
_BLOCK = 512  # listeners whose choice weights are in memory at a time
_EPOCH = 1_420_070_400  # 1 January 2015, seconds since 1970
_SCALES = {"loudness": (-9.0, 4.0), "tempo": (120.0, 25.0)}  # mean and deviation, in dB and beats per minute
_STREAM = {name: 0x736F6E00 + number for number, name in enumerate(("style", "song", "centre", "home", "width"))}
_STREAM |= {name: 0x736F6E10 + number for number, name in enumerate(("length", "start", "choice", "sitting", "pause"))}


def synthetic_songs(n_users: int = 1000, n_items: int = 1000, seed: int = 0) -> InteractionLog:
    """Returns a generated log of listeners, each event worth 1, and songs with the audio features of #nowplaying-RS.

    Songs lie around the centres of 12 styles in nine dimensions. Each listener has a place among them and a *width*
    between 0.5 and 2.5: a song at distance x from that place is played in proportion to `exp(-(x / width)**2 / 2)`,
    again and again if chance has it. So narrow listeners play songs that are alike, and the spread of the distances in
    their lists differs from that of wide ones. The numbers come from recgym's own counter-based generator.

    Args:
        n_users: How many listeners, at least 1. Each has 20 to 120 events, in sittings of songs 4 minutes apart.
        n_items: How many songs, at least 32.
        seed: Which world.

    Raises:
        DataError: if a size is too small.

    Example:
        >>> log = synthetic_songs(n_users=50, n_items=80)
        >>> log.n_users, log.n_items, sorted(log.item_features)[:2], log.titles[0]
        (50, 80, ['acousticness', 'danceability'], 'song 10001')
    """
    if n_users < 1 or n_items < 32:
        given = f"n_users={n_users}, n_items={n_items}"
        raise DataError(f"n_users must be at least 1 and n_items at least 32, got {given}; ask for more")
    songs, styles = _songs(n_items, seed)
    lengths = 20 + (101 * uniforms(seed, n_users, _STREAM["length"]) ** 2).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    item_ids = np.arange(FIRST_ITEM_ID, FIRST_ITEM_ID + n_items)
    return InteractionLog(
        items=_choices(songs, styles, offsets, seed).astype(np.int32),
        rewards=np.ones(offsets[-1], dtype=np.float32),
        times=_times(offsets, seed),
        offsets=offsets,
        user_ids=np.arange(FIRST_USER_ID, FIRST_USER_ID + n_users),
        item_ids=item_ids,
        titles=np.array([f"song {item_id}" for item_id in item_ids], dtype=object),
        item_features=_features(songs),
        reward_range=(0.0, 1.0),
        name="synthetic-songs",
    )


def _songs(n_items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns songs (n_items, 9) and the centres of styles (12, 9), on the scale of standard normal numbers."""
    centres = normals(seed, _STYLES * len(AUDIO), _STREAM["centre"]).reshape(_STYLES, -1)
    style = (_STYLES * uniforms(seed, n_items, _STREAM["style"])).astype(np.int64)
    noise = normals(seed, n_items * len(AUDIO), _STREAM["song"]).reshape(n_items, -1)
    return 0.8 * centres[style] + 0.6 * noise, 0.8 * centres


def _features(songs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns audio features (n_items,) float32 by name, rounded as published ones are: shares of 1, dB, beats."""
    made = {}
    for column, name in enumerate(AUDIO):
        plain = 1.0 / (1.0 + np.exp(-songs[:, column]))
        mean, deviation = _SCALES.get(name, (0.0, 0.0))
        made[name] = np.round(mean + deviation * songs[:, column] if name in _SCALES else plain, 3).astype(np.float32)
    return made


def _choices(songs: np.ndarray, styles: np.ndarray, offsets: np.ndarray, seed: int) -> np.ndarray:
    """Returns the song of every event (n_events,) int64."""
    n_users = len(offsets) - 1
    home = styles[(_STYLES * uniforms(seed, n_users, _STREAM["home"])).astype(np.int64)]  # (n_users, 9)
    width = 0.5 + 2.0 * uniforms(seed, n_users, _STREAM["width"])
    drawn = uniforms(seed, int(offsets[-1]), _STREAM["choice"])
    items = np.empty(offsets[-1], dtype=np.int64)
    for begin in range(0, n_users, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, n_users))
        squares = ((songs[None] - home[block, None]) ** 2).sum(axis=2)  # (block, n_items)
        nearest = squares.min(axis=1, keepdims=True)
        total = np.cumsum(np.exp((nearest - squares) / (2.0 * width[block, None] ** 2)), axis=1)
        for user, row in enumerate(total, start=begin):
            part = slice(offsets[user], offsets[user + 1])
            items[part] = np.searchsorted(row, drawn[part] * row[-1], side="right")
    return np.minimum(items, len(songs) - 1)


def _times(offsets: np.ndarray, seed: int) -> np.ndarray:
    """Returns when each event was (n_events,) int64: songs 240 seconds apart, and now and then a pause of days."""
    n_events, n_users = int(offsets[-1]), len(offsets) - 1
    pause = (-np.log(1.0 - uniforms(seed, n_events, _STREAM["pause"])) * 2 * 86400.0).astype(np.int64)
    gaps = np.where(uniforms(seed, n_events, _STREAM["sitting"]) < 0.15, 7200 + pause, 240)
    clock = np.cumsum(gaps)
    begins = _EPOCH + (uniforms(seed, n_users, _STREAM["start"]) * 365 * 86400).astype(np.int64)
    users = np.repeat(np.arange(n_users), np.diff(offsets))
    return begins[users] + clock - clock[offsets[:-1]][users]
