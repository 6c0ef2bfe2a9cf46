"""The inference log as the service sees it: a queue, and the process that writes it.

    request → append() → queue → thread → pipe → child process → files

A request never waits for the disk. A thread takes records from the queue, makes columns of them, counts them
for the metrics and sends them to a child process, which computes digests and writes the files:
:mod:`lenet5.serving.inference_log`. In this process that work would hold the interpreter, and requests would
wait for it.

- The queue has a bounded size. While the child process is slow, the thread waits for the pipe, and what does
  not fit into the queue is dropped and counted.
- The child process confirms the rows of each second when they are on the disk. If it dies, the rows that it
  has not confirmed count as dropped, and another one is started.
- When the service ends, however it ends, the pipe is closed. The child process writes what it has received,
  closes its part and ends.
"""

import json
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lenet5.system import logs

log = logging.getLogger(__name__)

FLUSH = b"null\n"
"""The line between rows that asks the child process for a report."""
_SEND_SECONDS, _FLUSH_SECONDS = 0.1, 1.0
"""Time between two looks at the queue, and between two reports. A look sends rows if there are many; before a
report, all are sent."""
_MAX_QUEUED_BYTES = 64_000_000
_PIECE = 128
"""Number of images that are sent without a break (half a millisecond), unless one request has more."""
_BREAK_SECONDS = 0.001
_START_SECONDS = 20.0
"""Time limit of the first child process to start. The service answers no request before."""
_RESTART_SECONDS = 5.0
"""Least time between two starts of the child process."""
_END_SECONDS = 25.0
"""Time limit of the child process to close its part."""


@dataclass(frozen=True)
class Record:
    """The images of one request, and their answers."""

    request_id: str
    time_us: int
    """Microseconds since 1970, UTC."""
    route: str
    model: str
    version: int
    digest: str
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        return 500 + self.images.nbytes + self.probabilities.nbytes


@dataclass(frozen=True)
class VersionAnswers:
    """What one version answered to some requests of one route, in the order of the images."""

    version: int
    digest: str
    classes: tuple[str, ...]
    best: NDArray[np.intp]
    """(N,) the position of the most probable class of each image."""
    confidence: NDArray[np.float32]
    """(N,) its probability."""
    probabilities: NDArray[np.float32]
    """(N, C)."""


@dataclass(frozen=True)
class Rows:
    """Some records of one version and route, as columns."""

    route: str
    model: str
    request_ids: list[str]
    times_us: NDArray[np.int64]
    counts: NDArray[np.int64]
    """Images of each record."""
    images: NDArray[np.uint8]
    """(N, ...)."""
    answers: VersionAnswers

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Rows":
        """Return the columns of records of one version and route."""
        first = records[0]
        probabilities = np.concatenate([record.probabilities for record in records])
        return cls(
            first.route,
            first.model,
            [record.request_id for record in records],
            np.array([record.time_us for record in records], np.int64),
            np.array([len(record.images) for record in records], np.int64),
            np.concatenate([record.images for record in records]) if len(records) > 1 else first.images,
            VersionAnswers(
                first.version,
                first.digest,
                first.classes,
                probabilities.argmax(axis=1),
                probabilities.max(axis=1),
                probabilities,
            ),
        )

    def write(self, file: IO[bytes]) -> None:
        """Write one line of JSON, then the bytes of each array."""
        answers = self.answers
        arrays = (
            *(self.times_us, self.counts, self.images),
            *(answers.best, answers.confidence, answers.probabilities),
        )
        header = {
            "route": self.route,
            "model": self.model,
            "request_ids": self.request_ids,
            "version": answers.version,
            "digest": answers.digest,
            "classes": answers.classes,
            "arrays": [(array.dtype.str, array.shape) for array in arrays],
        }
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            file.write(np.ascontiguousarray(array).tobytes())

    @classmethod
    def read(cls, header: dict[str, Any], file: IO[bytes]) -> "Rows":
        """Read what :meth:`write` has written after its first line.

        Raises:
            EOFError: the file ends before.
        """
        arrays = []
        for kind, shape in header["arrays"]:
            size = np.dtype(kind).itemsize * math.prod(shape)
            content = file.read(size)
            if len(content) < size:
                raise EOFError
            arrays.append(np.frombuffer(content, kind).reshape(shape))
        times_us, counts, images, best, confidence, probabilities = arrays
        return cls(
            header["route"],
            header["model"],
            header["request_ids"],
            times_us,
            counts,
            images,
            VersionAnswers(
                header["version"],
                header["digest"],
                tuple(header["classes"]),
                best,
                confidence,
                probabilities,
            ),
        )


@dataclass(frozen=True)
class LogCounts:
    """What became of the rows, since the process began."""

    written: int
    dropped: int


@dataclass(frozen=True)
class WriterOptions:
    """What the child process needs to know: arguments of :class:`InferenceLog` and of ``logs.configure``."""

    folder: str
    pixels: bool
    max_days: float
    max_megabytes: float
    verbose: int
    log_format: logs.Format


@dataclass(frozen=True)
class Report:
    """What the child process did with the rows that it got since the last report."""

    written: int
    """Rows that are on the disk. The others are dropped."""
    problem: str
    """Why rows are dropped; empty: none are."""


class InferenceLog:
    """Queues records for the process that writes them. :meth:`append` never blocks."""

    def __init__(
        self,
        folder: Path,
        *,
        pixels: bool,
        max_days: float,
        max_megabytes: float,
        observe: Callable[[VersionAnswers], None] = lambda _: None,
        on_counts: Callable[[LogCounts], None] = lambda _: None,
    ) -> None:
        """Remember what to write where. Nothing is written before :meth:`start`.

        Args:
            folder: one folder for each day is created in it.
            pixels: whether the images are kept, and not only their digests.
            max_days: the age after which closed parts are removed.
            max_megabytes: the size of all closed parts beyond which the oldest are removed.
            observe: called in the thread with the answers that are sent next.
            on_counts: called in the thread with what became of the rows, after each report.
        """
        self._options = WriterOptions(str(folder), pixels, max_days, max_megabytes, *logs.in_force())
        self._observe = observe
        self._on_counts = on_counts
        # a queue that wakes the thread at each record would take the interpreter away from the requests
        self._queue: deque[Record] = deque()
        # each number is changed by one thread alone: `+=` in two threads could lose a change
        self._appended_bytes = self._overflowed = 0
        self._taken_bytes = self._written = self._dropped = self._unconfirmed = 0
        self._stop = threading.Event()
        self._writes = threading.Event()
        self._writer: _Writer | None = None
        self._started = float("-inf")
        self._is_full = False
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    @property
    def counts(self) -> LogCounts:
        """Return what became of the rows. Those in the queue are in neither number."""
        return LogCounts(self._written, self._dropped + self._overflowed)

    def start(self) -> None:
        """Start the thread, which starts the child process."""
        self._thread.start()

    def wait_until_it_writes(self) -> None:
        """Wait until the first child process can write, but not for ever: requests are more important."""
        self._writes.wait(_START_SECONDS)

    def append(self, record: Record) -> None:
        """Queue a record; drop and count it if the queue is full."""
        if self._appended_bytes - self._taken_bytes > _MAX_QUEUED_BYTES:
            self._overflowed += len(record.images)
            return
        self._appended_bytes += record.size
        self._queue.append(record)

    def stop(self) -> None:
        """Send what is queued, and end the thread and the child process, which closes its part."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join(timeout=_END_SECONDS + 5)

    def _run(self) -> None:
        # Ctrl-C reaches every process of the terminal. The child inherits the mask of this thread, so it ends
        # only when the pipe is closed, after the last row
        signal.pthread_sigmask(
            signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        )
        stopping, due = False, 0.0
        while True:
            is_due = stopping or time.monotonic() > due
            try:
                if is_due or len(self._queue) > _PIECE:
                    self._send(confirm=is_due)
            except Exception:  # the thread must survive a defect
                log.exception("the inference log failed")
            if stopping:
                break
            if is_due:
                due = time.monotonic() + _FLUSH_SECONDS
            stopping = self._stop.wait(_SEND_SECONDS)
        if self._writer:
            self._writer.end()
        if lost := sum(len(record.images) for record in self._queue):
            self._dropped += lost
            log.error("%d rows of the inference log are lost: no process writes it", lost)

    def _send(self, *, confirm: bool) -> None:
        """Send the queued records piece by piece; if asked, wait until they are written, and count them."""
        try:
            writer = self._living_writer()
            if writer is None:  # the records wait for the next one
                return
            for piece in pieces((self._queue.popleft() for _ in range(len(self._queue))), _PIECE):
                self._taken_bytes += sum(record.size for record in piece)
                self._unconfirmed += sum(len(record.images) for record in piece)
                for group in _groups(piece):
                    rows = Rows.of(group)
                    self._observe(rows.answers)
                    writer.send(rows)
                time.sleep(_BREAK_SECONDS)
            if confirm:
                report = writer.flush()
                self._written += report.written
                self._dropped += self._unconfirmed - report.written
                self._unconfirmed = 0
                self._log_change(report)
                self._on_counts(self.counts)
        except (OSError, EOFError) as error:
            code = self._discard_writer()
            reason = error if code is None else f"exit code {code}"
            log.error("no process writes the inference log: %s", reason)  # noqa: TRY400
        except BaseException:  # the process has a part of a message, and would read the next one wrongly
            self._discard_writer()
            raise
        finally:
            self._writes.set()

    def _discard_writer(self) -> int | None:
        """End the child process and return its exit code. What it has not confirmed counts as dropped."""
        self._dropped += self._unconfirmed
        self._unconfirmed = 0
        writer, self._writer = self._writer, None
        return writer.end() if writer else None

    def _living_writer(self) -> "_Writer | None":
        """Return the child process; start another one, but not again and again."""
        is_time = self._stop.is_set() or time.monotonic() - self._started > _RESTART_SECONDS
        if self._writer is None and is_time:
            self._started = time.monotonic()
            self._writer = _Writer(self._options)
        return self._writer

    def _log_change(self, report: Report) -> None:
        """Log that the disk became full, or has space again: once, and not every second."""
        if report.problem and not self._is_full:
            log.error("the inference log cannot be written, requests are answered: %s", report.problem)
            self._is_full = True
        elif self._is_full and report.written and not report.problem:
            log.warning("the inference log is written again")
            self._is_full = False


class _Writer:
    """The child process."""

    def __init__(self, options: WriterOptions) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lenet5.serving.inference_log", json.dumps(vars(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def send(self, rows: Rows) -> None:
        """Send rows; wait while the pipe is full.

        Raises:
            OSError: the process is dead.
        """
        rows.write(self._input)

    def flush(self) -> Report:
        """Wait until everything that was sent is on the disk.

        Raises:
            OSError, EOFError: the process is dead.
        """
        self._input.write(FLUSH)
        self._input.flush()
        line = self._output.readline()
        if not line:
            raise EOFError
        return Report(**json.loads(line))

    def end(self) -> int | None:
        """Let the process close its part, and return its exit code; None if it takes too long."""
        with suppress(OSError):  # it is dead
            self._input.close()
        self._output.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_END_SECONDS)
        return None


class _HasImages(Protocol):
    @property
    def images(self) -> NDArray[np.uint8]: ...


_Item = TypeVar("_Item", bound=_HasImages)


def pieces(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield consecutive items that have ``size`` images or a few more; the last ones may have fewer."""
    piece: list[_Item] = []
    images = 0
    for item in items:
        piece.append(item)
        images += len(item.images)
        if images >= size:
            yield piece
            piece, images = [], 0
    if piece:
        yield piece


def _groups(records: Iterable[Record]) -> Iterable[list[Record]]:
    """Return the records of each version and route, which share most columns."""
    groups: dict[tuple[str, str, int, str], list[Record]] = {}
    for record in records:
        key = (record.route, record.model, record.version, record.digest)
        groups.setdefault(key, []).append(record)
    return groups.values()
