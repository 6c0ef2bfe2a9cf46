"""Follow an alias of the registry: load the version that it names, and exchange versions without a pause.

    poll → the same version: nothing
         → another one: download, compare digests, load, warm up, then replace the served one
         → no answer: the served version stays

A version that fails a step is never served. The last served version is remembered, so that a server starts
while the registry is down. MLflow's client is never imported into this process: where the quick lookup has no
answer, a child process asks it (:mod:`lenet5.serving.download`).
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock

from lenet5.core import files
from lenet5.core.errors import DataError, Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.registry import fast_lookup
from lenet5.serving import mlflow_child, predictor
from lenet5.serving.predictor import Model
from lenet5.system import settings
from lenet5.system.state import LocalState

log = logging.getLogger(__name__)

_CLIENT_SECONDS = 60.0
"""Least time between two questions to MLflow's client, which needs seconds of a core."""
_WARM_UP = (1, onnx_session.BATCH)
"""Numbers of images that a new version scores before it answers requests."""


@dataclass(frozen=True)
class ServedModel:
    """A verified version."""

    name: str
    digest: str
    """SHA-256 of its ONNX file."""
    model: Model
    content: bytes = field(repr=False)
    """The ONNX file."""

    @property
    def number(self) -> int:
        return self.model.number


@dataclass(frozen=True)
class WatchState:
    """What the last poll found."""

    registry_answers: bool = False
    problem: str = ""
    """Why the version that the alias names is not served; empty: it is."""


class ModelWatch:
    """The version that answers, kept up to date by a thread."""

    def __init__(
        self,
        paths: Paths,
        name: str,
        reference: str,
        *,
        poll_seconds: float,
        offline: bool = False,
        on_change: Callable[[ServedModel], None] = lambda _: None,
    ) -> None:
        """Remember what to follow. Nothing is read before :meth:`start`.

        Args:
            paths: the checkout, for settings and downloaded files.
            name: of the registered model.
            reference: an alias, or a number, which pins a version.
            poll_seconds: between two polls.
            offline: serve the remembered version, and never ask the registry.
            on_change: called with each version before its first answer.
        """
        self.served: ServedModel | None = None
        self.state = WatchState()
        self.name = name
        self.reference = reference
        self._paths = paths
        self._poll_seconds = poll_seconds
        self._offline = offline
        self._on_change = on_change
        self._asked_client = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-watch", daemon=True)

    def start(self) -> None:
        """Poll once, so that a server that can answer is ready at once, and then in a thread.

        Raises:
            UsageError: the service is offline, and remembers no version.
        """
        if not self._offline:
            self.poll()
            self._thread.start()
        else:
            self._replace(*last_served(self._paths, self.name, self.reference))

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self.poll()

    def poll(self) -> None:
        """Look once, and serve another version where the alias has moved. No error leaves this method."""
        try:
            self._poll()
        except Lenet5Error as error:
            self._report(WatchState(self.state.registry_answers, str(error)))
        except Exception as error:  # the thread must survive a defect, and the served version stays
            log.exception("the poll of the registry failed")
            self.state = WatchState(self.state.registry_answers, f"{type(error).__name__}: {error}")

    def _poll(self) -> None:
        version = fast_lookup.find(settings.load(self._paths), self.name, self.reference)
        if version is None:
            found = self._ask_client()
            if found is None:
                return
            number, digest = found
        else:
            self.state = WatchState(True, self.state.problem)
            number, digest = version.number, fast_lookup.onnx_digest(version.tags) or ""
        if self.served and (self.served.number, self.served.digest) == (number, digest):
            self._report(WatchState(True))
            return
        self._serve(number, digest)
        self._report(WatchState(True))

    def _ask_client(self) -> tuple[int, str] | None:
        """Return number and digest by MLflow's client; None if it was asked a short time ago.

        Raises:
            Lenet5Error: the client has no answer either. The remembered version is served then.
        """
        if time.monotonic() - self._asked_client < _CLIENT_SECONDS:
            return None
        if self.served is None and self._serve_remembered():  # it answers while the client is asked
            log.warning(
                "the registry does not answer; version %d of %s, which was served last, answers",
                self.served.number if self.served else 0,
                self.name,
            )
        self._asked_client = time.monotonic()
        try:
            return self._download(self.reference)
        except Lenet5Error:
            self.state = WatchState(False, self.state.problem)
            raise

    def _serve(self, number: int, digest: str) -> None:
        """Verify a version, and replace the served one.

        Raises:
            DataError: the file is not the registered one, or cannot score images.
            Unavailable: the file cannot be downloaded.
        """
        content = predictor.cached_onnx(self._paths, digest) if digest else None
        if content is None:
            self._download(str(number))
            content = predictor.cached_onnx(self._paths, digest) if digest else None
        if content is None:
            raise DataError(
                f"Version {number} of {self.name} cannot be served.",
                expected="an ONNX file, which `lenet5 register` registers",
                found="none with the registered digest",
                fix=f"`lenet5 reproduce {number}`, or promote another version",
            )
        previous = self.served
        self._remember(self._replace(number, digest, content))
        log.info(
            "version %d of %s answers%s", number, self.name, f", after {previous.number}" if previous else ""
        )

    def _replace(self, number: int, digest: str, content: bytes) -> ServedModel:
        """Load and try a version, and serve it from now on.

        Raises:
            DataError: it cannot score images. The served version stays.
        """
        served = ServedModel(self.name, digest, predictor.of_onnx(number, content), content)
        _warm_up(served)
        self._on_change(served)
        self.served = served
        return served

    def _download(self, reference: str) -> tuple[int, str]:
        """Ask MLflow's client in a child process to store the ONNX file of a version.

        Raises:
            DataError: the file is not the registered one.
            Unavailable: the client failed, or took too long.
        """
        what = f"{self.name}, version {reference}, cannot be downloaded."
        answer = json.loads(
            mlflow_child.ask(self._paths, what, "lenet5.serving.download", self.name, reference)
        )
        return int(answer["version"]), str(answer["digest"])

    def _remember(self, served: ServedModel) -> None:
        with FileLock(self._record.with_suffix(".lock")):  # every worker process writes it
            files.write_json(self._record, remembered(served.number, served.digest))

    def _serve_remembered(self) -> bool:
        """Serve the last served version again, and return whether its file is complete."""
        try:
            self._replace(*last_served(self._paths, self.name, self.reference))
        except UsageError:
            return False
        return True

    @property
    def _record(self) -> Path:
        return record_of_last(self._paths, self.name, self.reference)

    def _report(self, state: WatchState) -> None:
        if state.problem and state.problem != self.state.problem:
            log.error("%s", state.problem)
        self.state = state


def record_of_last(paths: Paths, name: str, reference: str) -> Path:
    """Return the file that remembers which version was served last.

    Args:
        paths: the checkout.
        name: of the registered model.
        reference: the alias or number that the service was started with.
    """
    return LocalState(paths.root).serving / f"last-{name}-{reference.removeprefix('@')}.json"


def last_served(paths: Paths, name: str, reference: str) -> tuple[int, str, bytes]:
    """Return number, SHA-256 and ONNX file of the version that was served last.

    Raises:
        UsageError: none was, or its file is missing or damaged.
    """
    record_file = record_of_last(paths, name, reference)
    try:
        record = json.loads(files.read_text(record_file))
        number, digest = int(record["version"]), str(record["digest"])
        content = predictor.cached_onnx(paths, digest)
    except (OSError, ValueError, KeyError, TypeError, DataError):
        content = None
    if content is None:
        raise UsageError(
            f"No version {reference} of {name} is stored here.",
            expected=f"{record_file}, and the ONNX file that it names",
            found="one of them is missing or damaged",
            fix="`lenet5 serve` without --offline stores the version that it serves",
        )
    return number, digest, content


def remembered(number: int, digest: str) -> dict[str, int | str]:
    """Return the content of :func:`record_of_last`."""
    return {"version": number, "digest": digest}


def _warm_up(served: ServedModel) -> None:
    """Score black images, so that the first request is as fast as the others.

    Raises:
        DataError: the answers are no probabilities.
    """
    for count in _WARM_UP:
        scored = served.model.probabilities(np.zeros((count, *served.model.shape), np.uint8))
        shape = (count, len(served.model.description.classes))
        if scored.shape != shape or not np.allclose(scored.sum(axis=1), 1, atol=1e-4):
            raise DataError(
                f"Version {served.number} of {served.name} gives no probabilities.",
                expected=f"rows of shape {shape} that sum to 1",
                found=f"shape {scored.shape}, sums {scored.sum(axis=1)[:3]}",
                fix="promote another version",
            )
