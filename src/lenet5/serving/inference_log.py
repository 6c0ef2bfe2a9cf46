"""The inference log: what was asked and answered, in Parquet files, written by a thread.

A request never waits for the disk. It appends to a queue of bounded size; a thread writes the queue once a
second to an open part, an Arrow stream with one record batch for each second. A part that is large or old
enough becomes a Parquet file, by a rename:

    2026-11-27/20261127T101502-4711-000001.arrows     open: complete up to its last batch
    2026-11-27/20261127T101502-4711-000001.parquet    closed

After ``kill -9`` at most the last second is missing. The next start turns open parts of dead processes into
Parquet and drops the torn batch at the end of a stream. When the disk is full, records are dropped and
counted, and requests are answered.
"""

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.errors import StorageError

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("route", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("model_sha256", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
        pa.field("input_sha256", pa.binary(32), nullable=False),
        pa.field("pixels", pa.binary(), nullable=True),
    ]
)
"""One row for each image. ``row`` is its position in the request, ``class`` the name of the most probable
class and ``confidence`` its probability. ``probabilities`` are in the order of the classes of the version.
``input_sha256`` is the digest of the pixels, uint8 in C order; ``pixels`` holds them if the service logs
them."""
_FLUSH_SECONDS = 1.0
_ROTATE_SECONDS = 300.0
_ROTATE_BYTES = 16_000_000
_MAX_QUEUED_BYTES = 64_000_000


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

    @cached_property
    def best(self) -> list[int]:
        """Return the position of the most probable class of each image."""
        best: list[int] = self.probabilities.argmax(axis=1).tolist()
        return best

    @property
    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        return 500 + self.images.nbytes + self.probabilities.nbytes


@dataclass
class LogCounts:
    """What became of the rows, since the process began."""

    written: int = 0
    dropped: int = 0


class InferenceLog:
    """Writes records in a thread. :meth:`append` never blocks."""

    def __init__(
        self,
        folder: Path,
        *,
        pixels: bool,
        max_days: float,
        max_megabytes: float,
        observe: Callable[[Sequence[Record]], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember what to write where. Nothing is written before :meth:`start`.

        Args:
            folder: one folder for each day is created in it.
            pixels: whether the images are kept, and not only their digests.
            max_days: the age after which closed parts are removed.
            max_megabytes: the size of all closed parts beyond which the oldest are removed.
            observe: called in the thread with the records of each second.
            clock: the time in seconds since 1970.
        """
        self.counts = LogCounts()
        self._folder = folder
        self._pixels = pixels
        self._max_days = max_days
        self._max_bytes = max_megabytes * 1e6
        self._observe = observe
        self._clock = clock
        # a queue that wakes the thread at each record would take the interpreter away from the requests
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._stop = threading.Event()
        self._part: _Part | None = None
        self._number = 0
        self._full = False
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Recover the parts of processes that died, and start the thread."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            recover(self._folder)
        except (OSError, StorageError) as error:
            log.warning("the inference log of an earlier process cannot be recovered: %s", error)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Queue a record; drop and count it if the queue is full."""
        if self._queued_bytes > _MAX_QUEUED_BYTES:
            self.counts.dropped += len(record.images)
            return
        self._queued_bytes += record.size
        self._queue.append(record)

    def stop(self) -> None:
        """Write what is queued, close the part and end the thread."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join(timeout=30)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_FLUSH_SECONDS)
            records = [self._queue.popleft() for _ in range(len(self._queue))]
            self._observe(records)
            self._write(records)
            if self._part and (stopping or self._part.is_full()):
                self._close()

    def _write(self, records: list[Record]) -> None:
        if not records:
            return
        rows = sum(len(record.images) for record in records)
        try:
            if self._part is None:
                self._number += 1
                self._part = _Part(_new_path(self._folder, self._clock(), self._number))
            self._part.write(_batch(records, pixels=self._pixels))
            self.counts.written += rows
            if self._full:
                log.warning("the inference log is written again")
            self._full = False
        except OSError as error:
            self.counts.dropped += rows
            if not self._full:  # once, and not every second
                log.error("the inference log cannot be written, requests are answered: %s", error)  # noqa: TRY400
            self._full = True
            self._abandon()
        finally:
            self._queued_bytes -= sum(record.size for record in records)

    def _abandon(self) -> None:
        """Leave a part in which a batch may be torn; it becomes Parquet as after a crash."""
        part, self._part = self._part, None
        if part:
            part.abandon()
            self._to_parquet(part.path)

    def _close(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        try:
            part.close()
        except OSError as error:
            log.warning("%s cannot be closed: %s", part.path, error)
        self._to_parquet(part.path)
        remove_old(self._folder, self._clock(), self._max_days, self._max_bytes)

    def _to_parquet(self, path: Path) -> None:
        try:
            _convert(path)
        except (OSError, StorageError) as error:
            log.warning("%s stays an open part, which the next start closes: %s", path, error)


class _Part:
    """An open part."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # until this process ends, however it ends
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self._since = time.monotonic()

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self._file.flush()
        os.fsync(self._file.fileno())

    def is_full(self) -> bool:
        return self._file.tell() > _ROTATE_BYTES or time.monotonic() - self._since > _ROTATE_SECONDS

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:
            log.debug("%s cannot be closed", self.path)


def parts(folder: Path) -> Iterator[Path]:
    """Yield every part of a log, oldest first."""
    yield from sorted([*folder.glob("*/*.parquet"), *folder.glob("*/*.arrows")])


def read(path: Path) -> tuple[pa.Table, int]:
    """Return the rows of a part, and how many bytes at its end are no complete batch.

    Args:
        path: a Parquet file, or an open part, which may end anywhere.
    """
    if path.suffix == ".parquet":
        return pq.read_table(path, schema=SCHEMA), 0
    content = files.read_bytes(path)
    source = pa.BufferReader(content)
    batches: list[pa.RecordBatch] = []
    end = 0
    try:
        reader = pa.ipc.open_stream(source)
        end = source.tell()
        while True:
            batches.append(reader.read_next_batch())
            end = source.tell()
    except StopIteration:
        end = len(content)
    except (pa.ArrowInvalid, OSError):
        log.debug("%s has a torn end", path)
    return pa.Table.from_batches(batches, SCHEMA), len(content) - end


def read_all(folder: Path) -> pa.Table:
    """Return the rows of all parts of a log, oldest part first; no row if there is no log.

    A service may write, close and remove parts meanwhile.
    """
    tables = [SCHEMA.empty_table()]
    for path in parts(folder):
        closed = path.with_suffix(".parquet")
        if path.suffix == ".arrows" and closed.exists():  # it is about to be removed
            continue
        try:
            tables.append(read(path)[0])
        except FileNotFoundError:
            if closed.exists() and path != closed:
                tables.append(read(closed)[0])
    return pa.concat_tables(tables)


def recover(folder: Path) -> None:
    """Turn the open parts of processes that are dead into Parquet.

    Raises:
        OSError, StorageError: the disk is full or broken.
    """
    for path in folder.glob("*/*.arrows"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its process is alive
                continue
            _convert(path)


def remove_old(folder: Path, now: float, max_days: float, max_bytes: float) -> None:
    """Remove closed parts that are too old, and the oldest ones while all together are too large.

    The age is that of the last change of the file. A clock that was set back makes no part older.
    """
    closed = sorted(folder.glob("*/*.parquet"), reverse=True)
    total = 0
    for path in closed:
        try:
            status = path.stat()
            total += status.st_size
            if total > max_bytes or now - status.st_mtime > max_days * 86400:
                path.unlink()
        except FileNotFoundError:  # another worker process removed it
            continue
    for day in folder.glob("*/"):
        try:
            day.rmdir()
        except OSError:
            continue  # it is not empty


def _convert(path: Path) -> None:
    """Turn an open part into a Parquet file. Without one complete batch, it is removed."""
    target = path.with_suffix(".parquet")
    if not target.exists():
        table, torn = read(path)
        if torn:
            log.warning("%s: the last batch is torn; %d bytes are dropped", path, torn)
        if table.num_rows:
            with files.replacing(target) as partial:
                pq.write_table(table, partial, compression="zstd")
    path.unlink()


def _new_path(folder: Path, now: float, number: int) -> Path:
    began = datetime.fromtimestamp(now, UTC)
    return folder / f"{began:%Y-%m-%d}" / f"{began:%Y%m%dT%H%M%S}-{os.getpid()}-{number:06}.arrows"


def _batch(records: list[Record], *, pixels: bool) -> pa.RecordBatch:
    """Return the rows of some records."""
    counts = [len(record.images) for record in records]

    def each_row(values: list[object], kind: pa.DataType) -> pa.Array:
        repeated = np.repeat(np.arange(len(records)), counts)
        return pa.array(values, kind).take(pa.array(repeated))

    images = [image for record in records for image in record.images]
    lengths = np.concatenate([[0], np.repeat([len(record.classes) for record in records], counts)])
    columns = [
        each_row([record.request_id for record in records], pa.string()),
        pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        each_row([record.time_us for record in records], pa.timestamp("us", tz="UTC")),
        each_row([record.route for record in records], pa.string()),
        each_row([record.model for record in records], pa.string()),
        each_row([record.version for record in records], pa.int32()),
        each_row([record.digest for record in records], pa.string()),
        pa.array([record.classes[position] for record in records for position in record.best], pa.string()),
        pa.array(np.concatenate([record.probabilities.max(axis=1) for record in records])),
        pa.ListArray.from_arrays(
            pa.array(lengths.cumsum().astype(np.int32)),
            pa.array(np.concatenate([record.probabilities.ravel() for record in records])),
        ),
        pa.array([hashlib.sha256(image).digest() for image in images], pa.binary(32)),
        pa.array([image.tobytes() for image in images] if pixels else [None] * len(images), pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
