"""Run the stage ``ingest``: read the source, compare checksums, write the arrays to ``data/raw``."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from lenet5.core import dataset, storage
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx, keras_npz
from lenet5.stages.ingest.memory_map import Buffer, memory_mapped
from lenet5.stages.ingest.mnist_files import KERAS_FILE, MNIST_FILES
from lenet5.stages.ingest.params import Checksums, Ingest
from lenet5.stages.ingest.source import Source
from lenet5.stages.ingest.unzip import gunzip


@dataclass(frozen=True)
class Content:
    """One array as uncompressed IDX bytes."""

    origin: str
    """The file that it comes from, for errors."""
    idx: Buffer
    sha256: str


_NO_PROGRESS = Progress(disable=True)


def run(paths: Paths, params: Ingest, *, progress: Progress = _NO_PROGRESS) -> str:
    """Write train and test to ``data/raw``: images uint8 (N, 28, 28), labels uint8 (N,).

    After an error, ``data/raw`` is unchanged.

    Args:
        paths: the checkout.
        params: the source and its pinned checksums.
        progress: shows the transfer of each file.

    Returns:
        One line for each split: its shape, the start of its checksum, its folder.

    Raises:
        UsageError: the source is not valid, or its driver is not installed.
        Unavailable: the source does not answer.
        DataError: a file is missing, damaged, too large, or has another checksum than the pinned one.
    """
    contents = _read(paths, params, progress)
    _require_pinned(contents, params.sha256)
    arrays = _decode(contents)
    splits = {name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "test")}
    dataset.save(paths.raw, splits, description=params.description)
    return "\n".join(
        f"{name:<6} {split.images.shape} {contents[f'{name}_images'].sha256[:12]} → {paths.raw / name}"
        for name, split in splits.items()
    )


def source_checksums(paths: Paths, params: Ingest, *, progress: Progress = _NO_PROGRESS) -> Checksums:
    """Return the checksums of the arrays that the source holds now.

    Every file is parsed, so that the checksum of a file that holds no digits is never pinned.

    Raises:
        UsageError, Unavailable, DataError: as in :func:`run`.
    """
    contents = _read(paths, params, progress)
    _decode(contents)
    return Checksums(**{key: content.sha256 for key, content in contents.items()})


def _read(paths: Paths, params: Ingest, progress: Progress) -> dict[str, Content]:
    """Read four IDX files or one archive; return the arrays by the keys of ``MNIST_FILES``."""
    limit = params.max_megabytes * 1_000_000
    source = Source(params.source, paths.root, limit=limit, attempts=params.attempts)
    scratch = paths.raw.parent
    scratch.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Content] = {}
    with progress:
        for item in MNIST_FILES:
            names = [f"{item.file}.gz", item.file] + ([] if contents else [KERAS_FILE])
            # this file has no name on the disk, so even a killed process leaves none behind
            with tempfile.TemporaryFile(dir=scratch) as file, storage.failures_named(scratch):
                name = source.fetch([source.archive] if source.archive else names, file, progress)
                if name.endswith(".npz"):
                    members = keras_npz.read(file, name, limit, scratch)
                    return {i.key: _content(f"{name}:{i.member}", members[i.key]) for i in MNIST_FILES}
                contents[item.key] = _content(name, memory_mapped(gunzip(file, name, limit), scratch))
    return contents


def _decode(contents: Mapping[str, Content]) -> dict[str, NDArray[np.uint8]]:
    """Return the arrays by the keys of ``MNIST_FILES``.

    Raises:
        DataError: a content is not a valid IDX file.
    """
    return {
        item.key: idx.decode(contents[item.key].idx, contents[item.key].origin, item.dimensions)
        for item in MNIST_FILES
    }


def _content(origin: str, content: Buffer) -> Content:
    return Content(origin, content, hashlib.sha256(content).hexdigest())


def _require_pinned(contents: Mapping[str, Content], pins: Checksums) -> None:
    """Compare checksums before parsing, so that the decoders read pinned bytes only.

    Raises:
        DataError: a checksum differs from the pinned one.
    """
    pinned = pins.model_dump()
    changed = [key for key, content in contents.items() if content.sha256 != pinned[key]]
    if changed:
        indent = "\n            "  # aligns further lines with the first one
        raise DataError(
            f"{', '.join(contents[key].origin for key in changed)}: not the data that params.yaml pins.",
            expected=indent.join(f"{key} {pinned[key]}" for key in changed),
            found=indent.join(f"{key} {contents[key].sha256}" for key in changed),
            fix="download the data again; or, if it changed on purpose, run `lenet5 pin`, which updates "
            + ", ".join(f"ingest.sha256.{key}" for key in changed),
        )
