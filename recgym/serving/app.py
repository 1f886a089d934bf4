"""The HTTP server: `POST /recommend`, `/feedback`, `/reload`, `GET /items`, `/health`, `/model`, `/metrics`, `/docs`.

Bodies are read up to a limit and checked before anything else is done with them; whatever is wrong with one is answered
by 422 and a sentence that names the culprit. Nothing of a request is a path, and nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recgym.errors import DataError, RecgymError
from recgym.serving.batching import BusyError
from recgym.serving.pages import docs_page
from recgym.serving.requests import MOST_BYTES, Feedback, Recommend, parsed, shown
from recgym.serving.served import liked_rating
from recgym.serving.state import State

_BODY_S = 10.0  # seconds that a body may take to come
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_OWN_ONLY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class TooLargeError(RecgymError):
    """A body is larger, or slower, than allowed."""


def create_app(state: State, started: Callable[[], None] = lambda: None) -> FastAPI:
    """Returns the server of a state.

    Args:
        state: What is served, and how.
        started: Called once requests can be answered.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _reload_on_hangup(state)
        started()
        yield
        await state.close()

    app = FastAPI(
        title="recgym", version=version("recgym"), lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Recommendations of a trained agent.",
    )  # fmt: skip
    _add_errors(app)
    _add_asking(app, state)
    _add_telling(app, state)
    app.add_middleware(_Counted, state=state)
    return app


def _add_asking(app: FastAPI, state: State) -> None:
    """Adds the routes that take bodies."""

    @app.post("/recommend", openapi_extra=_takes(Recommend))
    async def recommend(request: Request) -> Response:
        """Returns items for one history, or for many: ids, titles, scores, propensities, and which ids were unknown."""
        return _json(await state.recommend(parsed(Recommend, await _body(request))))

    async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await (await recommend(Request(scope, receive)))(scope, receive, send)

    route = next(route for route in app.routes if getattr(route, "path", None) == "/recommend")
    route.app = at_once  # type: ignore[attr-defined]  # there is nothing to inject: a third of the time of a request

    @app.post("/feedback", openapi_extra=_takes(Feedback))
    async def feedback(request: Request) -> Response:
        """Writes down what became of shown items (`--log`); the answer comes when it is on the disk."""
        return _json({"written": await state.feedback(parsed(Feedback, await _body(request)).answers)})

    if state.settings.reload_token is None:
        return
    token = state.settings.reload_token.encode()

    @app.post("/reload")
    async def reload(request: Request) -> Response:
        """Loads the run anew and serves it; `Authorization: Bearer TOKEN`. The old one stays where that fails."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        if not hmac.compare_digest(given, token):
            return _json({"detail": "Authorization must be the server's token, got another; send Bearer TOKEN"}, 401)
        try:
            return _json({"model": await state.reload()})
        except RecgymError as error:
            return _json({"detail": f"the run must load, got: {error}; the old one stays"}, 409)


def _add_telling(app: FastAPI, state: State) -> None:
    """Adds the routes that only tell."""

    @app.get("/items")
    async def items(query: str = Query("", max_length=200), limit: int = Query(20, ge=1, le=100)) -> Response:
        """Returns items whose title (or id) holds every word of the query, more popular first."""
        served, _ = state.now
        found = served.search(query, limit)
        return _json({"items": [{"id": served.item_ids[item], "title": served.title(item)} for item in found]})

    @app.get("/health")
    async def health() -> Response:
        """Says whether requests are answered: 200, or 503 while the server ends."""
        served, _ = state.now
        return _json(
            {"status": "closing" if state.closing else "ok", "model": served.mark}, 503 if state.closing else 200
        )

    @app.get("/model")
    async def model() -> Response:
        """Returns what is served: agent, data, versions, hashes, the evaluation it was published with."""
        served, explorer = state.now
        features = getattr(served.catalog, "features", {})
        told = {
            "model": served.mark,
            "n_items": served.n_items,
            "rewards": served.reward,
            "liked": liked_rating(served.reward),
            "features": sorted(features),
            "logged": state.log is not None,
            "explore": state.settings.explore if explorer is not None else None,
            "epsilon": state.settings.epsilon if explorer is not None else None,
            "popularity": served.by_popularity is not None,
            "second": None if state.second is None else state.second.about.get("run"),
        }
        return _json(told | served.about)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Returns counts and durations as Prometheus reads them."""
        served, _ = state.now
        labels = {"model": served.mark, "agent": str(served.about.get("agent", "")), "recgym": version("recgym")}
        return Response(state.measures.text(labels, state.lists.n_waiting), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(docs_page(app.openapi()), media_type="text/html", headers=_OWN_ONLY)

    for path, (name, kind) in _PAGE.items():
        content = files("recgym.serving").joinpath(name).read_bytes()
        page = Response(content, media_type=kind, headers=_OWN_ONLY)
        app.add_api_route(path, lambda page=page: page, methods=["GET"], include_in_schema=False)


# -- bodies and answers ------------------------------------------------------------------------------------------------


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _flat(kind)}}}}


def _flat(kind: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of a body with what it refers to written out where it stands."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})

    def written_out(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return parts[value["$ref"].rpartition("/")[2]]
            return {name: written_out(one) for name, one in value.items()}
        return [written_out(one) for one in value] if isinstance(value, list) else value

    return dict(written_out(schema))


async def _body(request: Request) -> bytes:
    """Returns the body of a request.

    Raises:
        TooLargeError: if it is larger than a MiB, or takes longer than 10 s to come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise TooLargeError(f"a body must have at most {MOST_BYTES:,} bytes, got more; send less at once")
        return bytes(body)
    except TimeoutError:
        raise TooLargeError(f"a body must come within {_BODY_S:g} s, got part of one; send it again") from None


_to_json = json.JSONEncoder(allow_nan=False, default=str).encode


def _json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_to_json(values), status, media_type="application/json", headers=headers)


def _add_errors(app: FastAPI) -> None:
    """Adds what is answered where a request is at fault, or the server."""

    @app.exception_handler(DataError)
    async def of_data(request: Request, error: DataError) -> Response:
        return _json({"detail": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def of_query(request: Request, error: RequestValidationError) -> Response:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"][1:]))
        return _json({"detail": f"{where} must be as /docs says: {fault['msg']}, got {shown(fault['input'])}"}, 422)

    @app.exception_handler(TooLargeError)
    async def of_size(request: Request, error: TooLargeError) -> Response:
        return _json({"detail": str(error)}, 413, {"Connection": "close"})

    @app.exception_handler(BusyError)
    async def of_load(request: Request, error: BusyError) -> Response:
        return _json({"detail": str(error)}, 503, {"Retry-After": "1"})

    @app.exception_handler(RecgymError)
    async def of_server(request: Request, error: RecgymError) -> Response:  # a full disk, a run that scores nonsense
        print(f"error: {error}", file=sys.stderr, flush=True)
        return _json({"detail": str(error)}, 503)


class _Counted:
    """Counts requests and their seconds, and refuses those that another site's page sends."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), [500]

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        try:
            if scope["method"] == "POST" and _is_foreign(scope):
                answer = _json({"detail": "a page must be of this server to post, got one of another origin"}, 403)
                await answer(scope, receive, told)
            else:
                await self.app(scope, receive, told)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.state.measures.requests[route, status[0]] += 1
            self.state.measures.seconds.add(time.perf_counter() - begun)


def _is_foreign(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _reload_on_hangup(state: State) -> None:
    """Lets SIGHUP load the run anew."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return

    async def reload() -> None:
        try:
            print(f"reloaded: {await state.reload()}", file=sys.stderr, flush=True)
        except RecgymError as error:
            print(f"error: {error}; the old run stays", file=sys.stderr, flush=True)

    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def hung_up() -> None:
        task = loop.create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, hung_up)
