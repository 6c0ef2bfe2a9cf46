"""The HTTP application: routes, and how a request becomes an answer.

    access control → body → images → scores → answer, metrics, inference log

Four protocols share this way: ``/predict`` for people and programs, ``/invocations`` as ``mlflow models
serve`` has it, the Open Inference Protocol below ``/v2``, and probes with metrics.
"""

import gc
import io
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from lenet5 import __version__
from lenet5.serving import open_inference, picture, request_images
from lenet5.serving.access import AccessControl
from lenet5.serving.errors import RequestError, brief
from lenet5.serving.model_watch import ServedModel
from lenet5.serving.page import routes as page_routes
from lenet5.serving.predictor import Probabilities
from lenet5.serving.request_images import Images
from lenet5.serving.service import Answer, Service, ServiceOptions, json_response
from lenet5.serving.service_metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

_PREDICT = "/predict"
_JSON = "application/json"
_NPY = ("application/x-npy", "application/npy")
_PICTURES = ("image/png", "image/jpeg", "application/octet-stream")
_FORM = "multipart/form-data"
_SMALL_BODY, _SMALL_PICTURE = 32_768, 65_536
"""Bytes and pixels up to which a body is decoded at once. A larger one is decoded in a thread, so that other
requests are answered meanwhile."""
_MAX_ROWS = 2**31
_MAX_FILES = 1000
"""Limit of the pictures in one form."""
_MLFLOW_CODES = {500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}
"""Error codes of MLflow by HTTP status; every other status is a bad request."""
PUBLIC = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key."""


def create(options: ServiceOptions) -> ASGIApp:
    """Return the application of one worker process. Its state begins with the lifespan of the server."""
    picture.reject_what_pillow_warns_about()
    service = Service(options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.log.start()  # its process starts while the version is loaded
        await run_in_threadpool(service.watch.start)
        await run_in_threadpool(service.log.wait_until_it_writes)
        gc.freeze()  # a collection that visits all modules would hold up requests for a tenth of a second
        yield
        await run_in_threadpool(service.log.stop)
        await run_in_threadpool(service.watch.stop)

    app = FastAPI(
        title=f"lenet5: {options.model_name}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    _add_predict(app, service)
    _add_invocations(app, service)
    open_inference.add_routes(app, service)
    page_routes.add_routes(app, service, _read_images, _predictions, _PREDICT_BODY)
    _add_feedback(app, service)
    _add_probes(app, service)
    app.add_exception_handler(RequestError, _on_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_no_route)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_defect)
    guarded = AccessControl(
        _Direct(app), options.limits, _refusal, lambda path: path in PUBLIC or page_routes.is_public(path)
    )
    return _Measured(guarded, service)


class _Direct:
    """ASGI middleware: passes ``POST /predict`` to its endpoint, and every other request to FastAPI.

    The endpoint takes the request and returns the response. The layers of FastAPI look for dependencies,
    parameters and handlers, which it does not have, and take longer than the network needs to score an image.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        [self._route] = [each for each in app.routes if isinstance(each, APIRoute) and each.path == _PREDICT]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _PREDICT or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await self._route.endpoint(request)
        except RequestError:  # access control answers it
            raise
        except ClientDisconnect as error:
            response = await _on_disconnect(request, error)
        except Exception as error:
            response = await _on_defect(request, error)
            await response(scope, receive, send)
            raise  # for the server, which logs the stack trace
        await response(scope, receive, send)


def _add_predict(app: FastAPI, service: Service) -> None:
    async def predict(request: Request) -> Response:
        served = service.model()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        images = await _read_images(request, kind, served)
        answer = await service.answer(served, images, _PREDICT)
        accept = request.headers.get("accept", "")
        if any(kind in accept for kind in _NPY):
            return Response(_npy(answer.probabilities), media_type=_NPY[0], headers=answer.headers)
        return json_response(_predictions(answer), headers=answer.headers)

    app.add_api_route(
        _PREDICT,
        predict,
        methods=["POST"],
        summary="Classify one picture or many",
        openapi_extra=_PREDICT_BODY,
    )


async def _read_images(request: Request, kind: str, served: ServedModel) -> Images:
    """Return the images of a body.

    Raises:
        RequestError: its kind is unknown, or it holds no images of the model.
    """
    if kind == _FORM:
        return await _read_form(request, served)
    if kind not in (_JSON, *_NPY, *_PICTURES):
        raise RequestError(
            415,
            "unknown_type",
            "The type of the body is unknown.",
            expected=", ".join((*_PICTURES, _NPY[0], _JSON, _FORM)),
            found=kind or "no Content-Type header",
        )
    body = await _body(request.receive)
    if kind == _JSON:
        images, _ = await _decode(len(body) <= _SMALL_BODY, request_images.of_json, body, served.model)
        return images
    if kind in _NPY:
        return request_images.of_npy(body, served.model)
    if len(body) > _SMALL_BODY:
        return await run_in_threadpool(request_images.of_picture, io.BytesIO(body), served.model)
    opened = request_images.open_picture(io.BytesIO(body))
    is_small = opened.width * opened.height <= _SMALL_PICTURE
    return await _decode(is_small, request_images.of_opened, opened, served.model)


async def _body(receive: Receive) -> bytes:
    """Return the body of a request, which most often comes in one message."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _read_form(request: Request, served: ServedModel) -> Images:
    """Return the pictures of a form, in the order of its parts."""
    try:
        form = await request.form(max_files=_MAX_FILES, max_fields=_MAX_FILES)
    except RequestError:
        raise
    except Exception as error:  # the parser raises several kinds
        detail = getattr(error, "detail", None) or str(error)
        raise RequestError(400, "invalid_form", "The form is damaged.", found=detail) from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files:
            raise RequestError(422, "no_images", "The form has no file.", expected="PNG or JPEG files")

        def decode() -> Images:
            names = (f"Picture {number}" for number in range(1, len(files) + 1))
            pictures = [
                request_images.of_picture(file.file, served.model, name)
                for file, name in zip(files, names, strict=True)
            ]
            return np.concatenate(pictures)

        return await run_in_threadpool(decode)
    finally:
        await form.close()


async def _decode(is_small: bool, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that decodes a body: at once for a small one, and in a thread for a large one."""
    return call(*arguments) if is_small else await run_in_threadpool(call, *arguments)


def _predictions(answer: Answer) -> dict[str, Any]:
    classes = answer.served.model.description.classes
    return {
        "request_id": answer.request_id,
        "model": answer.served.name,
        "version": answer.served.number,
        "classes": classes,
        "predictions": [
            {"class": classes[position], "probability": row[position], "probabilities": row}
            for position, row in zip(answer.best, answer.probabilities, strict=True)
        ],
    }


def _add_invocations(app: FastAPI, service: Service) -> None:
    @app.post(
        "/invocations",
        summary="Score images, as `mlflow models serve` does",
        openapi_extra=request_images.json_body(
            {"inputs": {"type": "array", "items": {}}}, required=["inputs"]
        ),
    )
    async def invocations(request: Request) -> Response:
        served = service.model()
        body = request_images.json_object(await request.body())
        key = next((key for key in ("inputs", "instances") if key in body), None)
        if key is None:
            raise RequestError(
                400,
                "no_inputs",
                "The object has no images.",
                expected='{"inputs": […]} or {"instances": […]}',
                found=request_images.first_keys(body),
            )
        images = await run_in_threadpool(request_images.of_numbers, body[key], served.model)
        answer = await service.answer(served, images, "/invocations")
        return json_response({"predictions": answer.probabilities}, headers=answer.headers)

    @app.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        service.model()
        return Response("\n", media_type="text/plain")

    @app.get("/version", include_in_schema=False)
    async def version() -> Response:
        return Response(__version__, media_type="text/plain")


def _add_feedback(app: FastAPI, service: Service) -> None:
    @app.post("/feedback", summary="Say what an image really shows", openapi_extra=_FEEDBACK_BODY)
    async def feedback(request: Request) -> Response:
        served = service.model()
        body = request_images.json_object(await request.body())
        identifier, row, label = body.get("request_id"), body.get("row", 0), body.get("label")
        if not isinstance(identifier, str) or not service.ids.is_ours(identifier):
            raise RequestError(
                404,
                "unknown_request",
                "This service gave no such request_id.",
                expected="the request_id of an answer",
                found=brief(identifier),
            )
        if type(row) is not int or not 0 <= row < _MAX_ROWS:
            raise RequestError(
                422,
                "invalid_row",
                "The row is no position of an image.",
                expected="0 or more",
                found=brief(row),
            )
        classes = served.model.description.classes
        if label not in classes:
            raise RequestError(
                422,
                "unknown_label",
                "The label is no class of the served version.",
                expected=", ".join(classes[:20]),
                found=brief(label),
            )
        try:
            await run_in_threadpool(service.feedback.append, identifier, row, str(label))
        except OSError as error:
            raise RequestError(
                503,
                "not_stored",
                "The label cannot be written.",
                found=error.strerror,
                fix="send it again later",
                headers={"Retry-After": "60"},
            ) from None
        return json_response({"request_id": identifier, "row": row, "label": label}, status=202)


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", summary="The process runs")
    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> Response:
        return json_response({"live": True})

    @app.get("/health/ready", summary="A version is loaded")
    @app.get("/v2/health/ready", include_in_schema=False)
    async def ready() -> Response:
        served, state = service.watch.served, service.watch.state
        answer = {
            "ready": served is not None,
            "model": service.watch.name,
            "version": served.number if served else None,
            "registry_answers": state.registry_answers,
            "problem": state.problem or None,
        }
        return json_response(answer, status=200 if served else 503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        # an offline service asks no registry: NaN fulfils no condition of an alert
        answers = float("nan") if service.is_offline else service.watch.state.registry_answers
        service.metrics.registry_answers.set(answers)
        # while the thread of the log waits for the disk, it updates nothing
        service.count_rows(service.log.counts)
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


class _Measured:
    """ASGI middleware that counts requests, refused ones too, and their time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._metrics = service.metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status, version = 500, ""

        async def observed(message: Any) -> None:
            nonlocal status, version
            if message["type"] == "http.response.start":
                status = message["status"]
                version = dict(message["headers"]).get(b"x-model-version", b"").decode()
            await send(message)

        reads = scope["method"] == "POST"  # a probe or a scrape is no load, and the gauge would count itself
        if reads:
            self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observed)
        finally:
            if reads:
                self._metrics.in_flight.dec()
            route = scope["route"].path if "route" in scope else "other"
            self._metrics.finished(route, status, version, time.perf_counter() - begin)


async def _on_error(request: Request, error: RequestError) -> Response:
    return _refusal(error, request.url.path)


async def _on_no_route(request: Request, error: HTTPException) -> Response:
    """Answer a path or a method that the service has not, in the words of every other refusal."""
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        refusal = RequestError(
            405,
            "wrong_method",
            "The route has no such method.",
            expected=allowed,
            found=request.method,
            headers={"Allow": allowed},
        )
    elif error.status_code == 404:
        fix = "GET /docs lists the routes"
        refusal = RequestError(404, "no_route", "The service has no such route.", found=path, fix=fix)
    else:
        refusal = RequestError(error.status_code, "refused", error.detail)
    return _refusal(refusal, path)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    """End a request whose client left before the end of the body; nobody reads the answer."""
    error = RequestError(400, "incomplete_body", "The connection ended before the body was complete.")
    return _refusal(error, request.url.path)


async def _on_defect(request: Request, _: Exception) -> Response:
    """Answer a request that found a defect of the service; the server logs the stack trace."""
    error = RequestError(500, "defect", "The service has a defect.", fix="look at the log of the service")
    return _refusal(error, request.url.path)


def _refusal(error: RequestError, path: str) -> Response:
    """Return a refusal in the words of the protocol that the client speaks."""
    content: dict[str, Any]
    if path == "/invocations":
        content = {
            "error_code": _MLFLOW_CODES.get(error.status, "BAD_REQUEST"),
            "message": error.in_one_line(),
        }
    elif path.startswith("/v2"):
        content = {"error": error.in_one_line()}
    else:
        content = {"error": error.as_json()}
    return json_response(content, status=error.status, headers=error.headers)


def _npy(array: Probabilities) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


_PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            _NPY[0]: {"schema": {"type": "string", "format": "binary"}},
            _JSON: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array"}},
                }
            },
            _FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
        },
    }
}
_FEEDBACK_BODY = request_images.json_body(
    {
        "request_id": {"type": "string"},
        "row": {"type": "integer", "minimum": 0, "default": 0},
        "label": {"type": "string"},
    },
    required=["request_id", "label"],
)
