"""Read a folder of pictures: ``split/class/name.png``, ``class/name.png``, or a table of names and labels."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from lenet5.core.errors import DataError
from lenet5.stages.ingest import labels, pictures
from lenet5.stages.ingest.source import ending, overview
from lenet5.stages.ingest.sources.contract import (
    LABELS,
    TEST,
    TRAIN,
    VALIDATION,
    Part,
    Reader,
    Reading,
    split_of,
)

_AT_A_TIME = 2_000
"""Pictures in one part: 25 MB, if each has 64 x 64 pixels in RGB."""
_FILES = ("file_name", "filename", "file", "path", "image", "image_path", "img", "image_id", "id", "name")
_TABLES = {".csv", ".tsv"}

Item = tuple[str, str, str]
"""Split, file and class of one picture."""


def read(reader: Reader) -> Reading:
    """Open a folder of pictures.

    The pictures are in the order of their names, numbers by value, whatever class they are in: so numbered
    files keep the order that they were written in. A table gives its own order.

    Raises:
        DataError: there are no pictures, or they have no classes.
    """
    names = reader.names()
    if names is None:
        raise DataError(
            f"{reader.source.url} cannot list its files.",
            expected="a folder of this machine or of an object store",
            fix="download the folder, and name the copy in ingest.source",
        )
    notes: list[str] = []
    tables = [name for name in names if ending(name) in _TABLES]
    found = [name for name in names if ending(name) in pictures.ENDINGS]
    items = None
    if reader.source.archive:
        items = _listed(reader, reader.source.archive, notes)
    for table in sorted(tables, key=lambda name: (name.count("/"), name)):
        items = items or (_listed(reader, table, notes) if found else None)
    items = items or _by_folder(reader, names, found, notes)
    return Reading(
        _parts(reader, items), names=labels.in_order(list({item[2] for item in items})), notes=notes
    )


def _parts(reader: Reader, items: Sequence[Item]) -> Iterator[Part]:
    for split in (TRAIN, VALIDATION, TEST):
        mine = [item for item in items if item[0] == split]
        for start in range(0, len(mine), _AT_A_TIME):
            some = mine[start : start + _AT_A_TIME]
            files = [file for _, file, _ in some]
            contents = reader.small(files)
            images = [pictures.decode(content, file) for content, file in zip(contents, files, strict=True)]
            origin = f"{files[0]} to {files[-1]}"
            yield Part(split, origin, images=images, labels=np.asarray([name for _, _, name in some]))


def _by_folder(
    reader: Reader, names: Sequence[str], found: Sequence[str], notes: list[str]
) -> Sequence[Item]:
    """Return the pictures whose folders say the class, and the split, if there is one."""
    parts = {name: PurePosixPath(name).parts for name in found}
    deepest = max(map(len, parts.values()), default=0)
    while deepest > 2 and len({each[0] for each in parts.values()}) == 1:  # a folder around all others
        parts = {name: each[1:] for name, each in parts.items()}
        deepest -= 1
    splits = {each[0] for each in parts.values() if len(each) > 1 and _split(each[0])}
    has_splits = any(_split(each) in (TRAIN, VALIDATION) for each in splits)
    items, unlabelled = [], []
    for name, each in parts.items():
        if has_splits and len(each) > 2 and each[0] in splits:
            items.append((_split(each[0]) or TRAIN, name, each[1]))
        elif not has_splits and len(each) > 1:
            items.append((TRAIN, name, each[0]))
        else:
            unlabelled.append(name)
    if unlabelled and items:
        notes.append(f"Left out, because no folder names their class: {overview(unlabelled)}.")
    if not items:
        raise DataError(
            f"{reader.source.url} holds no pictures in folders of their classes.",
            expected="train/CLASS/NAME.png and test/CLASS/NAME.png; or CLASS/NAME.png; "
            "or a table (.csv) with the columns file and label",
            found=overview(names),
            fix="check ingest.source in params.yaml",
        )
    others = [name for name in names if name not in parts]
    if others:
        notes.append(f"Left out, because they are no pictures: {overview(others)}.")
    return sorted(items, key=lambda item: (_natural(PurePosixPath(item[1]).name), item[1]))


def _split(folder: str) -> str | None:
    """Return the split that a folder is: `test`, `training_set`; `test tubes` is a class."""
    words = set(re.split(r"[^a-z0-9]+", folder.lower()))
    split = split_of(folder)
    return split if len(words - {"set", "data", "images", "split"}) == 1 else None


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts numbers in a name by value."""
    return tuple(
        (0, int(word), "") if word.isascii() and word.isdigit() else (1, 0, word)
        for word in re.split(r"(\d+)", name)
        if word
    )


def _listed(reader: Reader, table: str, notes: list[str]) -> Sequence[Item] | None:
    """Return the pictures that a table lists; None if the table has no columns of files and labels."""
    import pandas as pd

    with reader.file(table) as (name, file):
        try:
            rows = pd.read_csv(
                file, dtype=str, keep_default_na=False, sep="\t" if ending(name) == ".tsv" else ","
            )
        except (ValueError, UnicodeDecodeError) as error:
            notes.append(f"Left out, because it is no table: {name} ({error}).")
            return None
    columns = {str(column).strip().lower(): column for column in rows.columns}
    file_column = next((columns[each] for each in _FILES if each in columns), None)
    label_column = next((columns[each] for each in LABELS if each in columns), None)
    if file_column is None or label_column is None:
        return None
    folder = PurePosixPath(table).parent
    base = folder.as_posix() + "/" if folder.parts else ""
    if reader.source.archive:
        raise DataError(
            f"{reader.source.url} lists pictures, and their folder is not known.",
            expected="the folder that holds this table and the pictures",
            found="the table alone",
            fix=f"set ingest.source to the folder of {table}",
        )
    names = set(reader.names() or ())
    split_column = columns.get("split", columns.get("set"))
    items: list[Item] = []
    missing: list[str] = []
    without: list[int] = []
    for row in range(len(rows)):
        written = str(rows[file_column].iat[row])
        label = str(rows[label_column].iat[row]).strip()
        actual = _find(written, base, names)
        if actual is None:
            missing.append(written)
        elif not label:
            without.append(row)
        else:
            stated = str(rows[split_column].iat[row]) if split_column is not None else ""
            items.append((split_of(stated) or TRAIN, actual, label))
    if missing:
        more = f", and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise DataError(
            f"{table} lists pictures that are not there.",
            expected=f"every file of the column {file_column}, below {reader.source.url}",
            found=f"no {', '.join(missing[:5])}{more}",
            fix="add the files, or remove their rows from the table",
        )
    if without:
        notes.append(f"Left out, because {table} has no label for them: {len(without):,} rows.")
    listed = Counter(file for _, file, _ in items)
    twice = [file for file, count in listed.items() if count > 1]
    if twice:
        raise DataError(
            f"{table} lists a picture more than once.",
            expected="each file once",
            found=", ".join(twice[:5]) + (f", and {len(twice) - 5:,} more" if len(twice) > 5 else ""),
            fix="remove the other rows from the table",
        )
    unlisted = [n for n in names if ending(n) in pictures.ENDINGS and n not in listed]
    if unlisted:
        notes.append(f"Left out, because {table} does not list them: {overview(unlisted)}.")
    return items


def _find(written: str, base: str, names: set[str]) -> str | None:
    for each in (f"{base}{written}", written, *(f"{base}{written}{end}" for end in sorted(pictures.ENDINGS))):
        normal = PurePosixPath(each).as_posix()
        if normal in names:
            return normal
    return None
