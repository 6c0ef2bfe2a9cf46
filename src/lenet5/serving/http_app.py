"""The HTTP application: routes, and how a request becomes an answer.

    access control → body → images → scores → answer, metrics, inference log

Four protocols share this way: ``/predict`` for people and programs, ``/invocations`` as ``mlflow models
serve`` has it, the Open Inference Protocol below ``/v2``, and probes with metrics.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp

from lenet5 import __version__
from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.serving import picture, request_images
from lenet5.serving.access import AccessControl, Limits
from lenet5.serving.errors import RequestError
from lenet5.serving.inference_log import InferenceLog, Record
from lenet5.serving.model_watch import ModelWatch, ServedModel
from lenet5.serving.predictor import Probabilities
from lenet5.serving.request_id import RequestIds
from lenet5.serving.request_images import Images
from lenet5.serving.service_metrics import CONTENT_TYPE, ServiceMetrics
from lenet5.system.state import LocalState

log = logging.getLogger(__name__)

_JSON = "application/json"
_NPY = ("application/x-npy", "application/npy")
_PICTURES = ("image/png", "image/jpeg", "application/octet-stream")
_FORM = "multipart/form-data"
_SMALL_PICTURE = 32_768
"""Bytes. A larger picture is decoded in a thread, so that other requests are answered meanwhile."""
_MAX_FILES = 1000
"""Pictures in one form."""
_PUBLIC = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")


@dataclass(frozen=True)
class ServiceOptions:
    """What a worker process needs to know."""

    root: Path
    """The checkout, for settings, downloaded models and the log."""
    model_name: str
    reference: str
    """An alias, or a number, which pins a version."""
    limits: Limits
    poll_seconds: float
    metrics_folder: Path | None
    log_pixels: bool
    log_days: float
    log_megabytes: float


@dataclass(frozen=True)
class Answer:
    """What one request got."""

    request_id: str
    served: ServedModel
    probabilities: Probabilities

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that name the request, and the version that answered it."""
        return {"X-Request-Id": self.request_id, "X-Model-Version": str(self.served.number)}


class Service:
    """The state of one worker process: the served version, the log and the metrics."""

    def __init__(self, options: ServiceOptions) -> None:
        paths = Paths(options.root)
        folder = LocalState(options.root).serving
        self.metrics = ServiceMetrics(options.metrics_folder)
        self.watch = ModelWatch(
            paths,
            options.model_name,
            options.reference,
            poll_seconds=options.poll_seconds,
            on_change=self._changed,
        )
        self.log = InferenceLog(
            folder / "log",
            pixels=options.log_pixels,
            max_days=options.log_days,
            max_megabytes=options.log_megabytes,
        )
        self.ids = RequestIds.of_folder(folder)

    def _changed(self, served: ServedModel) -> None:
        self.metrics.version.set(served.number)

    def model(self) -> ServedModel:
        """Return the version that answers.

        Raises:
            RequestError: there is none.
        """
        served = self.watch.served
        if served is None:
            raise RequestError(
                503,
                "no_model",
                "No version is loaded.",
                expected=f"a version {self.watch.reference}",
                found=self.watch.state.problem.splitlines()[0]
                if self.watch.state.problem
                else "no answer of the registry",
                fix="`lenet5 promote`, or look at the log of the service",
                headers={"Retry-After": "5"},
            )
        return served

    async def answer(self, served: ServedModel, images: Images, route: str) -> Answer:
        """Score images, count and log them.

        Args:
            served: the version that the images were checked for.
            images: uint8 (N, ...).
            route: for metrics and log.
        """
        # a batch needs longer than other requests may wait
        if len(images) > onnx_session.BATCH:
            probabilities = await run_in_threadpool(served.model.probabilities, images)
        else:
            probabilities = served.model.probabilities(images)
        answer = Answer(self.ids.new(), served, probabilities)
        self.log.append(
            Record(
                answer.request_id,
                time.time_ns() // 1000,
                route,
                served.name,
                served.number,
                served.digest,
                served.model.description.classes,
                images,
                probabilities,
            )
        )
        version, classes = str(served.number), served.model.description.classes
        best = probabilities.argmax(axis=1)
        for position, count in zip(*np.unique(best, return_counts=True), strict=True):
            self.metrics.images.labels(version, classes[position]).inc(int(count))
        self.metrics.confidence.labels(version).inc(float(probabilities.max(axis=1).sum()))
        return answer


def create(options: ServiceOptions) -> ASGIApp:
    """Return the application of one worker process. Its state begins with the lifespan of the server."""
    picture.reject_what_pillow_warns_about()
    service = Service(options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.watch.start)
        service.log.start()
        yield
        await run_in_threadpool(service.log.stop)
        await run_in_threadpool(service.watch.stop)

    app = FastAPI(
        title=f"lenet5: {options.model_name}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_predict(app, service)
    _add_invocations(app, service)
    _add_probes(app, service)
    app.add_exception_handler(RequestError, _on_error)  # type: ignore[arg-type]
    measured = _Measured(app, service)
    return AccessControl(measured, options.limits, _refusal, lambda path: path in _PUBLIC)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post("/predict", summary="Classify one picture or many", openapi_extra=_PREDICT_BODY)
    async def predict(request: Request) -> Response:
        served = service.model()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        images = await _read_images(request, kind, served)
        answer = await service.answer(served, images, "/predict")
        if any(kind in request.headers.get("accept", "") for kind in _NPY):
            return Response(_npy(answer.probabilities), media_type=_NPY[0], headers=answer.headers)
        return _json(_predictions(answer), headers=answer.headers)


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
    body = await request.body()
    if kind == _JSON:
        images, _ = await _aside(len(body), request_images.of_json, body, served.model)
        return images
    if kind in _NPY:
        return request_images.of_npy(body, served.model)
    return await _aside(len(body), request_images.of_picture, body, served.model)


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


async def _aside(size: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function: at once for a small body, and in a thread for a large one."""
    return call(*arguments) if size <= _SMALL_PICTURE else await run_in_threadpool(call, *arguments)


def _predictions(answer: Answer) -> dict[str, Any]:
    classes = answer.served.model.description.classes
    best = answer.probabilities.argmax(axis=1)
    return {
        "request_id": answer.request_id,
        "model": answer.served.name,
        "version": answer.served.number,
        "classes": classes,
        "predictions": [
            {"class": classes[position], "probability": row[position], "probabilities": row}
            for position, row in zip(best, answer.probabilities, strict=True)
        ],
    }


def _add_invocations(app: FastAPI, service: Service) -> None:
    @app.post("/invocations", summary="Score images, as `mlflow models serve` does")
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
                found=", ".join(list(body)[:5]) or "no key",
            )
        images = await run_in_threadpool(request_images.of_numbers, body[key], served.model)
        answer = await service.answer(served, images, "/invocations")
        return _json({"predictions": answer.probabilities}, headers=answer.headers)

    @app.get("/ping", include_in_schema=False)
    async def ping() -> Response:
        service.model()
        return Response("\n", media_type="text/plain")

    @app.get("/version", include_in_schema=False)
    async def version() -> Response:
        return Response(__version__, media_type="text/plain")


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", summary="The process runs")
    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> Response:
        return _json({"live": True})

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
        return _json(answer, status=200 if served else 503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        service.metrics.registry_answers.set(service.watch.state.registry_answers)
        service.metrics.log_rows.labels("written").set(service.log.counts.written)
        service.metrics.log_rows.labels("dropped").set(service.log.counts.dropped)
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


class _Measured:
    """ASGI middleware that counts requests and their time."""

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

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, observed)
        finally:
            self._metrics.in_flight.dec()
            route = scope["route"].path if "route" in scope else "other"
            self._metrics.requests.labels(route, str(status), version).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)


async def _on_error(request: Request, error: RequestError) -> Response:
    return _refusal(error, request.url.path)


def _refusal(error: RequestError, path: str) -> Response:
    """Return a refusal in the words of the protocol that the client speaks."""
    content: dict[str, Any]
    if path == "/invocations":
        content = {
            "error_code": "BAD_REQUEST" if error.status < 500 else "TEMPORARILY_UNAVAILABLE",
            "message": error.in_one_line(),
        }
    elif path.startswith("/v2"):
        content = {"error": error.in_one_line()}
    else:
        content = {"error": error.as_json()}
    return _json(content, status=error.status, headers=error.headers)


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, _JSON)


def _npy(array: Probabilities) -> bytes:
    import io

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
