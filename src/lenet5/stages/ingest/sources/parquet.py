"""Read Parquet files: pictures as Hugging Face stores them, lists of pixels, or a column for each pixel."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.stages.ingest import labels, pictures
from lenet5.stages.ingest.source import overview
from lenet5.stages.ingest.sources.contract import (
    LABELS,
    TEST,
    TRAIN,
    VALIDATION,
    Part,
    Reader,
    Reading,
    by_split,
)
from lenet5.stages.ingest.sources.table import overview_of_columns

_ROWS = 2_000
_FINE_LABELS = ("fine_label", "coarse_label")


@dataclass(frozen=True)
class Columns:
    """The columns of a file that are used."""

    label: str
    images: Sequence[str]
    """One column of pictures or lists, or one for each pixel."""
    names: Sequence[str]
    """The names of the classes, if the file states them."""


def read(reader: Reader) -> Reading:
    """Open the files of each split; several files of a split are read in the order of their names.

    Raises:
        DataError: no file has images and labels, or there are several data sets.
    """
    names = reader.listed("the URL of one file that ends with .parquet")
    files = [name for name in names if name.lower().endswith(".parquet")]
    if not files:
        raise DataError(
            f"{reader.source.url} has no Parquet file.",
            expected="files that end with .parquet",
            found=overview(names),
            fix="check ingest.source in params.yaml",
        )
    groups = by_split(files, reader.source)
    usable: dict[str, list[str]] = {}
    notes: list[str] = []
    classes: Sequence[str] = ()
    reasons: list[str] = []
    for split, some in groups.items():
        with reader.file(some[0]) as (name, file):
            columns = _columns(_opened(file, name).schema_arrow)
        if isinstance(columns, str):
            notes.append(f"Left out: {some[0]}, {columns}.")
            reasons.append(f"{some[0]}: {columns}")
            continue
        usable[split] = some
        classes = classes or columns.names
    if TRAIN not in usable:
        raise DataError(
            f"{reader.source.url} has no images with labels for train.",
            expected=f"a column of labels ({', '.join(LABELS[:4])}, …), and a column of pictures, "
            "a column of lists of pixels, or a column for each pixel",
            found="; ".join(reasons) or overview(names),
            fix="check ingest.source in params.yaml",
        )
    return Reading(_parts(reader, usable), names=classes, notes=notes)


def _parts(reader: Reader, groups: dict[str, list[str]]) -> Iterator[Part]:
    for split in (TRAIN, VALIDATION, TEST):
        for each in groups.get(split, ()):
            with reader.file(each) as (name, file):
                yield from _rows(file, name, split)


def _rows(file: BinaryIO, name: str, split: str) -> Iterator[Part]:
    import pyarrow as pa

    opened = _opened(file, name)
    columns = _columns(opened.schema_arrow)
    if isinstance(columns, str):
        raise DataError(
            f"{name} has other columns than the files before it.",
            expected="images and labels",
            found=columns,
            fix="remove the file, or name one data set in ingest.source",
        )
    start = 0
    try:
        for batch in opened.iter_batches(batch_size=_ROWS, columns=[columns.label, *columns.images]):
            origin = f"{name}, rows from {start:,}"
            table = pa.Table.from_batches([batch])
            column = table.column(columns.label)
            values: Any = column.to_pylist() if column.null_count else column.to_numpy()
            codes = labels.from_column(values, origin, start)
            is_number = codes.dtype.kind == "i"
            yield Part(
                split,
                origin,
                images=_images(table, columns, name, start),
                labels=codes,
                names=columns.names if is_number else (),
            )
            start += len(table)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, error) from error


def _images(table: Any, columns: Columns, name: str, start: int) -> Array | list[Array]:
    if len(columns.images) > 1:
        return np.stack([_numbers(table.column(c), c, name, start) for c in columns.images], axis=1)
    column = table.column(columns.images[0])
    if column.null_count:
        raise _no_image(name, start + column.is_null().to_pylist().index(True), "nothing")
    if _is_list(column.type):
        return _lists(column, name, start)
    values = column.to_pylist()
    images = []
    for row, value in enumerate(values, start=start):
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise _no_image(name, row, f"the path {value.get('path')!r}, and no bytes")
        images.append(pictures.decode(content, f"{name}, row {row:,} (from 0)"))
    return images


def _lists(column: Any, name: str, start: int) -> Array:
    values = column.combine_chunks()
    shape: list[int] = [len(values)]
    while _is_list(values.type):
        lengths = {len(each) for each in values}
        if len(lengths) != 1 or values.null_count:
            raise _no_image(name, start, f"lists of {sorted(lengths)[:5]} values")
        shape.append(lengths.pop())
        values = values.flatten()
    if values.null_count:
        raise _no_image(name, start, "a list with a missing value")
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _numbers(column: Any, label: str, name: str, start: int) -> Array:
    if column.null_count:
        row = start + column.is_null().to_pylist().index(True)
        raise DataError(
            f"{name} has a pixel that is no number.",
            expected="a number in every column of pixels",
            found=f"nothing in row {row:,} (from 0), column {label}",
            fix="correct the row, or remove it",
        )
    return column.to_numpy()


def _columns(schema: Any) -> Columns | str:
    """Return the columns to use; a text says why there are none."""
    from pyarrow import types

    lower = {field.name.lower(): field.name for field in schema}
    label = next((lower[each] for each in (*LABELS, *_FINE_LABELS) if each in lower), None)
    if label is None:
        return f"it has no column of labels, but {overview_of_columns(schema.names)}"
    classes = _class_names(schema, label)
    others = [field for field in schema if field.name != label]
    pictures_ = [field.name for field in others if _is_picture(field.type)]
    lists = [field.name for field in others if _is_list(field.type)]
    if len(pictures_) + len(lists) == 1:
        return Columns(label, pictures_ + lists, classes)
    if pictures_ or lists:
        preferred = [lower[each] for each in ("image", "img", "images", "picture", "pixels") if each in lower]
        chosen = [each for each in preferred if each in pictures_ + lists]
        if not chosen:
            return f"it has several columns of images: {', '.join(pictures_ + lists)}"
        return Columns(label, chosen[:1], classes)
    numbers = [
        field.name
        for field in others
        if (types.is_integer(field.type) or types.is_floating(field.type))
        and not field.name.startswith("__index_level")
    ]
    if int(len(numbers) ** 0.5 + 0.5) ** 2 != len(numbers) or len(numbers) < 2:
        return f"it has no images, but {overview_of_columns(schema.names)}"
    return Columns(label, numbers, classes)


def _class_names(schema: Any, label: str) -> Sequence[str]:
    """Return the names in the metadata that Hugging Face's library writes."""
    try:
        stated = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = stated["info"]["features"][label].get("names", ())
    except (ValueError, KeyError, AttributeError, TypeError):
        return ()
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return [str(name) for name in names or ()]


def _is_picture(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        inner = [kind.field(number) for number in range(kind.num_fields)]
        return any(f.name == "bytes" and (_is_binary(f.type) or types.is_null(f.type)) for f in inner)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _opened(file: BinaryIO, name: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, error) from error


def _no_image(name: str, row: int, found: str) -> DataError:
    return DataError(
        f"{name} has a row without an image.",
        expected="an image of the same shape in every row, with its bytes",
        found=f"{found} in row {row:,} (from 0)",
        fix="correct the row, or remove it; a file that only names pictures needs them embedded",
    )


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name} cannot be read.",
        expected="a complete Parquet file",
        found=str(error).strip().partition("\n")[0],
        fix="download the file again",
    )
