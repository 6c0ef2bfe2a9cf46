"""Read CSV, TSV and ARFF files: one image in each row, a column of labels, a column for each pixel."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.stages.ingest import labels
from lenet5.stages.ingest.source import ending, overview
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

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = {".csv", ".tsv", ".arff"}
_ROWS = 5_000
"""Rows in one part: 31 MB of 64-bit numbers for 784 pixels."""
_SAMPLE = 200
_INDEX = re.compile(r"(unnamed.*|index|id|row_?id)?$", re.I)
"""Names of columns that are neither pixels nor labels, if there is one column too many."""
_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.I)
_DAMAGE = (ValueError, UnicodeDecodeError, OverflowError, csv.Error)  # pandas' errors are ValueErrors


@dataclass(frozen=True)
class Layout:
    """Where a table has its labels and pixels."""

    columns: Sequence[str]
    label: int
    """The position of the column with the labels."""
    pixels: Sequence[int]
    skip: int
    """Lines before the first row."""
    separator: str
    names: Sequence[str] = ()
    """The classes that an ARFF header declares."""


def read(reader: Reader) -> Reading:
    """Open one table, or one for each split.

    Raises:
        DataError: no file has labels and pixels, or there are several data sets.
    """
    names = reader.listed("the URL of one file that ends with .csv, .tsv, .arff or .parquet")
    files = [name for name in names if ending(name) in ENDINGS]
    layouts: dict[str, Layout] = {}
    reasons: dict[str, str] = {}
    for name in files:
        with reader.file(name) as (_, file):
            layout = _layout(file, name)
        if isinstance(layout, str):
            reasons[name] = layout
        else:
            layouts[name] = layout
    if not layouts:
        raise DataError(
            f"{reader.source.url} has no table of images.",
            expected=f"a column of labels ({', '.join(LABELS[:4])}, …) and a column for each pixel",
            found="; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or overview(names),
            fix="check ingest.source in params.yaml",
        )
    groups = by_split(layouts, reader.source)
    notes = [f"Left out: {name}, {reason}." for name, reason in reasons.items()]
    classes = next((layout.names for layout in layouts.values() if layout.names), ())
    return Reading(_parts(reader, groups, layouts), names=classes, notes=notes)


def _parts(reader: Reader, groups: dict[str, list[str]], layouts: dict[str, Layout]) -> Iterator[Part]:
    for split in (TRAIN, VALIDATION, TEST):
        for name in groups.get(split, ()):
            with reader.file(name) as (_, file):
                yield from _rows(file, name, split, layouts[name])


def _rows(file: BinaryIO, name: str, split: str, layout: Layout) -> Iterator[Part]:
    import pandas as pd

    start = 0
    try:
        frames = pd.read_csv(
            file,
            sep=layout.separator,
            header=None,
            skiprows=layout.skip,
            chunksize=_ROWS,
            quotechar="'" if ending(name) == ".arff" else '"',
            comment="%" if ending(name) == ".arff" else None,
            skipinitialspace=True,
            names=list(range(len(layout.columns))),
            index_col=False,
            keep_default_na=False,
            na_values=["", "?", "NaN", "nan"],
        )
        for frame in frames:
            pixels = frame.iloc[:, list(layout.pixels)]
            images = _numbers(pixels, name, start, layout)
            column = frame.iloc[:, layout.label]
            values: Any = column.to_numpy() if column.dtype.kind in "iuf" else column.tolist()
            origin = f"{name}, rows from {start:,}"
            yield Part(split, origin, images=images, labels=labels.from_column(values, origin, start))
            start += len(frame)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"{name} cannot be read as a table.",
            expected=f"{len(layout.columns)} columns in every row",
            found=f"{str(error).strip()} (after {start:,} rows)",
            fix="correct the file, or download it again",
        ) from error


def _numbers(pixels: "pd.DataFrame", name: str, start: int, layout: Layout) -> Array:
    """Return the pixels of some rows.

    Raises:
        DataError: a value is missing or no number.
    """
    if all(dtype.kind in "iu" for dtype in pixels.dtypes):
        return pixels.to_numpy()
    import pandas as pd

    numbers = pixels.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if np.isfinite(numbers).all():
        return numbers
    row, column = np.argwhere(~np.isfinite(numbers))[0]
    value = pixels.iat[int(row), int(column)]
    missing = isinstance(value, float)
    raise DataError(
        f"{name} has a pixel that is no number.",
        expected="a number in every column of pixels",
        found=f"{'nothing' if missing else repr(value)} in row {start + row:,} (from 0), "
        f"column {layout.columns[layout.pixels[column]]}",
        fix="correct the row, or remove it",
    )


def _layout(file: BinaryIO, name: str) -> Layout | str:
    """Return where a table has what; a text says why it cannot be used."""
    try:
        if ending(name) == ".arff":
            return _of_arff(file)
        lines = [file.readline(4_000_000).decode("utf-8-sig") for _ in range(_SAMPLE + 1)]
    except UnicodeDecodeError:
        return "it is no text in UTF-8"
    sample = [line for line in lines if line.strip()]
    if not sample:
        return "it is empty"
    separator = "\t" if ending(name) == ".tsv" else max(",;\t", key=sample[0].count)
    rows = list(csv.reader(sample, delimiter=separator))
    has_header = not all(_is_number(value) for value in rows[0])
    body = rows[1:] if has_header else rows
    columns = rows[0] if has_header else [str(number) for number in range(len(rows[0]))]
    if not body:
        return "it has a header and no rows"
    label = _label(columns, body, has_header)
    if isinstance(label, str):
        return label
    return _with_pixels(columns, label, skip=int(has_header), separator=separator)


def _label(columns: Sequence[str], body: Sequence[Sequence[str]], has_header: bool) -> int | str:
    if has_header:
        lower = [column.strip().lower() for column in columns]
        for wanted in LABELS:
            if wanted in lower:
                return lower.index(wanted)
        return f"it has no column of labels, but {overview_of_columns(columns)}"
    if len(columns) < 2:
        return "it has one column"
    for column in (0, len(columns) - 1):  # a pixel of the border is often the same in all images
        if len({row[column] for row in body if len(row) > column}) > 1:
            return column
    return 0


def _with_pixels(
    columns: Sequence[str], label: int, *, skip: int, separator: str, names: Sequence[str] = ()
) -> Layout | str:
    pixels = [column for column in range(len(columns)) if column != label]
    if not _is_square(len(pixels)):
        pixels = [column for column in pixels if not _INDEX.match(columns[column].strip())]
    if not _is_square(len(pixels)):
        found = overview_of_columns(columns)
        return f"it has {len(pixels)} columns of pixels, which is no square image: {found}"
    return Layout(columns, label, pixels, skip, separator, names)


def _of_arff(file: BinaryIO) -> Layout | str:
    columns: list[str] = []
    nominal: dict[int, list[str]] = {}
    lines = 0
    for line in iter(lambda: file.readline(4_000_000), b""):
        lines += 1
        text = line.decode("utf-8").strip()
        if match := _ATTRIBUTE.match(text):
            if match[2].startswith("{"):
                values = next(csv.reader([match[2].strip("{} ")], quotechar="'", skipinitialspace=True))
                nominal[len(columns)] = [value.strip() for value in values]
            columns.append(match[1].strip("'\""))
        elif text.lower().startswith("@data"):
            break
    else:
        return "it has no line @data"
    first = file.readline(4_000_000).decode("utf-8").strip()
    if first.startswith("{"):
        return "it is a sparse ARFF file, with rows in braces: save it as a dense one"
    if not columns:
        return "it has no line @attribute"
    lower = [column.lower() for column in columns]
    label = next((lower.index(each) for each in LABELS if each in lower), len(columns) - 1)
    return _with_pixels(columns, label, skip=lines, separator=",", names=nominal.get(label, ()))


def _is_square(count: int) -> bool:
    return count > 1 and int(count**0.5 + 0.5) ** 2 == count


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def overview_of_columns(columns: Sequence[str]) -> str:
    """Describe the columns of a table in one line."""
    shown = ", ".join(map(str, columns[:4]))
    return f"{shown}, …, {columns[-1]} ({len(columns)} columns)" if len(columns) > 5 else shown
