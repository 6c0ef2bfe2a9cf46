"""Look at a source of any kind without knowing it: classes, numbers, sizes, splits, and what looks wrong."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress

from lenet5.core.dataset import Array, chunks
from lenet5.core.errors import DataError
from lenet5.core.text import mask_urls
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.known import KNOWN
from lenet5.stages.ingest.labels import in_order, names_of, with_names
from lenet5.stages.ingest.params import Format
from lenet5.stages.ingest.pixels import Pixels, shaped
from lenet5.stages.ingest.sources.contract import TEST, TRAIN, VALIDATION, Part, Reading
from lenet5.stages.ingest.sources.detect import open_source
from lenet5.stages.ingest.sources.idx import class_labels

SMALLEST, LARGEST = 8, 64
"""Limits of ``ingest.image.size``."""
MOST_CLASSES = 1000
_RESIZED = 32
_SAMPLE = 200
"""Images of each part that are looked at closely."""
_UPRIGHT = {"1", "l", "i", "I"}
"""Characters that are higher than wide."""
_FEW = 20
_DARK = 64
_LISTED = 8

_NO_PROGRESS = Progress(disable=True)


@dataclass(frozen=True)
class Found:
    """What a source holds."""

    source: str
    """As it was given; it may hold credentials."""
    format: Format
    """The kind that reads it, never ``auto``."""
    classes: tuple[str, ...]
    """Names of the classes, as ``ingest.classes`` takes them: in the source's own order, or sorted. A source
    that only has numbers has their digits as names, unless it is known (``known.py``)."""
    counts: Mapping[str, Mapping[str, int]]
    """Number of images by split (``train`` and, if the source has it, ``test``) and by class, in the order of
    ``classes``. A validation split counts as ``train``, or as ``test`` if there is no other one."""
    sides: Mapping[tuple[int, int], int]
    """Number of images by (height, width), the most frequent one first."""
    channels: int
    """3 if an image has a colour, otherwise 1, even if it is stored as RGB."""
    dtype: str
    """NumPy's name of the pixels' type in the source. Pictures are ``uint8``."""
    minimum: float
    maximum: float
    """The smallest and the largest pixel in the source, before any conversion."""
    has_test_split: bool
    transposed: bool
    """Rows and columns look exchanged, for ``ingest.image.transpose``. A guess that only characters allow: it
    is False for other classes, and means nothing if classes with numbers are no digits."""
    light_background: bool
    """Most images are dark on light."""
    notes: tuple[str, ...]
    """Sentences about what looks suspicious, or was left out."""

    @property
    def images(self) -> int:
        """Return the number of all images."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def size(self) -> int:
        """Return a value for ``ingest.image.size``."""
        longest = max(max(side) for side in self.sides)
        return max(longest, SMALLEST) if len(self.sides) == 1 and longest <= LARGEST else _RESIZED

    @property
    def fit(self) -> str:
        """Return a value for ``ingest.image.fit``: ``exact`` if all images are square and of one size.

        It is never ``pad``: a client cannot know how large a picture was meant to be, so it resizes.
        """
        [(height, width), *others] = self.sides
        return "exact" if not others and height == width and SMALLEST <= height <= LARGEST else "resize"


def inspect(
    source: str,
    root: Path,
    *,
    format: Format = "auto",
    max_megabytes: int,
    attempts: int,
    scratch: Path,
    progress: Progress = _NO_PROGRESS,
) -> Found:
    """Read a source once, in parts, and describe it.

    Args:
        source: a path, absolute or relative to ``root``, a URL of fsspec, or ``sklearn:digits``.
        root: the checkout.
        format: the kind; ``auto`` chooses by the names of the files.
        max_megabytes: the largest uncompressed size of a file.
        attempts: how often each file of a remote source is tried.
        scratch: the folder for temporary files, which have no names; it is created.
        progress: shows the transfer of each file.

    Raises:
        UsageError: the source is not valid, or its driver is not installed.
        Unavailable: the source does not answer.
        DataError: the source holds no images with labels, or they cannot be converted without a loss. The
            message says what it holds, or how to convert it.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with progress:
        reading = open_source(
            source,
            format,
            root,
            max_megabytes=max_megabytes,
            attempts=attempts,
            scratch=scratch,
            progress=progress,
        )
        seen = _Seen()
        for part in reading.parts:
            seen.add(part)
    return seen.found(source, reading)


@dataclass
class _Close:
    """Some images of a split, with their rows."""

    rows: list[int] = field(default_factory=list)
    images: list[Array] = field(default_factory=list)


class _Seen:
    def __init__(self) -> None:
        self._pixels = Pixels()
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._images: Counter[str] = Counter()
        self._sides: Counter[tuple[int, int]] = Counter()
        self._dtypes: set[str] = set()
        self._low, self._high = np.inf, -np.inf
        self._in_colour = False
        self._close: dict[str, _Close] = defaultdict(_Close)
        self._upright: dict[str, list[Array]] = defaultdict(list)
        """Rows of the upright characters, by split."""
        self._labelled: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        """Of the labels of train that are numbers, one byte each."""

    def add(self, part: Part) -> None:
        images, labels = part.images, part.labels
        if part.idx is not None and part.role == "images":
            images = idx.decode_any(part.idx, part.origin)
        elif part.idx is not None:
            labels = class_labels(part.idx, part.origin)
        if isinstance(images, np.ndarray):
            for rows in chunks(len(images)):
                self._add_images(part.split, self._array(images[rows], part.origin))
        elif images is not None:
            self._dtypes.add("uint8")
            for image in images:
                self._range(image)
            self._add_images(part.split, images)
        if labels is not None:
            self._add_labels(part, labels)

    def _array(self, images: Array, origin: str) -> Array:
        self._dtypes.add(images.dtype.newbyteorder("=").name)
        pixels = self._pixels.convert(images, origin)
        self._range(shaped(images, origin))
        return pixels

    def _range(self, images: Array) -> None:
        self._low = min(self._low, float(images.min()))
        self._high = max(self._high, float(images.max()))

    def _add_images(self, split: str, images: Array | Sequence[Array]) -> None:
        step = max(1, len(images) // _SAMPLE)
        close = self._close[split]
        for row in range(0, len(images), step):
            close.rows.append(self._images[split] + row)
            close.images.append(images[row].copy())
        if isinstance(images, np.ndarray):
            self._sides[images.shape[1], images.shape[2]] += len(images)
            self._in_colour = self._in_colour or (images.ndim == 4 and not (images[..., :1] == images).all())
        else:
            self._sides.update((image.shape[0], image.shape[1]) for image in images)
            self._in_colour = self._in_colour or any(image.ndim == 3 for image in images)
        self._images[split] += len(images)

    def _add_labels(self, part: Part, labels: Array) -> None:
        split = part.split
        numbers, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        values = names_of(with_names(numbers, part.names, part.first))
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._counts[split][value] += count
        if split == TRAIN and labels.dtype.kind == "i":
            self._digest.update(labels.astype(np.uint8).tobytes())
        if len(set().union(*self._counts.values())) > MOST_CLASSES:
            raise DataError(
                f"There are more than {MOST_CLASSES:,} different labels.",
                expected=f"2 to {MOST_CLASSES:,} classes",
                found=f"{', '.join(map(str, values[:_LISTED]))}, …",
                fix="check which column, folder or array has the labels",
            )
        rows = np.flatnonzero(np.isin(values, list(_UPRIGHT))[inverse])
        self._upright[split].append(rows + self._labelled[split])
        self._labelled[split] += len(labels)

    def found(self, source: str, reading: Reading) -> Found:
        if not self._images or not self._counts:
            raise DataError(
                f"{mask_urls(source)} holds no images with labels.",
                expected="images, and one label for each",
                found=f"{sum(self._images.values()):,} images, {sum(self._labelled.values()):,} labels",
                fix="check the source",
            )
        notes = list(reading.notes)
        if names := KNOWN.get(self._digest.hexdigest()):
            for split, numbered in self._counts.items():
                self._counts[split] = Counter({names[int(value)]: n for value, n in numbered.items()})
            reading.names = names
        present = set().union(*self._counts.values())
        named = [str(name) for name in reading.names]
        classes = tuple(name for name in named if name in present) if present <= set(named) else ()
        classes = classes or tuple(in_order(list(present)))
        notes += [f"No image has the class {name}." for name in named if name not in present][:_LISTED]
        for split in self._images:
            if self._images[split] != self._labelled[split]:
                notes.append(
                    f"{split} has {self._images[split]:,} images and {self._labelled[split]:,} labels."
                )
        counts = self._merged(classes, notes)
        has_test = TEST in counts
        transposed = all(len(name) == 1 for name in classes) and self._looks_transposed()
        light = self._is_light()
        return Found(
            source=source,
            format=reading.format,
            classes=classes,
            counts=counts,
            sides=dict(self._sides.most_common()),
            channels=3 if self._in_colour else 1,
            dtype=", ".join(sorted(self._dtypes)),
            minimum=self._low,
            maximum=self._high,
            has_test_split=has_test,
            transposed=transposed,
            light_background=light,
            notes=(*notes, *self._suspicious(counts, transposed=transposed, light=light)),
        )

    def _merged(self, classes: Sequence[str], notes: list[str]) -> dict[str, dict[str, int]]:
        counts = dict(self._counts)
        if VALIDATION in counts:
            validation = counts.pop(VALIDATION)
            target = TRAIN if TEST in counts else TEST
            counts[target] = counts.get(target, Counter()) + validation
            notes.append(f"The {validation.total():,} images of the validation split are used as {target}.")
        return {
            split: {name: counts[split][name] for name in classes}
            for split in (TRAIN, TEST)
            if split in counts
        }

    def _suspicious(
        self, counts: Mapping[str, Mapping[str, int]], *, transposed: bool, light: bool
    ) -> list[str]:
        notes = []
        if TEST not in counts:
            notes.append("There is no test split: ingest.test_share of each class becomes one.")
        if len(self._sides) > 1:
            heights, widths = zip(*self._sides, strict=True)
            notes.append(
                f"The images have {len(self._sides):,} sizes: {min(heights)} to {max(heights)} pixels high, "
                f"{min(widths)} to {max(widths)} wide."
            )
        elif len({*next(iter(self._sides))}) > 1:
            height, width = next(iter(self._sides))
            notes.append(f"The images are not square: {height} pixels high, {width} wide.")
        if max(max(side) for side in self._sides) > LARGEST:
            notes.append(f"Images are larger than {LARGEST} pixels and must be resized.")
        if light:
            notes.append("The images are dark on a light background.")
        if transposed:
            notes.append(
                "Rows and columns look exchanged: characters such as 1 are wider than high. "
                "ingest.image.transpose: true corrects it."
            )
        if self._high < _DARK and self._dtypes.isdisjoint({"float32", "float64", "float16", "bool"}):
            notes.append(
                f"The images are dark: the largest pixel is {self._high:g}, and white is 255. "
                "Multiply the pixels if it should be white."
            )
        train = counts.get(TRAIN, {})
        few = [f"{name} ({count})" for name, count in train.items() if count < _FEW]
        if few:
            more = f", and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
            notes.append(f"Classes with less than {_FEW} images in train: {', '.join(few[:_LISTED])}{more}.")
        if train and max(train.values()) > 10 * max(1, min(train.values())):
            notes.append("The largest class of train has more than ten times the images of the smallest one.")
        if TEST in counts:
            absent = [name for name, count in counts[TEST].items() if not count]
            if absent:
                notes.append(f"Classes without an image in test: {', '.join(absent[:_LISTED])}.")
        if len(train) < 2:
            notes.append("There is only one class.")
        return notes

    def _is_light(self) -> bool:
        edges = [
            float(np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])))
            for close in self._close.values()
            for image in close.images
        ]
        return bool(np.mean(np.array(edges) > 127) > 0.5)

    def _looks_transposed(self) -> bool:
        """Whether characters that are higher than wide are wider than high here."""
        wider, looked_at = 0, 0
        for split, close in self._close.items():
            rows = set(np.concatenate(self._upright[split]).tolist()) if self._upright[split] else set()
            for row, image in zip(close.rows, close.images, strict=True):
                if row not in rows or image.ndim != 2:
                    continue
                edge = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]))
                ink = np.abs(image.astype(float) - edge)
                if not ink.any():
                    continue
                looked_at += 1
                wider += _spread(ink.sum(axis=0)) > _spread(ink.sum(axis=1))
        return looked_at >= 5 and wider > 0.8 * looked_at


def _spread(mass: Array) -> float:
    """Return the standard deviation of positions along one axis."""
    positions = np.arange(len(mass))
    centre = np.average(positions, weights=mass)
    return float(np.sqrt(np.average((positions - centre) ** 2, weights=mass)))
