"""The server of the page: every request carries the token, and comes from a page of this server."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from advcam.attribution import METHODS
from advcam.errors import AdvcamError, ImageError, InputError, RunError, SettingsError, StoreError
from advcam.limits import MAX_PIXELS

from .copying import as_command, as_python
from .correcting import Correcting
from .corrections import ChangedError
from .live import Asked, Live
from .pictures import MAX_DROPPED_BYTES, Pictures

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src"
    " 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
MAX_JSON_BYTES = 2**20


@dataclass(frozen=True)
class Explorer:
    """What the page shows.

    Args:
        pictures: the images.
        live: the climbs.
        correcting: the run; None without one.
    """

    pictures: Pictures
    live: Live
    correcting: Correcting | None = None

    @property
    def run(self) -> Correcting:
        """The run.

        Raises:
            RunError: there is none.
        """
        if self.correcting is None:
            raise RunError("masks are corrected in a run: start `advcam explore --run RUN`")
        return self.correcting


def application(explorer: Explorer, token: str, names: frozenset[str] = frozenset()) -> Starlette:
    """Returns the server's application, whose addresses all begin with the token.

    Args:
        explorer: what the page shows.
        token: the secret in the address.
        names: names of this machine by which it may be called, besides addresses and localhost.
    """
    calls = Calls(explorer)
    api = [
        Route("/about", calls.about),
        Route("/image", calls.image),
        Route("/drop", calls.drop, methods=["POST"]),
        Route("/likely", calls.likely),
        Route("/named", calls.named),
        Route("/climb", calls.climb, methods=["POST"]),
        Route("/copy", calls.copy, methods=["POST"]),
        Route("/images", calls.images),
        Route("/item", calls.item),
        Route("/mask", calls.mask),
        Route("/map", calls.map),
        Route("/regions", calls.regions),
        Route("/draft", calls.draft, methods=["PUT", "DELETE"]),
        Route("/decide", calls.decide, methods=["POST"]),
        Route("/labels", calls.labels, methods=["PUT"]),
    ]
    pages = [Route("/", _file), Route("/{name}", _file)]
    return Starlette(
        routes=[Mount(f"/{token}", routes=[Mount("/api", routes=api), *pages])],
        middleware=[Middleware(Guard, token=token, names=names)],
        exception_handlers={AdvcamError: _said, HTTPException: _refused, OSError: _said, Exception: _unexpected},
        lifespan=_stopping(explorer),
    )


def _stopping(explorer: Explorer) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        if explorer.correcting:
            explorer.correcting.stopped.set()

    return lifespan


class Guard:
    """Refuses requests without the token, for another host (DNS rebinding), or from a page of another origin."""

    def __init__(self, app: ASGIApp, token: str, names: frozenset[str]) -> None:
        self.app, self.token, self.names = app, token.encode(), names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 403 or 404."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = self._refusal(scope) if scope["type"] == "http" else PlainTextResponse("http alone", 403)
        if answer:
            await answer(scope, receive, send)
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        await self.app(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_here(host, self.names):
            return PlainTextResponse("this host is not known here", 403)
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("requests of other pages are refused", 403)
        given = scope["path"].split("/", 2)[1] if scope["path"].count("/") > 1 else ""
        if not hmac.compare_digest(given.encode(), self.token):
            return PlainTextResponse("use the whole address that advcam explore has printed: it holds a token", 403)
        return None


def is_here(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header is an address, localhost, or one of these names; others may be anybody's who points them here."""
    name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdecimal() else host
    if name.lower() in {"localhost", *names}:
        return True
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        return True
    return False


class Calls:
    """What the page asks for. Work that takes long is done in threads."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    async def about(self, _request: Request) -> Response:
        """What there is: the run, the models, the presets, and the images of a folder."""
        made = self.explorer
        run = await run_in_threadpool(made.correcting.about) if made.correcting else None
        presets, names = made.live.presets(), [*made.pictures.files]
        models = [*made.live.models]
        return JSONResponse({"run": run, "models": models, "presets": presets, "methods": [*METHODS], "images": names})

    async def image(self, request: Request) -> Response:
        """An image, as a JPEG."""
        shown = await run_in_threadpool(self.explorer.pictures.shown, _given(request, "id"))
        return Response(shown, media_type="image/jpeg")

    async def drop(self, request: Request) -> Response:
        """Takes an image; answers with the name that it has from now on."""
        data = await _body(request, MAX_DROPPED_BYTES)
        name = await run_in_threadpool(self.explorer.pictures.drop, _given(request, "name"), data)
        return JSONResponse({"image": name})

    async def likely(self, request: Request) -> Response:
        """The classes that a model sees in an image."""
        found = await run_in_threadpool(self.explorer.live.likely, _given(request, "model"), _given(request, "id"))
        return JSONResponse(found)

    async def named(self, request: Request) -> Response:
        """The classes of a model by a part of their names."""
        found = await run_in_threadpool(self.explorer.live.named, _given(request, "model"), _given(request, "text"))
        return JSONResponse(found)

    async def climb(self, request: Request) -> Response:
        """A line of JSON for every step of a climb."""
        asked = Asked.of(await _json(request))
        _ = asked.settings
        return StreamingResponse(_lines(self.explorer.live.steps(asked)), media_type="application/x-ndjson")

    async def copy(self, request: Request) -> Response:
        """A climb as Python and as a command, or why it is none."""
        asked = Asked.of(await _json(request))
        live = self.explorer.live
        python = await run_in_threadpool(as_python, live, asked)
        try:
            said = {"command": await run_in_threadpool(as_command, live, asked), "why": ""}
        except SettingsError as error:
            said = {"command": "", "why": str(error)}
        return JSONResponse({"python": python} | said)

    async def images(self, _request: Request) -> Response:
        """The images of the run, with what is known of them."""
        return JSONResponse(await run_in_threadpool(self.explorer.run.images))

    async def item(self, request: Request) -> Response:
        """What is shown of an image, a line of JSON, and its mask, a byte a pixel."""
        about, mask = await run_in_threadpool(self.explorer.run.opened, _given(request, "id"))
        return Response(json.dumps(about).encode() + b"\n" + mask.tobytes(), media_type="application/octet-stream")

    async def mask(self, request: Request) -> Response:
        """Another mask to begin with, a byte a pixel."""
        return _bytes(await run_in_threadpool(self.explorer.run.mask, _given(request, "id"), _given(request, "of")))

    async def map(self, request: Request) -> Response:
        """The map of a class, a byte a pixel."""
        number, kind = _whole(request, "class"), _given(request, "kind")
        return _bytes(await run_in_threadpool(self.explorer.run.map, _given(request, "id"), number, kind))

    async def regions(self, request: Request) -> Response:
        """The region of each pixel, two bytes a pixel, the lower first."""
        found = await run_in_threadpool(self.explorer.run.regions, _given(request, "id"), _whole(request, "count"))
        return _bytes(found.astype("<u2"))

    async def draft(self, request: Request) -> Response:
        """Keeps or discards what was painted so far."""
        name, was, run = _given(request, "id"), _given(request, "version"), self.explorer.run
        if request.method == "DELETE":
            run.item(name)
            return JSONResponse({"version": await run_in_threadpool(run.corrections.discard, name, was)})
        data = await _body(request, MAX_PIXELS)
        return JSONResponse({"version": await run_in_threadpool(run.keep, name, data, was)})

    async def decide(self, request: Request) -> Response:
        """Saves what a person says of a mask."""
        name, was, action = (_given(request, key) for key in ("id", "version", "action"))
        order, seconds = request.query_params.get("order", "")[:40], request.query_params.get("seconds", "0")
        looked = float(seconds) if seconds.replace(".", "", 1).isdecimal() else 0.0
        data = await _body(request, MAX_PIXELS)
        version, what = await run_in_threadpool(self.explorer.run.decide, name, action, data, was, order, looked)
        return JSONResponse({"version": version, "action": what})

    async def labels(self, request: Request) -> Response:
        """Corrects the labels of an image."""
        sent = await _json(request)
        try:
            parts = msgspec.convert(sent, dict[str, dict[str, str]])
            now, was = parts["labels"], parts["was"]
        except (msgspec.ValidationError, KeyError):
            raise InputError("labels: expected labels and was, each with a state for every class") from None
        await run_in_threadpool(self.explorer.run.relabel, _given(request, "id"), now, was)
        return JSONResponse({})


def _lines(steps: Iterator[dict[str, Any]]) -> Iterator[str]:
    try:
        for step in steps:
            yield json.dumps(step) + "\n"
        yield json.dumps({"done": True}) + "\n"
    except AdvcamError as error:
        yield json.dumps({"error": str(error)}) + "\n"
    except Exception as error:
        yield json.dumps({"error": f"unexpected {type(error).__name__}: {error}"}) + "\n"


async def _file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    path = PAGE / name
    if "/" in name or path.suffix not in KINDS or not path.is_file():
        raise HTTPException(404, "there is no such page")
    return Response(path.read_bytes(), media_type=KINDS[path.suffix])


def _bytes(values: np.ndarray[Any, Any]) -> Response:
    return Response(values.tobytes(), media_type="application/octet-stream")


def _given(request: Request, key: str) -> str:
    value = request.query_params.get(key)
    if value is None:
        raise InputError(f"the request lacks {key}")
    return value


def _whole(request: Request, key: str) -> int:
    text = _given(request, key)
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{key}: expected a whole number, got {text!r:.40}")
    return int(text)


async def _body(request: Request, most: int) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise InputError(f"more than {most} bytes were sent")
    return bytes(data)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await _body(request, MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        raise InputError("expected JSON") from None


def _said(_request: Request, error: Exception) -> Response:
    """An error in its own words, with a status that the page knows."""
    kinds = {ChangedError: 409, ImageError: 410, StoreError: 507, InputError: 400, SettingsError: 400}
    status = next((status for kind, status in kinds.items() if isinstance(error, kind)), 422)
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, OSError) else status)


def _unexpected(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"unexpected {type(error).__name__}: {error}"}, 500)


def _refused(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": getattr(error, "detail", "")}, status)


def machine_names(host: str) -> frozenset[str]:
    """Names by which this machine may be called where others are let in: that asked for, and its own."""
    return frozenset(name.lower() for name in (host, socket.gethostname(), socket.getfqdn()) if name)
