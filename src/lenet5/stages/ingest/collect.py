"""Convert all parts of a source to the arrays that ``params.yaml`` states, in files that have no name."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lenet5.core import storage
from lenet5.core.dataset import Array, chunks
from lenet5.core.errors import DataError
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.fit import fitted
from lenet5.stages.ingest.labels import Codes, with_names
from lenet5.stages.ingest.memory_map import mapped
from lenet5.stages.ingest.params import Ingest
from lenet5.stages.ingest.pixels import Pixels
from lenet5.stages.ingest.sources.contract import TEST, TRAIN, VALIDATION, Part, Reading
from lenet5.stages.ingest.sources.idx import class_labels
from lenet5.stages.ingest.split import chosen_for_test


@dataclass(frozen=True)
class Content:
    """One array of a source."""

    origin: str
    """The file that it comes from, for errors."""
    sha256: str
    """Of the array as uncompressed IDX content."""
    array: Array
    """Mapped from a file without a name. Empty, if ``error`` is there."""
    error: DataError | None = None
    """Why the content is no array. Its checksum is compared first."""


def collect(reading: Reading, params: Ingest, scratch: Path) -> dict[str, Content]:
    """Read a source to its end.

    Args:
        reading: the source.
        params: classes, size and channels.
        scratch: the folder for temporary files without a name. They go with the returned arrays.

    Returns:
        ``train_images``, ``train_labels`` and, if the source has a test split, ``test_images`` and
        ``test_labels``. Images of a validation split are at the end of train, or are test if there is no
        other one.

    Raises:
        DataError: an image or a label cannot be converted; an array is missing.
        StorageError: the disk is full.
    """
    with storage.failures_named(scratch), closing(_Collector(params, scratch)) as collector:
        return collector.all(reading)


def divided(contents: Mapping[str, Content], params: Ingest, scratch: Path) -> dict[str, Content]:
    """Return contents with a test split; without one, it is taken from train.

    Raises:
        DataError: the numbers of images and labels differ, so that no class of an image is known.
    """
    if "test_images" in contents:
        return dict(contents)
    images, labels = contents["train_images"], contents["train_labels"]
    for content in (images, labels):
        if content.error:
            raise content.error
    require_pairs(images, labels)
    test = chosen_for_test(images.array, labels.array, share=params.test_share, seed=params.split_seed)
    parts = {}
    with storage.failures_named(scratch):
        for split, mask in ((TRAIN, ~test), (TEST, test)):
            for role, content in (("images", images), ("labels", labels)):
                with closing(_Growing(content.origin, scratch)) as growing:
                    for rows in chunks(len(mask)):
                        growing.append(content.array[rows][mask[rows]])
                    parts[f"{split}_{role}"] = growing.finish()
    return parts


def concatenated(origin: str, arrays: Sequence[Array], scratch: Path) -> Content:
    """Return arrays one after another as one."""
    with storage.failures_named(scratch), closing(_Growing(origin, scratch)) as growing:
        for array in arrays:
            for rows in chunks(len(array)):
                growing.append(array[rows])
        return growing.finish()


def require_pairs(images: Content, labels: Content) -> None:
    """Raise ``DataError`` unless there is one label for each image."""
    if len(images.array) != len(labels.array):
        raise DataError(
            f"{images.origin} and {labels.origin} do not belong together.",
            expected="as many labels as images",
            found=f"{len(images.array):,} images and {len(labels.array):,} labels",
            fix="check ingest.source in params.yaml",
        )


class _Collector:
    def __init__(self, params: Ingest, scratch: Path) -> None:
        self._image = params.image
        self._codes = Codes(params.classes)
        self._scratch = scratch
        self._pixels = Pixels()
        self._growing: dict[tuple[str, str], _Growing] = {}
        self._whole: dict[tuple[str, str], Content] = {}

    def all(self, reading: Reading) -> dict[str, Content]:
        for part in reading.parts:
            if part.idx is not None and (content := self._as_it_is(part)):
                self._whole[part.split, part.role] = content
                continue
            images, labels = part.images, part.labels
            if part.idx is not None and part.role == "images":
                images = idx.decode_any(part.idx, part.origin)
            elif part.idx is not None:
                labels = class_labels(part.idx, part.origin)
            if images is not None:
                for piece in self._images(part, images):
                    self._append(part, "images", piece)
            if labels is not None:
                named = with_names(labels, part.names, part.first)
                self._append(part, "labels", self._codes.convert(named, part.origin))
        return self._named(reading)

    def close(self) -> None:
        """Close the files of arrays that are not finished."""
        for growing in self._growing.values():
            growing.close()

    def _images(self, part: Part, images: object) -> Iterator[Array]:
        if isinstance(images, np.ndarray):
            for rows in chunks(len(images)):
                pixels = self._pixels.convert(images[rows], part.origin)
                yield fitted(pixels, self._image, part.origin)
        else:
            assert isinstance(images, list)
            yield fitted(images, self._image, part.origin)

    def _append(self, part: Part, role: str, array: Array) -> None:
        key = (part.split, role)
        if key not in self._growing:
            self._growing[key] = _Growing(part.origin, self._scratch)
        self._growing[key].append(array)

    def _as_it_is(self, part: Part) -> Content | None:
        """Return an IDX file that needs no conversion, or cannot be decoded; None for another one."""
        assert part.idx is not None
        sha256 = hashlib.sha256(part.idx).hexdigest
        try:
            array = idx.decode_any(part.idx, part.origin)
        except DataError as error:
            return Content(part.origin, sha256(), np.empty(0, np.uint8), error)
        if array.dtype != np.uint8:
            return None
        if part.role == "images":
            size = (self._image.size, self._image.size)
            if self._image.channels != 1 or self._image.transpose or array.shape[1:] != size:
                return None
        elif array.ndim != 1 or part.names or not self._codes.keeps_bytes:
            return None
        return Content(part.origin, sha256(), array)

    def _named(self, reading: Reading) -> dict[str, Content]:
        splits = {split for split, _ in (*self._growing, *self._whole)}
        if VALIDATION in splits:
            for role in ("images", "labels"):
                validation = self._growing.pop((VALIDATION, role))
                if TEST not in splits:
                    self._growing[TEST, role] = validation
                    continue
                array = validation.finish().array
                for rows in chunks(len(array)):
                    self._growing[TRAIN, role].append(array[rows])
        contents = self._whole | {key: growing.finish() for key, growing in self._growing.items()}
        wanted = [(split, role) for split in (TRAIN, TEST) for role in ("images", "labels")]
        missing = [
            f"{split} {role}"
            for split, role in wanted
            if (split, role) not in contents and (split == TRAIN or splits & {TEST, VALIDATION})
        ]
        if missing:
            raise DataError(
                "The source is not complete.",
                expected="images and labels of train, and of test if there is one",
                found=f"no {', no '.join(missing)}",
                fix="check ingest.source in params.yaml",
            )
        return {
            f"{split}_{role}": contents[split, role] for split, role in wanted if (split, role) in contents
        }


class _Growing:
    """An array in a file without a name, as IDX content, to which rows are added."""

    def __init__(self, origin: str, scratch: Path) -> None:
        self._origin = origin
        self._file: BinaryIO = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (`close` does it)
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[np.uint8] | np.dtype[np.uint16] = np.dtype(np.uint8)

    def append(self, rows: Array) -> None:
        """Add rows of one dtype and shape."""
        if not self._shape:
            self._shape, self._dtype = (0, *rows.shape[1:]), rows.dtype
            self._file.write(idx.header(self._dtype, self._shape))
        self._file.write(idx.elements(rows))
        self._shape = (self._shape[0] + len(rows), *self._shape[1:])

    def close(self) -> None:
        """Close the file. The array that `finish` returned stays."""
        self._file.close()

    def finish(self) -> Content:
        """Return the array."""
        self._file.seek(0)
        self._file.write(idx.header(self._dtype, self._shape))
        content = mapped(self._file)
        self.close()
        array = idx.decode_any(content, self._origin)
        if self._dtype == np.uint16:
            array = array.astype(np.uint16)
        return Content(self._origin, hashlib.sha256(content).hexdigest(), array)
