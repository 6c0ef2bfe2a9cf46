"""The state of one worker process of the HTTP service: the served version, the log, the metrics."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.serving.access import Limits
from lenet5.serving.drift import Drift
from lenet5.serving.errors import RequestError
from lenet5.serving.feedback_log import FeedbackLog
from lenet5.serving.log_queue import InferenceLog, LogCounts, Record, VersionAnswers
from lenet5.serving.model_watch import ModelWatch, ServedModel
from lenet5.serving.predictor import Probabilities
from lenet5.serving.request_id import RequestIds
from lenet5.serving.request_images import Images
from lenet5.serving.service_metrics import ServiceMetrics
from lenet5.system.state import LocalState


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
    offline: bool = False
    """Serve the version that this folder remembers, and never ask the registry."""


@dataclass(frozen=True)
class Answer:
    """What one request got."""

    request_id: str
    served: ServedModel
    probabilities: Probabilities
    best: list[int]
    """Position of the most probable class of each image."""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that name the request, and the version that answered it."""
        return {"X-Request-Id": self.request_id, "X-Model-Version": str(self.served.number)}


class Service:
    """The state of one worker process: the served version, the log and the metrics."""

    def __init__(self, options: ServiceOptions) -> None:
        paths = Paths(options.root)
        self.root = options.root
        self.log_pixels = options.log_pixels
        folder = LocalState(options.root).serving
        self.metrics = ServiceMetrics(options.metrics_folder)
        self.drift = Drift(paths, self.metrics, offline=options.offline)
        self.watch = ModelWatch(
            paths,
            options.model_name,
            options.reference,
            poll_seconds=options.poll_seconds,
            offline=options.offline,
            on_change=self._changed,
        )
        self.log = InferenceLog(
            folder / "log",
            pixels=options.log_pixels,
            max_days=options.log_days,
            max_megabytes=options.log_megabytes,
            observe=self._observe,
            on_counts=self.count_rows,
        )
        self.feedback = FeedbackLog(folder / "feedback")
        self.ids = RequestIds.of_folder(folder)
        self.is_offline = options.offline

    def count_rows(self, counts: LogCounts) -> None:
        """Set the metrics of the log. Each process sets its own, and a scrape adds them up."""
        self.metrics.log_rows.labels("written").set(counts.written)
        self.metrics.log_rows.labels("dropped").set(counts.dropped)

    def _changed(self, served: ServedModel) -> None:
        self.metrics.version.set(served.number)
        self.drift.follow(served)

    def _observe(self, answers: VersionAnswers) -> None:
        self.metrics.count(answers)
        self.drift.observe(answers)

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
        record = Record(
            self.ids.new(),
            time.time_ns() // 1000,
            route,
            served.name,
            served.number,
            served.digest,
            served.model.description.classes,
            images,
            probabilities,
        )
        self.log.append(record)
        return Answer(record.request_id, served, probabilities, probabilities.argmax(axis=1).tolist())


def json_response(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer whose arrays of NumPy become lists."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, "application/json")
