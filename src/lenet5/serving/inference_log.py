"""The inference log: what was asked and answered, in Parquet files, written by a thread.

A request never waits for the disk. It appends to a queue of bounded size; a thread writes the queue once a
second to an open part, an Arrow stream with one record batch for each second. A part that is large or old
enough becomes a Parquet file, by a rename:

    2026-11-27/20261127T101502-4711-000001.arrows     open: complete up to its last batch
    2026-11-27/20261127T101502-4711-000001.parquet    closed

After ``kill -9`` at most the last second is missing. The next start turns open parts of dead processes into
Parquet and drops the torn batch at the end of a stream. When the disk is full, records are dropped and
counted, and requests are answered.

The thread shares the interpreter with the requests. It works in small pieces and sleeps between them, so that
no request waits for more than one piece.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.errors import DataError, StorageError

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
_OPEN, _CLOSED = ".arrows", ".parquet"
_ROTATE_SECONDS = 300.0
_ROTATE_BYTES = 16_000_000
_MAX_QUEUED_BYTES = 64_000_000
_PIECE = 256
"""Images that are written without a break, unless one request has more: less than a millisecond."""
_BREAK_SECONDS = 0.001


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
class Answers:
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

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Answers":
        """Return the answers of records of one version."""
        first = records[0]
        probabilities = np.concatenate([record.probabilities for record in records])
        return cls(
            first.version,
            first.digest,
            first.classes,
            probabilities.argmax(axis=1),
            probabilities.max(axis=1),
            probabilities,
        )


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
        observe: Callable[[Answers], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember what to write where. Nothing is written before :meth:`start` or :meth:`write`.

        Args:
            folder: one folder for each day is created in it.
            pixels: whether the images are kept, and not only their digests.
            max_days: the age after which closed parts are removed.
            max_megabytes: the size of all closed parts beyond which the oldest are removed.
            observe: called in the thread with the answers that are written next.
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
        # each is changed by one thread alone: `-=` in another thread could lose a change
        self._appended_bytes = 0
        self._taken_bytes = 0
        self._stop = threading.Event()
        self._part: _Part | None = None
        self._token = secrets.token_hex(3)
        self._number = 0
        self._full = False
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Recover the parts of processes that died, and start the thread."""
        # the first array imports pandas, if it is installed, and the first requests would wait for that
        pa.array(np.zeros(1))
        self._recover()
        self._thread.start()

    def append(self, record: Record) -> None:
        """Queue a record; drop and count it if the queue is full."""
        if self._appended_bytes - self._taken_bytes > _MAX_QUEUED_BYTES:
            self.counts.dropped += len(record.images)
            return
        self._appended_bytes += record.size
        self._queue.append(record)

    def stop(self) -> None:
        """Write what is queued, close the part and end the thread."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join(timeout=30)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows at once, without the thread.

        Raises:
            OSError: the disk is full or broken.
        """
        part = self._append_batch(batch)
        part.sync()
        if part.is_full():
            self._close()

    def close(self) -> None:
        """Close the part that :meth:`write` opened."""
        if self._part:
            self._close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_FLUSH_SECONDS)
            try:
                self._flush([self._queue.popleft() for _ in range(len(self._queue))])
                if self._part and (stopping or self._part.is_full()):
                    self._close()
            except Exception:  # the thread must survive a defect
                log.exception("the inference log failed")

    def _flush(self, records: Sequence[Record]) -> None:
        """Write records piece by piece; those that cannot be written are dropped and counted."""
        written = dropped = 0
        problem: OSError | None = None
        for piece in pieces(records, _PIECE):
            for group in _groups(piece):
                answers = Answers.of(group)
                self._observe(answers)
                if problem is None:
                    try:
                        self._append_batch(to_batch(group, answers, pixels=self._pixels))
                    except OSError as error:
                        problem = error
                if problem is None:
                    written += len(answers.best)
                else:
                    dropped += len(answers.best)
            self._taken_bytes += sum(record.size for record in piece)
            time.sleep(_BREAK_SECONDS)
        if written and problem is None and self._part:
            try:
                self._part.sync()
            except OSError as error:
                written, dropped, problem = 0, written, error
        self.counts.written += written
        self.counts.dropped += dropped
        self._report(problem, written)

    def _report(self, problem: OSError | None, written: int) -> None:
        """Log that the disk became full, or has space again: once, and not every second."""
        if problem:
            if not self._full:
                log.error("the inference log cannot be written, requests are answered: %s", problem)
            self._full = True
            self._abandon()
        elif self._full and written:
            log.warning("the inference log is written again")
            self._full = False
            self._recover()

    def _append_batch(self, batch: pa.RecordBatch) -> "_Part":
        if self._part is None:
            self._part = _Part(self._new_path())
        self._part.write(batch)
        return self._part

    def _new_path(self) -> Path:
        """Return the path of a new part. The token keeps it apart from a process with the same number."""
        self._number += 1
        began = datetime.fromtimestamp(self._clock(), UTC)
        name = f"{began:%Y%m%dT%H%M%S}-{os.getpid()}-{self._token}-{self._number:06}{_OPEN}"
        return self._folder / f"{began:%Y-%m-%d}" / name

    def _recover(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            recover(self._folder)
        except (OSError, StorageError) as error:
            log.warning("open parts of the inference log cannot be closed: %s", error)

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
        self.path = path
        self._file = _create(path)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # until this process ends, however it ends
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self._since = time.monotonic()

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self._file.flush()

    def sync(self) -> None:
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


def _create(path: Path) -> BinaryIO:
    """Create a file. Another process may remove the empty folder of the day meanwhile."""
    for _ in range(3):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return path.open("xb")
    return path.open("xb")


def parts(folder: Path) -> Iterator[Path]:
    """Yield every part of a log, oldest first: an open one only if it is not closed, too."""
    # a part that is closed between the two lists is in both of them, and not in none
    listed = {path.with_suffix(""): path for path in folder.glob(f"*/*{_OPEN}")}
    listed |= {path.with_suffix(""): path for path in folder.glob(f"*/*{_CLOSED}")}
    yield from (path for _, path in sorted(listed.items()))


def read(
    path: Path, columns: list[str] | None = None, rows: pc.Expression | None = None
) -> tuple[pa.Table, int]:
    """Return the rows of a part, and how many bytes at its end are no complete batch.

    Args:
        path: a Parquet file, or an open part, which may end anywhere.
        columns: the columns to read; None for all.
        rows: a condition on the rows to read; None for all.

    Raises:
        pyarrow.ArrowInvalid: the Parquet file is damaged.
    """
    if path.suffix == _CLOSED:
        table = pq.read_table(
            files.regular(path), schema=SCHEMA, columns=columns, filters=rows, partitioning=None
        )
        for field in table.schema:
            if field.name != "pixels" and table[field.name].null_count:
                raise pa.ArrowInvalid(f"{path} is no part of a log: a value of {field.name} is missing")
        return table, 0
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
    table = pa.Table.from_batches(batches, SCHEMA)
    if rows is not None:
        table = table.filter(rows)
    return table if columns is None else table.select(columns), len(content) - end


def read_each(
    folder: Path, columns: list[str] | None = None, rows: pc.Expression | None = None
) -> Iterator[tuple[Path, pa.Table | Exception, int]]:
    """Yield each part of a log, oldest first: path, rows, and the size of its torn end.

    A service may write, close and remove parts meanwhile. Instead of its rows, a damaged part has the error.

    Args:
        folder: the log.
        columns: the columns to read; None for all.
        rows: a condition on the rows to read; None for all.
    """
    for listed in parts(folder):
        for path in (listed, listed.with_suffix(_CLOSED)):  # it was closed since it was listed
            try:
                table, torn = read(path, columns, rows)
            except FileNotFoundError:
                continue
            except (pa.ArrowException, OSError, DataError) as error:
                yield path, error, 0
            else:
                yield path, table, torn
            break


def read_all(folder: Path) -> pa.Table:
    """Return the rows of all parts of a log, oldest part first; no row if there is no log.

    Raises:
        pyarrow.ArrowInvalid: a Parquet file is damaged.
    """
    tables = [SCHEMA.empty_table()]
    for _, table, _ in read_each(folder):
        if isinstance(table, Exception):
            raise table
        tables.append(table)
    return pa.concat_tables(tables)


def recover(folder: Path) -> None:
    """Turn the open parts of processes that are dead into Parquet.

    Raises:
        OSError, StorageError: the disk is full or broken.
    """
    for path in folder.glob(f"*/*{_OPEN}"):
        if not path.is_file():  # a pipe would never answer
            continue
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
    closed = sorted(folder.glob(f"*/*{_CLOSED}"), reverse=True)
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
    target = path.with_suffix(_CLOSED)
    if not target.exists():
        table, torn = read(path)
        if torn:
            log.warning("%s: the last batch is torn; %d bytes are dropped", path, torn)
        if table.num_rows:
            with files.replacing(target) as partial:
                pq.write_table(table, partial, compression="zstd")
    path.unlink()


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


def to_batch(
    records: Sequence[Record], answers: Answers, *, pixels: bool, rows: NDArray[np.int32] | None = None
) -> pa.RecordBatch:
    """Return the rows of some records of one version and route. Only the digests need a loop over images.

    Args:
        records: what was asked.
        answers: of these records.
        pixels: whether the images are kept.
        rows: the positions of the images; None for those in each record, from 0.
    """
    first, total = records[0], len(answers.best)
    counts = np.array([len(record.images) for record in records])
    images = np.concatenate([record.images for record in records]).reshape(total, -1)
    size, classes = images.shape[1], answers.probabilities.shape[1]
    ids = pa.array([record.request_id for record in records], pa.string())
    times = np.array([record.time_us for record in records], "datetime64[us]")
    begins = np.repeat(counts.cumsum() - counts, counts)
    content = images.reshape(-1).data
    digests = b"".join(
        [hashlib.sha256(content[begin : begin + size]).digest() for begin in range(0, total * size, size)]
    )
    offsets = pa.py_buffer(np.arange(0, total * size + 1, size, dtype=np.int32))

    def same(value: object, name: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, SCHEMA.field(name).type), total)

    columns = [
        ids if len(records) == total else ids.take(pa.array(np.repeat(np.arange(len(records)), counts))),
        pa.array((np.arange(total) - begins).astype(np.int32) if rows is None else rows),
        pa.array(np.repeat(times, counts), SCHEMA.field("time").type),
        same(first.route, "route"),
        same(first.model, "model"),
        same(first.version, "version"),
        same(first.digest, "model_sha256"),
        pa.array(first.classes, pa.string()).take(pa.array(answers.best)),
        pa.array(answers.confidence),
        pa.ListArray.from_arrays(
            pa.array(np.arange(0, total * classes + 1, classes, dtype=np.int32)),
            pa.array(answers.probabilities.reshape(-1)),
        ),
        pa.Array.from_buffers(pa.binary(32), total, [None, pa.py_buffer(digests)]),
        pa.Array.from_buffers(pa.binary(), total, [None, offsets, pa.py_buffer(images)])
        if pixels
        else pa.nulls(total, pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
