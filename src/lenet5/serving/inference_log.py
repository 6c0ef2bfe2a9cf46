"""The inference log: what was asked and answered, in Parquet files.

The service sends rows to a process of this module (:mod:`lenet5.serving.log_queue` says how), which writes
them once a second to an open part, an Arrow stream. A part that is large or old enough becomes a Parquet
file, by a rename:

    2026-11-27/20261127T101502-4711-a1b2c3-000001.arrows     open: complete up to its last batch
    2026-11-27/20261127T101502-4711-a1b2c3-000001.parquet    closed

After ``kill -9`` of both processes at most the last second is missing. The next start, or the next part that
is closed, turns open parts of dead processes into Parquet and drops the torn batch at the end of a stream.
When the disk is full, rows are dropped and counted, and requests are answered; a part for which there is no
space as Parquet stays open until there is.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.errors import DataError, StorageError
from lenet5.serving.log_queue import FLUSH, Report, Rows, WriterOptions
from lenet5.system import logs

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
_OPEN, _CLOSED = ".arrows", ".parquet"
_ROTATE_SECONDS = 300.0
_ROTATE_BYTES = 16_000_000


class LogWriter:
    """Writes rows to parts."""

    def __init__(
        self, folder: Path, *, max_days: float, max_megabytes: float, clock: Callable[[], float] = time.time
    ) -> None:
        """Remember what to write where.

        Args:
            folder: one folder for each day is created in it.
            max_days: the age after which closed parts are removed.
            max_megabytes: the size of all closed parts beyond which the oldest are removed.
            clock: the time in seconds since 1970.
        """
        self._folder = folder
        self._max_days = max_days
        self._max_bytes = max_megabytes * 1e6
        self._clock = clock
        self._part: _Part | None = None
        self._token = secrets.token_hex(3)
        self._number = 0

    def recover(self) -> None:
        """Close the parts of processes that died."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("the folder of the inference log cannot be made: %s", error)
        else:
            recover(self._folder)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows to the open part.

        Raises:
            OSError: the disk is full or broken.
        """
        if self._part is None:
            self._part = _Part(self._new_path())
        self._part.write(batch)

    def sync(self) -> None:
        """Wait until the rows are on the disk.

        Raises:
            OSError: the disk is full or broken.
        """
        if self._part:
            self._part.sync()

    def rotate(self) -> None:
        """Close the part if it is large or old enough."""
        if self._part and self._part.is_full():
            self.close()

    def abandon(self) -> None:
        """Leave a part in which a batch may be torn; it becomes Parquet as after a crash."""
        part, self._part = self._part, None
        if part:
            part.abandon()
            recover(self._folder)

    def close(self) -> None:
        """Turn the open part and those for which the disk was too full into Parquet; remove old parts."""
        part, self._part = self._part, None
        if part is None:
            return
        try:
            part.close()
        except OSError as error:
            log.warning("%s cannot be closed: %s", part.path, error)
        recover(self._folder)
        remove_old(self._folder, self._clock(), self._max_days, self._max_bytes)

    def _new_path(self) -> Path:
        """Return the path of a new part. The token keeps it apart from a process with the same number."""
        self._number += 1
        began = datetime.fromtimestamp(self._clock(), UTC)
        name = f"{began:%Y%m%dT%H%M%S}-{os.getpid()}-{self._token}-{self._number:06}{_OPEN}"
        return self._folder / f"{began:%Y-%m-%d}" / name


class _Part:
    """An open part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _create(path)
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
        try:
            self._writer.close()
        finally:
            self._file.close()

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:
            log.debug("%s cannot be closed", self.path)


def _create(path: Path) -> BinaryIO:
    """Create a file that only this user can read, and lock it until this process ends.

    Another process may remove the empty folder of the day meanwhile, or take the file, while it has no lock
    yet, for that of a dead process and remove it.
    """
    for _ in range(10):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            file = open(path, "xb", opener=partial(os.open, mode=0o600))  # noqa: SIM115
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()
    raise OSError(errno.EIO, "it is removed again and again", str(path))


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
    """Turn the open parts that no process has locked into Parquet. If that fails, a part stays as it is."""
    for path in folder.glob(f"*/*{_OPEN}"):
        if not path.is_file():  # to open a named pipe would wait for a writer
            continue
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _convert(path)
        except (BlockingIOError, FileNotFoundError):  # its process runs, or another one has just closed it
            continue
        except (OSError, StorageError, DataError, pa.ArrowException) as error:
            log.warning("%s stays an open part: %s", path, error)


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
        except OSError as error:
            log.warning("%s cannot be removed: %s", path, error)
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
            with files.replacing(target) as unfinished:
                pq.write_table(table, unfinished, compression="zstd")
                unfinished.chmod(0o600)
    path.unlink()


def to_batch(rows: Rows, *, pixels: bool, positions: NDArray[np.int32] | None = None) -> pa.RecordBatch:
    """Return the rows of the log. Only the digests need a loop over images.

    Args:
        rows: what was asked and answered.
        pixels: whether the images are kept.
        positions: of the images; None for those in each record, from 0.
    """
    answers, counts = rows.answers, rows.counts
    total, classes = answers.probabilities.shape
    images = np.ascontiguousarray(rows.images).reshape(total, -1)
    size = images.shape[1]
    content = images.reshape(-1).data
    digests = b"".join(
        [hashlib.sha256(content[begin : begin + size]).digest() for begin in range(0, total * size, size)]
    )
    if positions is None:
        positions = (np.arange(total) - np.repeat(counts.cumsum() - counts, counts)).astype(np.int32)
    records = _array(np.repeat(np.arange(len(counts)), counts), pa.int64())

    def same(value: object, name: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, SCHEMA.field(name).type), total)

    columns = [
        pa.array(rows.request_ids, pa.string()).take(records),
        _array(positions, pa.int32()),
        _array(np.repeat(rows.times_us, counts), SCHEMA.field("time").type),
        same(rows.route, "route"),
        same(rows.model, "model"),
        same(answers.version, "version"),
        same(answers.digest, "model_sha256"),
        pa.array(answers.classes, pa.string()).take(_array(answers.best.astype(np.int64), pa.int64())),
        _array(answers.confidence, pa.float32()),
        pa.ListArray.from_arrays(
            _array(np.arange(0, total * classes + 1, classes, dtype=np.int32), pa.int32()),
            _array(answers.probabilities.reshape(-1), pa.float32()),
        ),
        pa.Array.from_buffers(pa.binary(32), total, [None, pa.py_buffer(digests)]),
        pa.Array.from_buffers(
            pa.binary(),
            total,
            [
                None,
                pa.py_buffer(np.arange(0, total * size + 1, size, dtype=np.int32)),
                pa.py_buffer(images.reshape(-1)),
            ],
        )
        if pixels
        else pa.nulls(total, pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return values as Arrow has them. ``pa.array`` would import pandas, if it is installed: 50 MB."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _write_what_arrives(source: BinaryIO, sink: BinaryIO, writer: LogWriter, *, pixels: bool) -> None:
    """Write rows until the service ends; each line ``FLUSH`` in between asks for a report.

    Args:
        source: :class:`Rows`, each a line of JSON and the bytes of its arrays, and ``FLUSH``.
        sink: for a :class:`Report` as one line of JSON.
        writer: of the rows.
        pixels: whether the images are kept.
    """
    was_full = False
    written = 0
    problem: OSError | None = None
    while (line := source.readline()).endswith(b"\n"):
        if line != FLUSH:
            try:
                rows = Rows.read(json.loads(line), source)
            except EOFError:
                break
            if problem is None:
                try:
                    writer.write(to_batch(rows, pixels=pixels))
                    written += len(rows.images)
                except OSError as error:
                    problem = error
            continue
        if problem is None:
            try:
                writer.sync()
            except OSError as error:
                written, problem = 0, error
        if problem is not None:
            writer.abandon()
            was_full = True
        elif was_full and written:
            writer.recover()
            was_full = False
        report = Report(written, str(problem or ""))
        with suppress(OSError):  # the service ended, which the next read notices
            sink.write(json.dumps(vars(report)).encode() + b"\n")
            sink.flush()
        written, problem = 0, None
        writer.rotate()
    writer.close()  # the service ended, perhaps in the middle of a line or of an array


def main() -> None:
    """Be the child process of :class:`lenet5.serving.log_queue.InferenceLog`."""
    options = WriterOptions(**json.loads(sys.argv[1]))
    logs.configure(verbose=options.verbose, log_format=options.log_format)
    writer = LogWriter(Path(options.folder), max_days=options.max_days, max_megabytes=options.max_megabytes)
    writer.recover()
    # what a library prints must not mix with the reports
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _write_what_arrives(sys.stdin.buffer, reports, writer, pixels=options.pixels)


if __name__ == "__main__":
    main()
