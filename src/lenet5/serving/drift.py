"""Compare what a version answers with what it predicted for its own test images, for ``GET /metrics``.

The last ``WINDOW`` answers are compared, by predicted class and by confidence, with the Kullback-Leibler
divergence, as the stage ``validate`` compares data. One below its limit can be chance. The gauges are
absent, or NaN after a change of version, until that many images are answered, and while the registry has no
predictions of the version.
"""

import logging
import threading
from dataclasses import dataclass

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.serving import mlflow_child, reference
from lenet5.serving.log_queue import VersionAnswers
from lenet5.serving.model_watch import ServedModel
from lenet5.serving.reference import WINDOW, Reference
from lenet5.serving.service_metrics import ServiceMetrics
from lenet5.system.state import LocalState

log = logging.getLogger(__name__)

_FIRST_WAIT, _WAIT = 2.0, 600.0
"""Seconds before the registry is asked, so that requests are answered first, and before it is asked again."""


@dataclass
class _Window:
    """The last answers of one version."""

    served: ServedModel
    known: Reference | None
    best: NDArray[np.intp]
    confidence: NDArray[np.float32]


class Drift:
    """Sets the gauges of drift."""

    def __init__(self, paths: Paths, metrics: ServiceMetrics, *, offline: bool = False) -> None:
        """Remember where references are stored, and whether the registry may be asked for others."""
        self._paths = paths
        self._offline = offline
        self._metrics = metrics
        self._window: _Window | None = None

    def follow(self, served: ServedModel) -> None:
        """Compare with another version from now on. If its reference must be downloaded, a thread does it."""
        known = reference.cached(self._paths, served.name, served.number, served.digest)
        window = _Window(served, known, np.zeros(0, np.intp), np.zeros(0, np.float32))
        self._metrics.forget_drift()
        self._window = window
        asked = reference.is_cached(self._paths, served.name, served.number, served.digest)
        if not (asked or self._offline):
            threading.Thread(target=self._download, args=[window], name="reference", daemon=True).start()

    def observe(self, answers: VersionAnswers) -> None:
        """Take note of answers, and set the gauges if there are enough of them."""
        window = self._window
        if window is None or answers.version != window.served.number:  # of the version before
            return
        window.best = np.concatenate([window.best, answers.best])[-WINDOW:]
        window.confidence = np.concatenate([window.confidence, answers.confidence])[-WINDOW:]
        if len(window.best) < WINDOW:
            return
        self._metrics.estimated_accuracy.set(float(window.confidence.mean(dtype=np.float64)))
        if window.known is None:
            return
        classes = np.bincount(window.best, minlength=len(answers.classes))
        for what, counts, usual in (
            ("classes", classes, list(window.known.classes.values())),
            ("confidence", reference.count_confidences(window.confidence), window.known.confidences),
        ):
            self._metrics.drift.labels(what).set(float(reference.divergence(np.asarray(counts), usual)))
            self._metrics.drift_limit.labels(what).set(window.known.limits[what])

    def _download(self, window: _Window) -> None:
        """Ask MLflow's client in a child process, again and again while the registry does not answer."""
        served, event = window.served, threading.Event()
        key = (self._paths, served.name, served.number, served.digest)
        event.wait(_FIRST_WAIT)
        while self._window is window:
            # one worker process asks
            with FileLock(LocalState(self._paths.root).serving / "references.lock"):
                if not reference.is_cached(*key):
                    self._ask(served)
            if reference.is_cached(*key):
                window.known = reference.cached(*key)
                return
            event.wait(_WAIT)

    def _ask(self, served: ServedModel) -> None:
        what = f"The predictions of version {served.number} cannot be downloaded."
        words = (served.name, str(served.number), served.digest)
        try:
            mlflow_child.ask(self._paths, what, "lenet5.serving.reference", *words)
        except Unavailable as error:
            log.warning("%s", error)
