"""Read a NumPy archive: Keras' ``mnist.npz``, MedMNIST's files, KMNIST's four files, or your own arrays.

``numpy.load`` allocates the size that a member's header states before it reads the elements, and it can run
a pickle. This module compares that size with the directory of the archive first, and opens no pickle.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from lenet5.core.dataset import Array, chunks
from lenet5.core.errors import DataError
from lenet5.stages.ingest.labels import tidy
from lenet5.stages.ingest.memory_map import memory_mapped
from lenet5.stages.ingest.source import overview
from lenet5.stages.ingest.sources.contract import TEST, TRAIN, VALIDATION, Part, Reader, Reading, split_of
from lenet5.stages.ingest.unzip import too_large

_CHUNK = 1 << 20
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
)
_IMAGES = ("x", "images", "image", "imgs", "data", "features")
_LABELS = ("y", "labels", "label", "targets", "target")
_SPLITS = {
    TRAIN: ("train", "training"),
    TEST: ("test", "testing"),
    VALIDATION: ("val", "valid", "validation"),
}
_EXPECTED = "x_train, y_train, x_test, y_test; or train_images, train_labels, …; or images and labels"


def read(reader: Reader) -> Reading:
    """Open one archive with all arrays, or one archive for each array, as KMNIST has them.

    Raises:
        DataError: there is no archive, or the archives do not belong together.
    """
    names = reader.listed("the URL of one file that ends with .npz")
    archives = [name for name in names if name.lower().endswith(".npz")]
    if len(archives) == 1:
        return Reading(_one(reader, archives[0]))
    roles = {name: _role(PurePosixPath(name).stem) for name in archives}
    if archives and None not in roles.values() and len(set(roles.values())) == len(archives):
        return Reading(_several(reader, {role: name for name, role in roles.items() if role}))
    raise DataError(
        f"{reader.source.url} does not hold one data set.",
        expected="one .npz file, or one for each array, such as train-images.npz",
        found=overview(archives or names),
        fix="name one file in ingest.source",
    )


def _one(reader: Reader, archive: str) -> Iterator[Part]:
    with reader.file(archive) as (name, file):
        yield from members(file, name, reader)


def _several(reader: Reader, archives: dict[tuple[str, str], str]) -> Iterator[Part]:
    for (split, role), archive in sorted(archives.items(), key=lambda item: item[0][0] != TRAIN):
        with reader.file(archive) as (name, file), _opened(file, name) as opened:
            arrays = _names(opened)
            if len(arrays) != 1:
                raise _refused(name, f"one array of {role}", ", ".join(arrays))
            yield from _array(opened, arrays[0], name, split, role, reader)


def members(file: BinaryIO, name: str, reader: Reader) -> Iterator[Part]:
    """Read the arrays of one archive, train first.

    Raises:
        DataError: the file is no such archive, or an array is missing, damaged, too large or a pickle.
    """
    with _opened(file, name) as archive:
        arrays = _names(archive)
        found = {key: array for array in arrays if (key := _role(array))}
        if (TRAIN, "images") not in found or (TRAIN, "labels") not in found:
            raise _refused(name, _EXPECTED, ", ".join(arrays) or "no arrays")
        for (split, role), array in found.items():
            other = "labels" if role == "images" else "images"
            if (split, other) not in found:
                raise _refused(name, f"{split} {other} beside {array}", ", ".join(arrays))
        for split in (TRAIN, VALIDATION, TEST):
            for role in ("images", "labels"):
                if (split, role) in found:
                    yield from _array(archive, found[split, role], name, split, role, reader)


def _opened(file: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise _damaged(name, error) from error


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _role(name: str) -> tuple[str, str] | None:
    """Return the split and the role that the name of an array or of its file states."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    role = next(
        (role for role, known in (("images", _IMAGES), ("labels", _LABELS)) if set(words) & set(known)), None
    )
    return (split_of(name) or TRAIN, role) if role else None


def _array(
    archive: zipfile.ZipFile, member: str, name: str, split: str, role: str, reader: Reader
) -> Iterator[Part]:
    origin = f"{name}:{member}"
    try:
        array = _member(archive, member, origin, reader)
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    if role == "labels":
        yield Part(split, origin, labels=tidy(array, origin))
        return
    for rows in chunks(len(array)):
        yield Part(split, origin, images=array[rows])


def _member(archive: zipfile.ZipFile, name: str, origin: str, reader: Reader) -> Array:
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > reader.limit:
        raise too_large(origin, reader.limit)
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{origin} has .npy version {version}")
        shape, fortran_order, dtype = _HEADERS[version](member)
        if dtype.hasobject:
            raise DataError(
                f"{origin} has Python objects, which only a pickle can store.",
                expected="numbers, or text of a fixed width",
                found=f"{dtype} of shape {shape}",
                fix="convert the array, and save it again: labels = labels.astype(str), or "
                "images = numpy.stack(list(images))",
            )
        if not shape or min(shape) < 1:
            raise ValueError(f"{origin} has the shape {shape}, and no elements")
        elements = memory_mapped(iter(lambda: member.read(_CHUNK), b""), reader.scratch)
    if len(elements) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{origin} has {len(elements):,} bytes of elements for {dtype} of shape {shape}")
    return np.frombuffer(elements, dtype).reshape(shape, order="F" if fortran_order else "C")


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(
        f"{name} cannot be read.",
        expected=f"a zip archive of .npy files with {_EXPECTED}",
        found=error,
        fix="download the file again",
    )


def _refused(name: str, expected: str, found: str) -> DataError:
    return DataError(
        f"{name} does not have the arrays of a data set.",
        expected=expected,
        found=found,
        fix="save the arrays under these names: numpy.savez_compressed(file, x_train=…, y_train=…)",
    )
