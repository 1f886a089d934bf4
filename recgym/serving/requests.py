"""What may be asked of the server: request bodies as pydantic models with limits, and what a refusal says."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from recgym.errors import DataError
from recgym.options import nearest

MOST_BYTES = 1 << 20  # of a body
MOST_EVENTS, MOST_LISTS, MOST_K, MOST_IDS = 10_000, 256, 1_000, 100_000
_LONGEST, _LARGEST_RATING, _SHOWN = 500, 1e9, 80
_ID = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": _LONGEST}, {"type": "array"}]}
_NAMED = {"type": "object", "properties": {"item": _ID, "rating": {}}, "required": ["item"]}
_EVENT = {"anyOf": [_ID, {"type": "array", "minItems": 2, "maxItems": 2}, _NAMED]}


class Event(NamedTuple):
    """One entry of a history."""

    item: Any  # outside id
    rating: Any  # as in the source file of the log, or None: liked


def _item_id(value: Any) -> Any:
    """Returns an id: a number, a text, or a list of them, which stands for a tuple."""
    if isinstance(value, list) and 0 < len(value) <= 8 and not any(isinstance(part, list | dict) for part in value):
        return tuple(_item_id(part) for part in value)
    if isinstance(value, str):
        if len(value) <= _LONGEST:
            return value
        raise ValueError(f"an id must have at most {_LONGEST} letters, got {len(value)}")
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"an id must be a number, a text or a list of them, got {shown(value)}")


def _rating(value: Any) -> Any:
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_RATING:  # no NaN
        return value
    raise ValueError(f"a rating must be a number up to {_LARGEST_RATING:g}, got {shown(value)}")


def _event(value: Any) -> Event:
    """Returns an entry of a history: an id, a pair of id and rating, or an object of both."""
    usual = type(value) is list and len(value) == 2 and type(value[0]) is int and type(value[1]) in (int, float)
    if usual and -(2**63) <= value[0] < 2**63 and abs(value[1]) <= _LARGEST_RATING:  # without further ado
        return Event(*value)
    if isinstance(value, dict):
        if set(value) - {"item", "rating"} or "item" not in value:
            raise ValueError(f"an entry must have item, and rating if need be, got {shown(value)}")
        return Event(_item_id(value["item"]), _rating(value.get("rating")))
    if isinstance(value, list):
        if len(value) != 2:
            raise ValueError(f"an entry must be an id or a pair of id and rating, got {shown(value)}")
        return Event(_item_id(value[0]), _rating(value[1]))
    return Event(_item_id(value), None)


def _filters(value: Any) -> dict[str, Any]:
    """Returns filters by feature: a value, a list of values, or an object of min and max."""
    if not isinstance(value, dict) or len(value) > 20:
        raise ValueError(f"where must be an object of at most 20 features, got {shown(value)}")
    for name, wanted in value.items():
        parts = wanted if isinstance(wanted, list) else [wanted]
        if isinstance(wanted, dict):
            parts = list(wanted.values())
            if not wanted or set(wanted) - {"min", "max"} or any(isinstance(part, str) for part in parts):
                raise ValueError(f"where[{name!r}] must be a value, a list or min and max, got {shown(wanted)}")
        plain = all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in parts)
        finite = plain and all(isinstance(one, str) or abs(one) <= 1e18 for one in parts)
        if not finite or not 0 < len(parts) <= 1_000 or len({isinstance(one, str) for one in parts}) > 1:
            raise ValueError(f"where[{name!r}] must be text or finite numbers, of one kind, got {shown(wanted)}")
    return value


ItemId = Annotated[Any, BeforeValidator(_item_id), WithJsonSchema(_ID)]
History = Annotated[
    list[Annotated[Any, BeforeValidator(_event), WithJsonSchema(_EVENT)]], Field(max_length=MOST_EVENTS)
]
Ids = Annotated[list[ItemId], Field(max_length=MOST_IDS)]
Filters = Annotated[dict[str, Any], BeforeValidator(_filters)]


class Recommend(BaseModel):
    """Asks for one list (`history`) or many (`histories`); what else is said holds for all of them."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"history": [50, [172, 5.0], {"item": 1, "rating": 3.5}], "k": 5}]},
    )

    history: History | None = Field(None, description="The past, oldest first: ids, or pairs of id and rating.")
    histories: Annotated[list[History], Field(max_length=MOST_LISTS)] | None = Field(
        None, description="Many pasts, instead of `history`."
    )
    user: ItemId | None = Field(None, description="Outside id, for agents that know users; others do not look at it.")
    users: Annotated[list[ItemId | None], Field(max_length=MOST_LISTS)] | None = Field(
        None, description="One per history of `histories`."
    )
    k: int = Field(10, ge=1, le=MOST_K, description="Length of a list; fewer where no more are left.")
    exclude: Ids = Field([], description="Ids that must not be listed.")
    candidates: Ids | None = Field(None, description="Ids to choose from; null means all.")
    where: Filters = Field(
        {}, description='Filters on item features: {"genres": ["Comedy"], "year": {"min": 1990}}; all must hold.'
    )
    exclude_seen: bool = Field(True, description="Whether items of a history are left out of its list.")
    explain: bool = Field(False, description="Whether each item comes with the nearest one of the history.")
    by: Literal["run", "popularity", "second"] = Field("run", description="What ranks; `second` is `--beside`.")


class Answer(BaseModel):
    """What became of one item of a shown list."""

    model_config = ConfigDict(extra="forbid", strict=True)

    list: str = Field(pattern=r"^[0-9a-f]{32}$", description="`list` of the answer to /recommend.")
    item: ItemId
    reward: float = Field(
        1.0, ge=-_LARGEST_RATING, le=_LARGEST_RATING, allow_inf_nan=False, description="1: clicked, 0: taken back."
    )


class Feedback(BaseModel):
    """Answers of people; the last one of a list and item counts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answers: list[Answer] = Field(min_length=1, max_length=1_000)


Body = TypeVar("Body", bound=BaseModel)


def parsed(kind: type[Body], body: bytes) -> Body:
    """Returns a request body as what it must be.

    Raises:
        DataError: if it is not, naming the first culprit and how many there are.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise DataError(_said(faults[0], len(faults), kind)) from None


def _said(fault: Any, n: int, kind: type[BaseModel]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    more = f" ({n} faults in all)" if n > 1 else ""
    if fault["type"] == "extra_forbidden":
        known = list(kind.model_fields)
        hint = nearest(where, known) or f"they are {', '.join(known)}"
        return f"the body must have known fields, got {shown(where)}{more}; {hint}"
    if fault["type"] == "value_error":
        return f"{where or 'the body'}: {fault['msg'].removeprefix('Value error, ')}{more}; see /docs"
    got = "" if fault["type"] == "json_invalid" else f", got {shown(fault['input'])}"
    return f"{where or 'the body'} must be as /docs says: {fault['msg'][:200]}{got}{more}; mend it"


def shown(value: Any) -> str:
    """Returns a value for a message: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, list | dict) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, str):
        value = value[: 2 * _SHOWN]
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"something of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
