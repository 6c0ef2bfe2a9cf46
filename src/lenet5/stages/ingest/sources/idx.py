"""Read IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST, QMNIST, under all their names, in any subfolder."""

import re
import string
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.labels import tidy
from lenet5.stages.ingest.memory_map import Buffer, mapped
from lenet5.stages.ingest.mnist_files import KERAS_FILE, MNIST_FILES
from lenet5.stages.ingest.source import overview
from lenet5.stages.ingest.sources import npz
from lenet5.stages.ingest.sources.contract import TEST, TRAIN, Part, Reader, Reading, several_sets, split_of

_NAME = re.compile(
    r"(?P<stem>.*?)[-_.]?(?P<role>images|labels)[-_.]idx(?P<dimensions>[1-5])[-_.](ubyte|int)(\.gz)?$",
    re.IGNORECASE,
)
_DIGITS, _UPPER, _LOWER = string.digits, string.ascii_uppercase, string.ascii_lowercase
_EMNIST = {
    "balanced": _DIGITS + _UPPER + "abdefghnqrt",
    "bymerge": _DIGITS + _UPPER + "abdefghnqrt",
    "byclass": _DIGITS + _UPPER + _LOWER,
    "digits": _DIGITS,
    "mnist": _DIGITS,
    "letters": _LOWER,
}
"""Characters of the classes (Cohen et al., 2017). The labels of ``letters`` begin with 1."""
_FIRST = {"letters": 1}


def is_idx(name: str) -> bool:
    """Whether a path has the name of an IDX file."""
    return _NAME.match(PurePosixPath(name).name) is not None


def read(reader: Reader) -> Reading:
    """Open the files of train and test, or of train alone.

    Raises:
        DataError: a file is missing, or there are several data sets.
    """
    names = reader.names()
    if names is None:
        return Reading(_unlisted(reader))
    files = _files(names, reader)
    classes, first = _emnist(next(iter(files.values())))
    notes = [
        f"{name} has eight columns; the first one is the class, the others are left out."
        for (_, role), name in files.items()
        if role == "labels" and _columns(name) == 2
    ]
    return Reading(_parts(reader, files, classes, first), names=classes, notes=notes)


def class_labels(content: Buffer, name: str) -> Array:
    """Return labels as whole numbers (N,). The first of QMNIST's eight columns is the class.

    Raises:
        DataError: the content is not IDX, or has another shape.
    """
    array = idx.decode_any(content, name)
    return tidy(array[:, 0] if array.ndim == 2 and array.shape[1] == 8 else array, name)


def _columns(name: str) -> int:
    match = _NAME.match(PurePosixPath(name).name)
    return int(match["dimensions"]) if match else 0


def _parts(
    reader: Reader, files: dict[tuple[str, str], str], classes: list[str], first: int
) -> Iterator[Part]:
    for (split, role), name in files.items():
        with reader.file(name) as (_, file):
            content = mapped(file)
        yield Part(split, name, idx=content, role=role, names=classes, first=first)


def _unlisted(reader: Reader) -> Iterator[Part]:
    """Try the usual names, of MNIST's IDX files and of Keras' archive."""
    for number, item in enumerate(MNIST_FILES):
        split, _, role = item.key.partition("_")
        other = re.sub("-(?=idx)", ".", item.file)
        names = [f"{item.file}.gz", item.file, *([KERAS_FILE] if number == 0 else [])]
        names += [f"{other}.gz", other]
        with reader.file(*names) as (name, file):
            if name == KERAS_FILE:
                yield from npz.members(file, name, reader)
                return
            yield Part(split, name, idx=mapped(file), role=role)


def _files(names: tuple[str, ...], reader: Reader) -> dict[tuple[str, str], str]:
    """Return the files by split and role: of the highest folder that has some."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(filter(is_idx, names), key=lambda each: (each.count("/"), each)):
        match = _NAME.match(PurePosixPath(name).name)
        assert match
        split = split_of(match["stem"] or "train") or split_of(name) or TRAIN
        found[split, match["role"].lower()].append(name)
    files: dict[tuple[str, str], str] = {}
    for item in MNIST_FILES:
        split, _, role = item.key.partition("_")
        some = found.pop((split, role), [])
        stems = {PurePosixPath(each).name.lower().removesuffix(".gz") for each in some}
        if len(stems) > 1:
            raise several_sets(reader.source, some)
        if some:
            files[split, role] = min(some, key=lambda each: (each.count("/"), not each.endswith(".gz"), each))
    wanted = [(TRAIN, "images"), (TRAIN, "labels")]
    wanted += [(TEST, "images"), (TEST, "labels")] if any(split == TEST for split, _ in files) else []
    for split, role in wanted:
        if (split, role) not in files:
            usual = next(item.file for item in MNIST_FILES if item.key == f"{split}_{role}")
            raise DataError(
                f"A file is missing from {reader.source.url}.",
                expected=f"{usual}.gz or {usual}",
                found=f"the folder holds {overview(names)}",
                fix="check ingest.source in params.yaml; git or `dvc pull` may have to fetch the files first",
            )
    return {key: files[key] for key in wanted}


def _emnist(name: str) -> tuple[list[str], int]:
    """Return the names of the classes of one of EMNIST's sets, and the first label; no names for others."""
    words = re.split(r"[^a-z0-9]+", PurePosixPath(name.lower()).name)
    if words[0] == "emnist" and len(words) > 1 and words[1] in _EMNIST:
        return list(_EMNIST[words[1]]), _FIRST.get(words[1], 0)
    return [], 0
