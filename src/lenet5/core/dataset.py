"""What a folder of images and labels holds, and proof that it still holds it.

A dataset folder has one sub-folder a split, two NumPy files in each, and a manifest:

    data/raw/manifest.json                        shapes, dtypes, SHA-256 of every array
    data/raw/train/images.npy                     uint8 (60000, 28, 28)
    data/raw/train/labels.npy                     uint8 (60000,)

It is written whole or not at all, and every array is compared with the manifest when it is read,
so a damaged cache or a file edited by hand cannot slip into a model.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from lenet5.core import files
from lenet5.core.errors import DataError

CLASSES = 10
"""Digits 0 to 9."""

PIXEL_SCALE = 1 / 255
"""The one definition of rescaling: a raw pixel (0 to 255) times this lies in 0 to 1."""

MANIFEST = "manifest.json"

CHUNK = 10_000
"""Images that are in memory at a time, where data of any size is read: 31 MB of float32."""

Array = NDArray[Any]


def chunks(images: int) -> Iterator[slice]:
    """The places of ``images`` images, at most ``CHUNK`` at a time; one empty slice where there are none."""
    return (slice(start, min(start + CHUNK, images)) for start in range(0, max(images, 1), CHUNK))


@dataclass(frozen=True)
class Split:
    """Images and what they show. Raw data may hold unequal numbers of both: validation says no to it."""

    images: Array
    labels: Array


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArrayRecord(_Record):
    """Identity of one array."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, array: Array) -> "ArrayRecord":
        # dtype and shape are compared beside the digest, so the digest is of the elements alone (C order)
        return cls(
            dtype=array.dtype.str, shape=array.shape, sha256=hashlib.sha256(_elements(array)).hexdigest()
        )


class SplitRecord(_Record):
    images: ArrayRecord
    labels: ArrayRecord

    @property
    def digest(self) -> str:
        """SHA-256 of what the split holds: equal digests mean equal images with equal labels."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Manifest(_Record):
    """What a dataset folder holds, what it was made from, and the padding its images carry."""

    splits: dict[str, SplitRecord]
    made_from: str | None = None
    """Digest of the dataset this one was derived from."""
    padding: int = 0
    """Rows and columns of zeros around each image that the raw image has not."""

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted records: equal digests mean equal arrays."""
        lines = [f"{name} {record.model_dump_json()}" for name, record in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    splits: dict[str, Split]
    manifest: Manifest


def save(
    folder: Path,
    splits: Mapping[str, Split | Iterable[Split]],
    *,
    made_from: str | None = None,
    padding: int = 0,
) -> Manifest:
    """Write a dataset folder, whole or not at all, in place of what ``folder`` held.

    A split that is larger than the memory comes in parts, one after another.
    """
    with files.replacing(folder) as aside:
        records = {}
        for name, split in splits.items():
            (aside / name).mkdir(parents=True)
            records[name] = _write(aside / name, [split] if isinstance(split, Split) else split)
        manifest = Manifest(splits=records, made_from=made_from, padding=padding)
        files.write_json(aside / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def load(folder: Path) -> Dataset:
    """Map a dataset folder into memory and compare every array with the manifest.

    Raises:
        DataError: a file is missing, cannot be read, or does not hold what the manifest says.
    """
    manifest = load_manifest(folder)
    splits = {}
    for name, record in manifest.splits.items():
        images = _load_array(folder / name / "images.npy", record.images)
        labels = _load_array(folder / name / "labels.npy", record.labels)
        splits[name] = Split(images, labels)
    return Dataset(splits, manifest)


def load_manifest(folder: Path) -> Manifest:
    """Read what a dataset folder says it holds, without reading the arrays.

    Raises:
        DataError: there is no manifest, or it is not one.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"There is no dataset in {folder}.",
            expected=path,
            fix="`dvc repro` makes it",
        ) from None
    except ValidationError as error:
        raise _damaged(path, "a manifest", str(error)) from None


def _write(folder: Path, parts: Iterable[Split]) -> SplitRecord:
    with (folder / "images.npy").open("wb") as images_file, (folder / "labels.npy").open("wb") as labels_file:
        images, labels = _Growing(images_file), _Growing(labels_file)
        for part in parts:
            images.append(part.images)
            labels.append(part.labels)
        return SplitRecord(images=images.finish(), labels=labels.finish())


class _Growing:
    """A ``.npy`` file that is written in parts, and is what ``numpy.save`` makes of the whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.void)

    def append(self, part: Array) -> None:
        if self._shape is None:
            self._shape, self._dtype = (0, *part.shape[1:]), part.dtype
            self._write_header()
        length, *rest = self._shape
        if (part.dtype, part.shape[1:]) != (self._dtype, tuple(rest)):
            raise ValueError(f"{part.dtype} {part.shape} does not go on from {self._dtype} {self._shape}")
        elements = _elements(part)
        self._file.write(elements)
        self._sha256.update(elements)
        self._shape = (length + len(part), *rest)

    def finish(self) -> ArrayRecord:
        if self._shape is None:
            raise ValueError("there was no part, so neither shape nor type is known")
        self._file.seek(0)
        self._write_header()  # NumPy leaves room in it for an axis that grows
        return ArrayRecord(dtype=self._dtype.str, shape=self._shape, sha256=self._sha256.hexdigest())

    def _write_header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": descr, "fortran_order": False, "shape": self._shape}
        )


def _elements(array: Array) -> memoryview | bytes:
    """The elements in C order, and nothing else: of a memory-map, without a copy."""
    return np.ascontiguousarray(array).view(np.uint8).data if array.size else b""


def _load_array(path: Path, record: ArrayRecord) -> Array:
    try:
        array: Array = np.lib.format.open_memmap(path, mode="r")  # refuses pickles and archives
    except FileNotFoundError:
        raise _damaged(path, "the file", "none") from None
    except Exception as error:  # NumPy reads the header as Python: a damaged one raises any of a dozen
        raise _damaged(path, "a NumPy array", str(error)) from None
    found = ArrayRecord.of(array)
    if found != record:
        raise _damaged(path, record, found)
    return array


def _damaged(path: Path, expected: object, found: object) -> DataError:
    return DataError(
        f"{path} does not hold what was written there.",
        expected=expected,
        found=found,
        fix="`dvc checkout --force` puts it back; with a damaged cache, `dvc repro --force` makes it anew",
    )
