"""`-Session-v1`: what people do in one sitting of a shop, seen through the frame of their last F events.

**Data.** A log is cut into sessions (`recgym.log.session_split`): a pause of more than `gap_seconds` ends
one (`mode="interval"`), or all that a user did is one (`mode="one"`). Behaviours are rewards: `pv` (viewed) 1, `cart`
and `fav` 2, `buy` 3, or what `reward="label:pv=1,..."` says. Users are split into train and test before they are cut
into sessions, so all sessions of a person are on one side; a "user" of the environment is one session, and
`env.users.log.users["person"]` says whose.

**Start.** A session is drawn uniformly. The frame holds the last F events of the person before the first event that is
to be answered, of earlier sessions too (`history="session"`: of this one only), padded on the left; there are
`min_history` of them at least: 1, so that a person's very first event is never asked for, or 0.

**Answer.** As `ReplayUsers`, with `advance="log"`: the item of the session's next event is answered and earns what the
behaviour is worth, and the next event enters the frame whatever was shown. With `advance="answer"` any later event of
the session is an answer; then `repeats="mask"` is the better rule, under which items of the opening frame earn nothing.

**Spaces.** Those of `RecVectorEnv`:

| option | space |
|---|---|
| `observation="frame"` | Box (F*(d+1),): the item vectors of the frame oldest first, then its rewards |
| `observation="history"` | Dict of `items` and `rewards` (F,), padded on the left with n_items |
| `action="embedding"` / `"item"` | Box (d,) / Discrete(n_items) |

**Ends.** After the session's last event. It `terminated` where it is known to be over, which is where the log goes on
for more than the gap after it; else the data end, and it is `truncated`: so does everything under `mode="one"`.
`end_of_log="truncate"` or `"terminal"` makes all the same. `horizon` truncates longer sessions (default 20).

**Options** beside those of every id: `mode`, `gap_seconds`, `history`, `min_history`, `advance`, `end_of_log`,
`answers`, `item_order="frequency"` (index 0 is the item with most training events; DBRL's order), and for a table
`behaviour=`, the name of its column of behaviours. Repeats are allowed by default, for a shopper comes back to an item.

**Source.** The sessions of DBRL (github.com/massquantity/DBRL, 2020; H = F = 10, gap 3600 s). Not inherited: the
session's end lies on its own last event, not on the next session's first; a log that ends is no user who left; unknown
items, padding and real items have different indices.

**Versions.** v1: an item earns once per slate, and 40 % of the events of the generated shop repeat an item; v0 is gone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recgym.catalog import Catalog
from recgym.datasets.tianchi import BEHAVIOURS
from recgym.log.derived import derived
from recgym.log.session_split import events_before, split_sessions
from recgym.options import check_choice
from recgym.users.clicks import Clicks
from recgym.users.replay import ReplayUsers
from recgym.worlds.logs import Parts, load_parts

ENDS = ("known", "truncate", "terminal")

FURTHER: dict[Any, Any] = {
    ReplayUsers: ("clicks", "attraction", "examination"),
    load_parts: None,
    split_sessions: (),
    Clicks: (),
}  # as in `recgym.worlds.frame`


def world(
    *,
    frame_size: int = 10,
    mode: str = "interval",
    gap_seconds: int = 3600,
    history: str = "user",
    min_history: int = 1,
    advance: str = "log",
    end_of_log: str = "known",
    answers: str = "all",
    behaviour: str | None = None,
    item_order: str = "id",
    **data: Any,
) -> tuple[Catalog, ReplayUsers]:
    """Returns items, and users each of whom is one session of a named log.

    Args:
        frame_size: F.
        mode: As in `split_sessions`, like the option after it.
        gap_seconds: See there.
        history: What a frame may hold: `"user"`, events of the person's earlier sessions too, or `"session"`.
        min_history: Events that must come before the first answer: 0 to F.
        advance: As in `ReplayUsers`.
        end_of_log: `"known"`, or one for all: `"truncate"` or `"terminal"`.
        answers: As in `ReplayUsers`; for its other options, clicks among them, see there.
        behaviour: Column of a table that holds behaviours; `transform` says what each is worth.
        item_order: `"id"`, or `"frequency"`: by number of training events, most first.
        **data: What `recgym.worlds.logs.load_parts` takes, and options of click models.
    """
    check_choice("end_of_log", end_of_log, ENDS)
    check_choice("history", history, ("user", "session"))
    check_choice("item_order", item_order, ("id", "frequency"))
    clicks = {name: data.pop(name) for name in ("clicks", "attraction", "examination") if name in data}
    if behaviour is not None:
        own = {} if data.get("transform") == "raw" else data  # "raw" of older ids: labels are no numbers
        data = {**data, "extra": data.get("extra", [behaviour]), "transform": own.get("transform", BEHAVIOURS)}
        data |= {"reward": behaviour}
    parts = load_parts(**data)
    if item_order == "frequency":
        parts = by_frequency(parts)
    how = {"sessions": mode, "gap_seconds": gap_seconds}
    sessions = derived(parts.served, how, lambda: split_sessions(parts.served, mode, gap_seconds))
    users = ReplayUsers(
        sessions,
        frame_size,
        advance=advance,
        end_of_log="truncate" if end_of_log == "known" else end_of_log,
        min_history=min_history,
        answers=answers,
        opening="least",
        reach=events_before(sessions) if history == "user" else None,
        over=sessions.users["over"] if end_of_log == "known" else None,
        **clicks,
    )
    return parts.catalog, users


def by_frequency(parts: Parts) -> Parts:
    """Returns the parts with items numbered anew, those with most training events first (ties: the lower index)."""
    counts = np.bincount(parts.train.items, minlength=parts.train.n_items)
    order = np.argsort(-counts, kind="stable")
    old = parts.catalog
    titles = None if old.titles is None else old.titles[order]
    features = {name: feature[order] for name, feature in old.features.items()}
    catalog = Catalog(old.embeddings[order] * np.float32(old.scale), old.item_ids[order], old.reward, titles, features)
    return Parts(catalog, parts.served.select_items(order), parts.train.select_items(order))
