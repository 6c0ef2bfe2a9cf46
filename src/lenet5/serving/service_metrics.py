"""What the HTTP service measures, for Prometheus: ``GET /metrics``.

With several worker processes, each one writes its values to files of a shared folder, and any of them answers
with the sums.
"""

import math
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from lenet5.serving.log_queue import VersionAnswers

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServiceMetrics:
    """The metrics of one process. For several, ``PROMETHEUS_MULTIPROC_DIR`` is set before."""

    def __init__(self, folder: Path | None) -> None:
        """Create the metrics.

        Args:
            folder: the folder that all worker processes share; None with one process.
        """
        self._folder = folder
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "lenet5_requests",
            "Requests by route, status and version.",
            ["route", "code", "version"],
            registry=registry,
        )
        self.seconds = Histogram(
            "lenet5_request_seconds",
            "Time from the first byte to the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.images = Counter(
            "lenet5_images", "Images by version and predicted class.", ["version", "class"], registry=registry
        )
        self.confidence = Counter(
            "lenet5_confidence",
            "Sum of the confidence of all answers; divided by lenet5_images_total: its mean.",
            ["version"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "lenet5_requests_in_flight",
            "POST requests that are read or scored now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.version = Gauge(
            "lenet5_served_version",
            "Number of the version that answers.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.registry_answers = Gauge(
            "lenet5_registry_answers",
            "1 while the registry answers, else 0; NaN if the service is offline.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.log_rows = Gauge(
            "lenet5_log_rows",
            "Rows of the inference log since the process began: written, dropped.",
            ["what"],
            registry=registry,
            multiprocess_mode="sum",
        )
        self.drift = Gauge(
            "lenet5_drift",
            "Divergence of the last answers from the predictions for the test images, in nats: classes, "
            "confidence.",
            ["what"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.drift_limit = Gauge(
            "lenet5_drift_limit",
            "Divergence that chance exceeds once in 1,000 times.",
            ["what"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.estimated_accuracy = Gauge(
            "lenet5_estimated_accuracy",
            "Mean calibrated confidence of the last answers.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.estimated_accuracy.set(math.nan)
        self._series: dict[tuple[str, int, str], tuple[Counter, Histogram]] = {}

    def finished(self, route: str, status: int, version: str, seconds: float) -> None:
        """Count one request.

        Args:
            route: its path, or a common name for paths that are no routes.
            status: of the answer.
            version: that answered, or an empty string.
            seconds: from the first byte to the answer.
        """
        series = self._series.get((route, status, version))
        if series is None:  # the search for labels takes longer than the rest
            series = self.requests.labels(route, str(status), version), self.seconds.labels(route)
            self._series[route, status, version] = series
        series[0].inc()
        series[1].observe(seconds)

    def forget_drift(self) -> None:
        """Set the gauges of drift to NaN: another version answers."""
        self.estimated_accuracy.set(math.nan)
        for what in ("classes", "confidence"):
            for gauge in (self.drift, self.drift_limit):
                gauge.labels(what).set(math.nan)

    def count(self, answers: VersionAnswers) -> None:
        """Count images by their predicted class."""
        version = str(answers.version)
        self.confidence.labels(version).inc(float(answers.confidence.sum(dtype=np.float64)))
        images = np.bincount(answers.best, minlength=len(answers.classes)).tolist()
        for name, count in zip(answers.classes, images, strict=True):
            if count:
                self.images.labels(version, name).inc(count)

    def exposition(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        if self._folder is None:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        multiprocess.MultiProcessCollector(shared, path=str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(shared)
