"""The routes of the page: its files, which are public, and what they ask."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from lenet5.core.paths import Paths
from lenet5.serving.errors import RequestError
from lenet5.serving.model_watch import ServedModel
from lenet5.serving.page import report
from lenet5.serving.page.explanation import Explainer
from lenet5.serving.request_images import Images
from lenet5.serving.service import Answer, Service, json_response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: nothing of another host, and nothing inline."""
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of a report page: one file without a script, with its styles and pictures in it."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # `no-referrer` may hide the origin of the page's requests
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask whether it changed
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PATHS = {
    "index.html": "/",
    "docs.html": "/docs",
    **{
        name: f"/page/{name.removesuffix('.gz')}"
        for name in (
            *("page.css", "docs.css", "icon.svg"),
            *("page.js", "board.js", "paint.js", "service.js", "key.js", "docs.js"),
            *("swagger-ui/swagger-ui-bundle.js.gz", "swagger-ui/swagger-ui.css.gz"),
        )
    },
}
"""Paths of the page's files in the service."""

ReadImages = Callable[[Request, str, ServedModel], Awaitable[Images]]


@dataclass(frozen=True)
class _File:
    """A file of the page, in memory."""

    content: bytes
    kind: str
    headers: dict[str, str]


def is_public(path: str) -> bool:
    """Return whether a path belongs to the files of the page, which hold nothing of a model."""
    return path in _FILES


def add_routes(
    app: FastAPI,
    service: Service,
    read_images: ReadImages,
    predictions: Callable[[Answer], dict[str, Any]],
    body: dict[str, Any],
) -> None:
    """Add the page and its routes.

    Args:
        app: the application.
        service: its state.
        read_images: returns the images of a request of this type, as ``POST /predict`` does.
        predictions: returns the content of an answer, as ``POST /predict`` gives it.
        body: describes the body of ``POST /predict`` in OpenAPI.
    """
    paths = Paths(service.root)
    explainer = Explainer()
    one_at_a_time = CapacityLimiter(1)  # others wait without a thread, which pictures and labels need

    for path in _FILES:
        app.add_api_route(path, _send, methods=["GET", "HEAD"], include_in_schema=False)

    async def one_image(request: Request, served: ServedModel) -> Images:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        images = await read_images(request, kind, served)
        if len(images) != 1:
            raise RequestError(
                422,
                "one_image",
                "The request has more than one image.",
                expected="one image",
                found=f"{len(images)} images",
                fix="send one image, or use POST /predict",
            )
        return images

    async def find_report(served: ServedModel) -> bytes | None:
        answers = service.watch.state.registry_answers
        return await run_in_threadpool(report.find, paths, served, ask_registry=answers)

    @app.get("/model", summary="The served version: its classes and the images that it takes")
    async def model() -> Response:
        served = service.model()
        page = await find_report(served)
        return json_response(
            {
                "model": served.name,
                "version": served.number,
                "digest": served.digest,
                "classes": served.model.description.classes,
                "pictures": served.model.description.pictures,
                "shape": served.model.shape,
                "report": page is not None,
                "pixels_logged": service.log_pixels,
            }
        )

    @app.post("/preview", summary="Score an unfinished picture; the answer is not logged", openapi_extra=body)
    async def preview(request: Request) -> Response:
        served = service.model()
        images = await one_image(request, served)
        layers = await to_thread.run_sync(explainer.layers, served, images[0], limiter=one_at_a_time)
        row = served.model.probabilities(images)[0]
        best = int(row.argmax())
        classes = served.model.description.classes
        return json_response(
            {
                "model": served.name,
                "version": served.number,
                "predictions": [
                    {"class": classes[best], "probability": row[best], "probabilities": row},
                ],
                "image": images[0],
                "layers": layers,
            },
            headers={"X-Model-Version": str(served.number)},
        )

    @app.post(
        "/explain",
        summary="Classify one picture, with the image, the feature maps and an occlusion map",
        openapi_extra=body,
    )
    async def explain(request: Request) -> Response:
        served = service.model()
        images = await one_image(request, served)
        image = images[0]
        layers = await to_thread.run_sync(explainer.layers, served, image, limiter=one_at_a_time)
        occlusion = await to_thread.run_sync(explainer.occlusion, served, image, limiter=one_at_a_time)
        answer = await service.answer(served, images, "/explain")
        content = predictions(answer) | {"image": image, "layers": layers, "occlusion": occlusion}
        return json_response(content, headers=answer.headers)

    @app.get("/report", summary="The report page of the served version")
    async def report_page() -> Response:
        served = service.model()
        page = await find_report(served)
        if page is None:
            raise RequestError(
                404,
                "no_report",
                f"The service has no report page of version {served.number}.",
                fix=f"`lenet5 report {served.number}` writes it",
            )
        headers = _HEADERS | {"Content-Security-Policy": REPORT_POLICY}
        return Response(page, media_type="text/html", headers=headers)


async def _send(request: Request) -> Response:
    """Return a file of the page; 304 when the browser has it."""
    file = _FILES[request.url.path]
    if request.headers.get("if-none-match") == file.headers["ETag"]:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, media_type=file.kind, headers=file.headers)


def _load() -> dict[str, _File]:
    """Return the files of the page by their path in the service."""
    folder = resources.files("lenet5.serving.page") / "static"
    files = {}
    for name, path in _PATHS.items():
        content = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = _HEADERS | {"Content-Security-Policy": POLICY, "ETag": etag}
        plain = name.removesuffix(".gz")
        if plain != name:  # every browser unpacks it
            headers["Content-Encoding"] = "gzip"
        files[path] = _File(content, _TYPES[plain.rpartition(".")[2]], headers)
    return files


_FILES = _load()
