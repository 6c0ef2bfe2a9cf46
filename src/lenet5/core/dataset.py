"""Write and read dataset folders: images, labels, and a manifest with their checksums.

A dataset folder has one sub-folder for each split, with two NumPy files in it, and a manifest:

    data/raw/manifest.json                        shapes, dtypes, SHA-256 of every array
    data/raw/train/images.npy                     uint8 (60000, 28, 28)
    data/raw/train/labels.npy                     uint8 (60000,)

A folder is written completely or not at all. Every array is compared with the manifest when it is read,
so a damaged cache or a file that was edited by hand cannot reach a model.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from lenet5.core import files
from lenet5.core.errors import DataError

PIXEL_SCALE = 1 / 255
"""Factor that maps a raw pixel, 0 to 255, to 0 to 1. Preprocessing and the saved model both use it."""

MANIFEST = "manifest.json"

CHUNK = 10_000
"""Number of images that are read at a time, so that data may exceed the memory: 31 MB of float32."""

Array = NDArray[Any]


def chunks(images: int) -> Iterator[slice]:
    """Return slices of at most ``CHUNK`` that cover ``images`` images; for 0 images, one empty slice."""
    return (slice(start, min(start + CHUNK, images)) for start in range(0, max(images, 1), CHUNK))


def parts(images: "Array") -> Iterator[slice]:
    """Return slices that cover images, as :func:`chunks` does, of fewer images where each has more values.

    Args:
        images: (N, ...); slices hold at most the values of ``CHUNK`` images of 28 x 28 pixels.
    """
    values = math.prod(images.shape[1:])
    step = max(1, min(CHUNK, CHUNK * 28 * 28 // max(values, 1)))
    return (slice(start, min(start + step, len(images))) for start in range(0, max(len(images), 1), step))


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Raw data can have different numbers of images and labels; the stage ``validate`` rejects it.
    """

    images: Array
    """(N, ...); the stage that writes the dataset decides shape and dtype."""
    labels: Array
    """(N,) positions in the classes, or (N, classes) one-hot."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArrayRecord(_Record):
    """Dtype, shape and checksum of one array."""

    dtype: str
    """As in NumPy's array protocol: ``|u1``, ``<f4``."""
    shape: tuple[int, ...]
    sha256: str
    """Of the elements in C order."""

    @classmethod
    def of(cls, array: Array) -> "ArrayRecord":
        # dtype and shape are compared separately, so the digest covers the elements only
        return cls(
            dtype=array.dtype.str, shape=array.shape, sha256=hashlib.sha256(_elements(array)).hexdigest()
        )


class SplitRecord(_Record):
    images: ArrayRecord
    labels: ArrayRecord

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the split: equal digests mean equal images with equal labels."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


Pictures = Literal["digit", "object", "whole"]
"""How a client converts a picture to an image of a dataset; ``lenet5.serving.image_normalization`` does it.

``digit`` crops the picture to the ink and centres it by mass, as MNIST does. ``object`` crops it to what
differs from the background, and makes that background black. ``whole`` only resizes it.
"""


class Description(_Record):
    """What the images of a dataset show. The arrays do not say it."""

    classes: tuple[str, ...]
    """Names of the classes. A label is a position in them."""
    pictures: Pictures
    """How a client converts a picture."""


DIGITS = Description(classes=tuple("0123456789"), pictures="digit")
"""The description of a dataset, or of a model, that an earlier release wrote: it has no other one."""


class Rows(_Record):
    """Consecutive rows of a split that come from one source."""

    source: str
    """As in ``params.yaml``."""
    split: str
    start: int
    """The first row."""
    count: int


class Manifest(_Record):
    """The content of a dataset folder, the dataset that it was made from, and the padding of its images."""

    splits: dict[str, SplitRecord]
    description: Description = DIGITS
    origins: tuple[Rows, ...] = ()
    """Where the rows of raw data come from, in order. Empty for a dataset that is made from another one."""
    made_from: str | None = None
    """Digest of the dataset this one was derived from."""
    padding: int = 0
    """Rows and columns of zeros that were added on each side of the raw image."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 over the sorted splits: equal digests mean equal arrays."""
        lines = [f"{name} {record.model_dump_json()}" for name, record in sorted(self.splits.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """The arrays of a dataset folder and its manifest."""

    splits: dict[str, Split]
    manifest: Manifest


def save(
    folder: Path,
    splits: Mapping[str, Split | Iterable[Split]],
    *,
    description: Description = DIGITS,
    origins: Iterable[Rows] = (),
    made_from: str | None = None,
    padding: int = 0,
) -> Manifest:
    """Write a dataset folder, completely or not at all, and replace the content of ``folder``.

    Args:
        folder: the dataset folder.
        splits: the splits by name. A split that exceeds the memory is an iterable of its parts, in order.
        description: what the images show.
        origins: where the rows come from.
        made_from: the digest of the dataset that this one is derived from.
        padding: the rows and columns of zeros on each side of each image.

    Returns:
        The manifest that was written.

    Raises:
        ValueError: a split has no part, or its parts differ in dtype or in the shape of an element.
    """
    with files.replacing(folder) as partial:
        records = {}
        for name, split in splits.items():
            (partial / name).mkdir(parents=True)
            records[name] = _write(partial / name, [split] if isinstance(split, Split) else split)
        manifest = Manifest(
            splits=records,
            description=description,
            origins=tuple(origins),
            made_from=made_from,
            padding=padding,
        )
        files.write_json(partial / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def load(folder: Path, names: Collection[str] | None = None) -> Dataset:
    """Map a dataset folder into memory and compare every array with the manifest.

    Args:
        folder: the dataset folder.
        names: the splits to read; None for all. The other ones need not be there.

    Raises:
        DataError: a file is missing, cannot be read, or differs from the manifest.
    """
    manifest = load_manifest(folder)
    splits = {}
    for name, record in manifest.splits.items():
        if names is not None and name not in names:
            continue
        images = _load_array(folder / name / "images.npy", record.images)
        labels = _load_array(folder / name / "labels.npy", record.labels)
        splits[name] = Split(images, labels)
    return Dataset(splits, manifest)


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset folder without reading the arrays.

    Raises:
        DataError: the manifest is missing or damaged.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(files.read_bytes(path))
    except FileNotFoundError:
        raise DataError(
            f"There is no dataset in {folder}.",
            expected=path,
            fix="`dvc repro` writes it",
        ) from None
    except ValidationError as error:
        raise _damaged(path, "a manifest", str(error)) from None


def rescale(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map pixels from 0 to 255 to 0 to 1, with the same bits as the saved model."""
    return pixels.astype(np.float32) * np.float32(PIXEL_SCALE)


def raw_pixels(images: NDArray[np.float32], padding: int) -> NDArray[np.uint8]:
    """Undo the padding and the rescaling of the stage ``preprocess``.

    Args:
        images: float32 (N, H + 2 padding, W + 2 padding, channels) in 0 to 1.
        padding: rows and columns of zeros on each side.

    Returns:
        The exact pixels, uint8 (N, H, W) of grey images, else (N, H, W, channels).

    Raises:
        DataError: the images are no padded and rescaled pixels.
    """
    _, height, width, channels = images.shape
    inner = images[:, padding : height - padding, padding : width - padding]
    with np.errstate(invalid="ignore"):  # NaN and infinity fail the comparison below
        pixels = np.rint(inner / np.float32(PIXEL_SCALE)).astype(np.uint8)
    border = images.shape[1:3] != inner.shape[1:3] and np.count_nonzero(images) != np.count_nonzero(inner)
    if border or not np.array_equal(rescale(pixels), inner):
        raise DataError(
            "The processed images are not the raw images, padded and rescaled.",
            expected=f"multiples of {PIXEL_SCALE:.6g} from 0 to 1, in a border of {padding} zeros",
            found="other values",
            fix="write them again: `dvc repro --force preprocess`",
        )
    return pixels[..., 0] if channels == 1 else pixels


def _write(folder: Path, parts: Iterable[Split]) -> SplitRecord:
    with (folder / "images.npy").open("wb") as images_file, (folder / "labels.npy").open("wb") as labels_file:
        images, labels = _NpyWriter(images_file), _NpyWriter(labels_file)
        for part in parts:
            images.append(part.images)
            labels.append(part.labels)
        return SplitRecord(images=images.finish(), labels=labels.finish())


class _NpyWriter:
    """Writes a ``.npy`` file in parts. The bytes are those that ``numpy.save`` writes for the whole array."""

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
            raise ValueError(f"the part {part.dtype} {part.shape} does not fit {self._dtype} {self._shape}")
        elements = _elements(part)
        self._file.write(elements)
        self._sha256.update(elements)
        self._shape = (length + len(part), *rest)

    def finish(self) -> ArrayRecord:
        if self._shape is None:
            raise ValueError("the array has no part, so its shape and dtype are unknown")
        self._file.seek(0)
        self._write_header()  # NumPy pads the header, so a larger first axis fits into the same space
        return ArrayRecord(dtype=self._dtype.str, shape=self._shape, sha256=self._sha256.hexdigest())

    def _write_header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": descr, "fortran_order": False, "shape": self._shape}
        )


def _elements(array: Array) -> memoryview | bytes:
    """Return the bytes of the elements in C order; a memory map is not copied."""
    return np.ascontiguousarray(array).view(np.uint8).data if array.size else b""


def _load_array(path: Path, record: ArrayRecord) -> Array:
    try:
        array: Array = np.lib.format.open_memmap(
            files.regular(path), mode="r"
        )  # rejects pickles and archives
    except FileNotFoundError:
        raise _damaged(path, "the file", "none") from None
    except DataError:
        raise
    except Exception as error:  # NumPy parses the header as Python, so a damaged one raises many kinds
        raise _damaged(path, "a NumPy array", str(error)) from None
    actual = ArrayRecord.of(array)
    if actual != record:
        raise _damaged(path, record, actual)
    return array


def _damaged(path: Path, expected: object, found: object) -> DataError:
    return DataError(
        f"{path} was damaged or changed.",
        expected=expected,
        found=found,
        fix="`dvc checkout --force` restores it; if the cache is damaged, `dvc repro --force` makes it again",
    )
