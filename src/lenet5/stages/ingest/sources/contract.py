"""Define what a kind of source gets, and what it gives."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from rich.progress import Progress

from lenet5.core import storage
from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.stages.ingest.memory_map import Buffer
from lenet5.stages.ingest.params import Format
from lenet5.stages.ingest.source import Source
from lenet5.stages.ingest.unzip import gunzip

TRAIN, TEST, VALIDATION = "train", "test", "validation"
_WORDS = {
    TRAIN: {"train", "training", "trn"},
    TEST: {"test", "testing", "tst", "t10k", "test10k"},
    VALIDATION: {"val", "valid", "validation", "dev"},
}
LABELS = ("label", "labels", "class", "classes", "target", "category", "digit", "letter", "character", "y")
"""Usual names of the column with the labels, in order of preference."""


@dataclass(frozen=True)
class Part:
    """Consecutive images of one split, their labels, or both, in the order of the source."""

    split: str
    """``train``, ``test`` or ``validation``."""
    origin: str
    """The file, for errors."""
    images: Array | Sequence[Array] | None = None
    """Pixels of any number type: one array (N, ...), or N arrays of different sizes."""
    labels: Array | None = None
    """(N,) whole numbers or text; as the source has them, or made by ``labels.tidy``."""
    idx: Buffer | None = None
    """In place of both: uncompressed IDX content that was not read yet. ``role`` says of what."""
    role: str = ""
    """``images`` or ``labels``."""
    names: Sequence[str] = ()
    """Names of the labels ``first``, ``first + 1``, …, where the labels are numbers with names."""
    first: int = 0


@dataclass
class Reading:
    """A source that was opened."""

    parts: Iterator[Part]
    """Reads the source once, in parts. Parts of splits may alternate."""
    names: Sequence[str] = ()
    """Names of the classes in the source's own order. Empty if the source has none, or no order of them."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what a person should know, such as files that were left out. Complete after the last
    part."""
    format: Format = "auto"
    """The kind that reads it."""


class Kind(Protocol):
    """A module of this package."""

    def read(self, reader: "Reader") -> Reading:
        """Open a source.

        Raises:
            DataError: the source does not hold what this kind needs. The message lists what it holds.
        """


@dataclass(frozen=True)
class Reader:
    """Reads the files of a source. Large content goes to a temporary file without a name."""

    source: Source
    scratch: Path
    limit: int
    """The largest uncompressed size of a file, in bytes."""
    progress: Progress

    def names(self) -> tuple[str, ...] | None:
        """Return the paths of all files; None if the source cannot list them."""
        return self.source.names()

    def listed(self, otherwise: str) -> tuple[str, ...]:
        """Return the paths of all files.

        Args:
            otherwise: what the source must be if it cannot list them, for the error.

        Raises:
            DataError: the source cannot list its files.
        """
        names = self.names()
        if names is None:
            raise DataError(
                f"{self.source.url} cannot list its files.",
                expected=otherwise,
                fix="correct ingest.source in params.yaml",
            )
        return names

    @contextmanager
    def file(self, *names: str) -> Iterator[tuple[str, BinaryIO]]:
        """Yield the name and the uncompressed content of the first file that exists."""
        # these files have no name on the disk, so even a killed process leaves none behind
        with tempfile.TemporaryFile(dir=self.scratch) as raw, storage.failures_named(self.scratch):
            name = self.source.fetch(names, raw, self.progress)
            if raw.read(2) != b"\x1f\x8b":
                raw.seek(0)
                yield name, raw
                return
            raw.seek(0)
            with tempfile.TemporaryFile(dir=self.scratch) as plain:
                for chunk in gunzip(raw, name, self.limit):
                    plain.write(chunk)
                plain.seek(0)
                yield name, plain

    def small(self, names: Sequence[str]) -> list[bytes]:
        """Return the content of small files as it is."""
        return self.source.read(names)


def split_of(name: str) -> str | None:
    """Return the split that a path names: in the name of the file, or in the nearest folder that does."""
    for part in reversed(PurePosixPath(name.lower()).parts):
        words = set(re.split(r"[^a-z0-9]+", part))
        for split, known in _WORDS.items():
            if words & known:
                return split
    return None


def by_split(names: Iterable[str], source: Source) -> dict[str, list[str]]:
    """Group the files of one data set by split; files that differ by a number alone are pieces of one.

    A single file without the name of a split is train.

    Raises:
        DataError: there are files of several data sets.
    """
    listed = list(names)
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in listed:
        groups[split_of(name) or TRAIN][_set_name(name)].append(name)
    several = {split: found for split, found in groups.items() if len(found) > 1}
    if several:
        found = next(iter(several.values()))
        raise several_sets(source, [pieces[0] for pieces in found.values()])
    return {split: sorted(next(iter(found.values()))) for split, found in groups.items()}


def several_sets(source: Source, examples: Sequence[str]) -> DataError:
    """Return the error for a folder with the files of several data sets."""
    first = re.split(r"[-_.]", PurePosixPath(examples[0]).name)
    return DataError(
        f"{source.url} holds several data sets.",
        expected="the files of one",
        found=", ".join(examples[:10]),
        fix="name one of them with a `*` in ingest.source, such as "
        f"{source.url}/{'-'.join(first[:2]) if len(first) > 2 else first[0]}*",
    )


def _set_name(name: str) -> str:
    """Return a file name without numbers and without the words of the splits."""
    known = set().union(*_WORDS.values())
    words = re.split(r"[^a-z0-9]+", PurePosixPath(name.lower()).name)
    return " ".join(word for word in words if word not in known and not word.isdigit())
