"""A machine learning backend of Label Studio: it answers for each task with the masks of a run.

``python -m advcam.live.label_studio runs/first --images photos``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from advcam.data import Place, list_images, place
from advcam.data.names import key_of
from advcam.data.tools import addresses
from advcam.errors import AdvcamError, DataError, SettingsError
from advcam.formats import Losses, Names, Wishes
from advcam.formats.label_studio import configured, prediction

from .annotator import WAYS, Annotator

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

CONFIGURATION = Path("labelling configuration")
"""What messages call it."""
MAX_BODY = 2**26
"""Most bytes of a request: thousands of tasks."""


class Setup(TypedDict):
    """What Label Studio sends when a project is connected."""

    schema: NotRequired[str | None]


class Task(TypedDict):
    """An image to annotate."""

    data: dict[str, Any]


class Asked(TypedDict):
    """What Label Studio sends when it asks for predictions."""

    tasks: list[Task]
    label_config: str


class Backend:
    """Answers Label Studio's requests.

    Args:
        annotator: makes the masks.
        images: the folder, archive or address of the tasks' images, which are found by the ends of their addresses.
        from_name: the brush that is meant where a configuration has several.

    Raises:
        DataError: no such folder, or no image in it.
    """

    def __init__(self, annotator: Annotator, images: Place, from_name: str | None = None) -> None:
        self.annotator, self.images, self.files = annotator, images, list_images(images)
        self._wishes = Wishes(Names(annotator.context.data.classes), model_version=annotator.version)
        if from_name:
            self._wishes = replace(self._wishes, from_name=from_name)

    def setup(self, body: bytes) -> dict[str, Any]:
        """Checks a project's labelling configuration.

        Raises:
            DataError: it has no brush, or the request is none of Label Studio's.
            SettingsError: a class is no label of it.
        """
        asked = _decoded(body, Setup)
        if config := asked.get("schema"):
            self._configured(config)
        return {"model_version": self.annotator.version}

    def predict(self, body: bytes) -> dict[str, Any]:
        """The predictions of tasks, in their order.

        Raises:
            DataError: an image that is not in the folder, or as :meth:`setup`.
            ImageError: an image that cannot be read.
            SettingsError: as :meth:`setup`.
        """
        asked = _decoded(body, Asked)
        wishes = self._configured(asked["label_config"])
        results = []
        for path in [self._image(task, wishes.variable) for task in asked["tasks"]]:
            masked = self.annotator(self.annotator.read(path), str(path))
            results.append(prediction(masked, wishes, Losses()))
        return {"results": results, "model_version": self.annotator.version}

    def _configured(self, config: str) -> Wishes:
        return configured(CONFIGURATION, self._wishes, self.annotator.classes.values(), config.encode())

    def _image(self, task: Task, variable: str) -> Place:
        address = task["data"].get(variable)
        if not isinstance(address, str):
            raise DataError(
                f"a task without an image: expected {variable!r} in its data, got {', '.join(task['data']) or 'none'}"
            )
        for name in addresses(address):
            if key := key_of(name, self.files):
                return self.files[key]
        raise DataError(f"{address!r:.200}: there is no such image in {self.images}; --images names the folder of the images")


def application(backend: Backend) -> Starlette:
    """The web application: ``/``, ``/health``, ``/versions``, ``/setup``, ``/predict``, ``/webhook`` and ``/train``.

    Raises:
        SettingsError: the package starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError:
        raise _lacking() from None
    version = backend.annotator.version

    def said(value: dict[str, Any]) -> Callable[[Request], Any]:
        async def say(_request: Request) -> Response:
            return JSONResponse(value)

        return say

    def answered(answer: Callable[[bytes], dict[str, Any]]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return JSONResponse({"error": f"more than {MAX_BODY:,} bytes; ask for fewer tasks at once"}, 413)
            try:
                return JSONResponse(await run_in_threadpool(answer, bytes(body)))
            except AdvcamError as error:
                print(f"advcam: {error}", file=sys.stderr, flush=True)
                return JSONResponse({"error": str(error)}, 400)

        return respond

    health = said({"status": "UP", "model_class": "advcam"})
    learns_nothing = said({"status": "it does not learn from annotations; `advcam convert masks --from` reads them"})
    return Starlette(
        routes=[
            Route("/", health),
            Route("/health", health),
            Route("/versions", said({"versions": [version], "message": version})),
            Route("/setup", answered(backend.setup), methods=["POST"]),
            Route("/predict", answered(backend.predict), methods=["POST"]),
            Route("/webhook", learns_nothing, methods=["POST"]),
            Route("/train", learns_nothing, methods=["POST"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves a run until it is stopped; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m advcam.live.label_studio",
        description="A machine learning backend of Label Studio: a run's masks.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--images", type=place, required=True, help="the folder, archive or address of the tasks' images")
    parser.add_argument("--of", choices=tuple(WAYS), help="what makes the masks; none: the first of these that the run has")
    parser.add_argument("--from-name", help="the brush, where a labelling configuration has several")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0: every one of this machine")
    parser.add_argument("--port", type=int, default=9090)
    try:
        given = parser.parse_args(arguments)
        try:
            import uvicorn
        except ImportError:
            raise _lacking() from None
        app = application(Backend(Annotator(given.run, given.of, given.device), given.images, given.from_name))
    except AdvcamError as error:
        print(f"advcam: {error}", file=sys.stderr)
        return 2
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")
    return 0


def _lacking() -> SettingsError:
    return SettingsError("Label Studio's backend needs starlette and uvicorn: pip install 'advcam[label-studio]'")


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not a request of Label Studio's ({error})") from None


if __name__ == "__main__":
    sys.exit(main())
