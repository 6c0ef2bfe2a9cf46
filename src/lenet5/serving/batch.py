"""Score many images without a service, and write the answers as the inference log has them.

    files → chunks of images → scores → rows of the output, and of the inference log

The memory does not grow with the size of the inputs. The output appears when all inputs are scored, complete
or not at all.
"""

import hashlib
import io
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.serving import inference_log, picture, predictor, request_images
from lenet5.serving.errors import RequestError
from lenet5.serving.inference_log import LogWriter
from lenet5.serving.log_queue import Record, Rows, pieces
from lenet5.serving.predictor import Model
from lenet5.serving.request_id import RequestIds
from lenet5.system.state import LocalState

ROUTE = "batch"
SCHEMA = inference_log.SCHEMA.append(pa.field("source", pa.string(), nullable=False))
"""Columns of the output: those of the inference log, and the file. ``row`` is the position in the file."""
_PICTURES = (".png", ".jpg", ".jpeg")
_ARRAYS = (".npy",)
_TABLES = (".parquet",)
_READABLE = (*_PICTURES, *_ARRAYS, *_TABLES)
_CHUNK = 1000
"""Number of images that are scored and written at a time."""
_COLUMNS = ("image", "pixels", "img", "images", "picture")
"""Names of the column with the images of a Parquet file, in order of preference."""
_PICTURE_BYTES = (b"\x89PNG", b"\xff\xd8\xff")
"""How PNG and JPEG files begin."""

Images = NDArray[np.uint8]
OnUnusable = Callable[[str, DataError], None]
"""Called with the name of a file, or of a row in it, and why it has no answer."""


@dataclass(frozen=True)
class Chunk:
    """Images of one file."""

    source: Path
    request_id: str
    rows: NDArray[np.int32]
    """(N,) the positions in the file."""
    images: Images
    """(N, H, W), or (N, H, W, 3) for RGB."""


@dataclass(frozen=True)
class Result:
    """What was scored."""

    version: int
    files: int
    """That have an answer or more."""
    images: int


def inputs(given: Sequence[Path], output: Path) -> list[Path]:
    """Return the files to score, in their order: a folder stands for all images below it.

    Args:
        given: files and folders.
        output: the file with the answers, which is no input.

    Raises:
        DataError: a folder has no file that can be scored.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        below = [
            each
            for each in sorted(path.rglob("*"))
            if each.suffix.lower() in _READABLE
            and not any(part.startswith(".") for part in each.relative_to(path).parts)
            and each.resolve() != output.resolve()
        ]
        if not below:
            raise DataError(f"{path} has no images.", expected=f"files that end with {', '.join(_READABLE)}")
        found += below
    return found


def score(
    paths: Paths,
    model_name: str,
    version: str,
    sources: Iterable[Path],
    output: Path,
    *,
    logged: bool,
    on_unusable: OnUnusable,
    on_scored: Callable[[int], None] = lambda _: None,
) -> Result:
    """Score files, and write a Parquet file with the columns of ``SCHEMA``.

    Args:
        paths: the checkout.
        model_name: name of the registered model.
        version: a number or an alias.
        sources: PNG and JPEG pictures, NPY files, Parquet files.
        output: the file to write. It is replaced when all images are scored.
        logged: whether the answers become rows of the inference log, too.
        on_unusable: called with each file or row that has no answer.
        on_scored: called with the number of images that were scored so far.

    Raises:
        DataError: no image can be scored, or the model file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
        StorageError: the disk is full or broken.
    """
    picture.reject_what_pillow_warns_about()
    model, digest = _load(paths, model_name, version)
    folder = LocalState(paths.root).serving
    ids = RequestIds.of_folder(folder)
    log = LogWriter(folder / "log", max_days=math.inf, max_megabytes=math.inf)
    images, used = 0, set[Path]()
    chunks = (chunk for source in sources for chunk in _read(source, ids.new(), model, on_unusable))
    with closing(log), files.replacing(output) as partial, pq.ParquetWriter(partial, SCHEMA) as writer:
        for some in pieces(chunks, _CHUNK):
            probabilities = model.probabilities(np.concatenate([chunk.images for chunk in some]))
            ends = np.cumsum([len(chunk.images) for chunk in some])
            now = time.time_ns() // 1000
            records = [
                Record(
                    chunk.request_id,
                    now,
                    ROUTE,
                    model_name,
                    model.number,
                    digest,
                    model.description.classes,
                    chunk.images,
                    scored,
                )
                for chunk, scored in zip(some, np.split(probabilities, ends[:-1]), strict=True)
            ]
            rows = np.concatenate([chunk.rows for chunk in some])
            batch = inference_log.to_batch(Rows.of(records), pixels=False, positions=rows)
            names = np.repeat(
                [_as_text(chunk.source) for chunk in some], [len(chunk.images) for chunk in some]
            )
            writer.write_batch(batch.append_column(SCHEMA.field("source"), pa.array(names, pa.string())))
            if logged:
                log.write(batch)
                log.sync()
                log.rotate()
            images += len(rows)
            used.update(chunk.source for chunk in some)
            on_scored(images)
        if not images:
            raise DataError(
                "None of the images can be scored.",
                expected=f"files that end with {', '.join(_READABLE)}, with images of the model",
                found="no usable image",
                fix="look at the messages above",
            )
    return Result(model.number, len(used), images)


def _load(paths: Paths, name: str, version: str) -> tuple[Model, str]:
    """Return a version and the SHA-256 of its ONNX file; empty for a version of an earlier release."""
    number, content = predictor.onnx_file(paths, name, version)
    if content is None:
        return predictor.load(paths, name, str(number)), ""
    return predictor.of_onnx(number, content), hashlib.sha256(content).hexdigest()


def _read(source: Path, request_id: str, model: Model, on_unusable: OnUnusable) -> Iterator[Chunk]:
    """Yield the images of a file; a file or a row that is unusable is reported instead."""
    suffix = source.suffix.lower()
    try:
        if suffix in _ARRAYS:
            parts = _of_array(source, model)
        elif suffix in _TABLES:
            parts = _of_table(source, model, on_unusable)
        else:
            parts = _of_picture(source, model)
        for rows, images in parts:
            yield Chunk(source, request_id, np.asarray(rows, np.int32), images)
    except DataError as error:
        on_unusable(str(source), error)


def _of_picture(source: Path, model: Model) -> Iterator[tuple[Sequence[int], Images]]:
    yield [0], predictor.read(source, model.description, model.shape)[None]


def _of_array(source: Path, model: Model) -> Iterator[tuple[Sequence[int], Images]]:
    """Yield the images of an NPY file, which is mapped into memory. A file that needs pickle is refused."""
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(files.regular(source), mode="r")
    except DataError:
        raise
    except Exception as error:  # NumPy parses the header as Python, so a damaged one raises many kinds
        raise _unreadable(source, "an NPY file, written with numpy.save", error) from None
    if array.ndim == len(model.shape):
        array = array[None]
    for start in range(0, max(1, len(array) if array.ndim else 0), _CHUNK):
        where = str(source) if start == 0 else f"{source}, rows from {start:,}"
        images = _checked(np.asarray(array[start : start + _CHUNK] if array.ndim else array), model, where)
        yield range(start, start + len(images)), images


def _of_table(source: Path, model: Model, on_unusable: OnUnusable) -> Iterator[tuple[Sequence[int], Images]]:
    """Yield the images of a Parquet file: pictures, raw pixels, or lists of pixels."""
    try:
        file = pq.ParquetFile(files.regular(source))
        column = _column_of_images(source, file.schema_arrow)
        start = 0
        for batch in file.iter_batches(_CHUNK, columns=[column]):
            rows: list[int] = []
            images: list[Images] = []
            for row, value in enumerate(batch.column(0).to_pylist(), start=start):
                where = f"{source}, row {row:,}"
                try:
                    images.append(_of_value(value, model, where))
                    rows.append(row)
                except DataError as error:
                    on_unusable(where, error)
            start += batch.num_rows
            if images:
                yield rows, np.stack(images)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, "a complete Parquet file", error) from None


def _column_of_images(source: Path, schema: pa.Schema) -> str:
    """Return the name of the column with the images.

    Raises:
        DataError: there is none.
    """
    kinds = pa.types
    can_hold = [
        field.name
        for field in schema
        if kinds.is_struct(field.type)
        or kinds.is_binary(field.type)
        or kinds.is_large_binary(field.type)
        or kinds.is_list(field.type)
        or kinds.is_large_list(field.type)
        or kinds.is_fixed_size_list(field.type)
    ]
    named = [name for wanted in _COLUMNS for name in can_hold if name.lower() == wanted]
    if named or len(can_hold) == 1:
        return (named or can_hold)[0]
    raise DataError(
        f"{source} has no column of images.",
        expected=f"one of {', '.join(_COLUMNS)}: pictures, raw pixels, or lists of pixels",
        found=", ".join(schema.names[:20]),
        fix="name the column with the images `image`",
    )


def _of_value(value: Any, model: Model, where: str) -> Images:
    """Return an image, uint8 of the shape of the model, from the value of a row.

    Raises:
        DataError: it is none.
    """
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        if content.startswith(_PICTURE_BYTES):
            return picture.decode(io.BytesIO(content), where, model.description, model.shape)
        if len(content) != math.prod(model.shape):
            raise DataError(
                f"{where} is no image.",
                expected=f"a PNG or JPEG picture, or {math.prod(model.shape):,} bytes of pixels",
                found=f"{len(content):,} other bytes",
            )
        return np.frombuffer(content, np.uint8).reshape(model.shape)
    if not isinstance(content, list):
        raise DataError(f"{where} is no image.", expected="a picture or pixels", found=repr(content)[:50])
    try:
        array = np.asarray(content)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where} is no image.", expected="lists of equal length", found=error) from None
    if array.dtype.kind not in "buif":
        raise DataError(f"{where} is no image.", expected="lists of numbers", found=f"dtype {array.dtype}")
    if array.shape == (math.prod(model.shape),):
        array = array.reshape(model.shape)
    return _checked(array, model, where)[0]


def _checked(array: NDArray[Any], model: Model, where: str) -> Images:
    """Return an array as images of the model, without a loss.

    Raises:
        DataError: it has another shape, or a value that is no grey value.
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: the array holds no numbers.", expected="uint8", found=array.dtype)
    try:
        return request_images.checked(array, model)
    except RequestError as error:
        details = error.details
        raise DataError(
            f"{where}: {error.message}",
            expected=details.get("expected"),
            found=details.get("found"),
            fix=details.get("fix"),
        ) from None


def _as_text(path: Path) -> str:
    """Return a path as Parquet can hold it: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _unreadable(source: Path, expected: str, error: Exception) -> DataError:
    reason = "no file of this name" if isinstance(error, FileNotFoundError) else str(error).strip()
    return DataError(
        f"{source} cannot be read.",
        expected=expected,
        found=(reason or type(error).__name__).splitlines()[0],
        fix="check the path and the file",
    )
