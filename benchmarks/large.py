"""Every stage on more data than fits in memory.

MNIST's training images come many times, each time with other noise in their lowest bit, and every stage runs
on them in a process of its own whose memory is sampled. ``--times 1 --times 10 --times 100`` goes up to 6
million images and takes 25 GB of disk and about half an hour.
"""

import gzip
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks import command
from benchmarks.bench import Bench
from benchmarks.results import Line, Verdict, at_least, at_most
from lenet5.core import dataset
from lenet5.core.dataset import Array, Split
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.ingest.params import Checksums
from lenet5.stages.validate.reference import classifier_path
from lenet5.system.state import LocalState

IN_MEMORY = "train in memory"
"""The same training with few of the images, which are in memory."""
STAGES = ("ingest", "validate", "preprocess", IN_MEMORY, "train", "evaluate")
_TRAINING = (sys.executable, "-m", "benchmarks.one_training")
COMMANDS = {"train": _TRAINING, IN_MEMORY: (*_TRAINING, "--in-memory")}
"""In place of ``lenet5 STAGE``; each answers with its images per second."""
BASE = 60_000
MEMORY = 2**30 / 1e6
"""Anonymous memory that a stage may hold, in 1e6 bytes: 1 GiB."""
SPEED = 0.9
"""The least rate of a training on a memory map, divided by the rate with images in memory."""
LINEAR = 1.25
"""The most that the time per image may grow with the data."""
ANONYMOUS = "anonymous memory, peak"

_DISK = 4000  # bytes per image: 784 raw, 3,136 + 40 preprocessed; fewer while ingest runs
_SPARE = 1_000_000_000


@dataclass(frozen=True)
class Row:
    """One stage on one size of the data."""

    times: int
    stage: str
    seconds: float
    anonymous_mb: float
    """Peak anonymous memory, in 1e6 bytes."""
    rate: float | None = None
    """Images per second of the epochs alone, for the two trainings."""

    @property
    def name(self) -> str:
        return f"{self.stage}, {self.times * BASE:,} images"

    @property
    def seconds_per_base(self) -> float:
        return self.seconds / self.times


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    rows = measure(bench, [1] if bench.quick else bench.times)
    lines = []
    for table, unit, values in (
        (f"seconds per {BASE:,} images", "s", [row.seconds_per_base for row in rows]),
        (ANONYMOUS, "MB", [row.anonymous_mb for row in rows]),
        ("training rate", "images/s", [row.rate for row in rows]),
    ):
        lines += [
            Line(table=table, name=row.name, unit=unit, values=(round(value, 3),), headline=row.times > 1)
            for row, value in zip(rows, values, strict=True)
            if value
        ]
    return lines, [] if bench.quick else judge(rows)


def measure(bench: Bench, times: Sequence[int]) -> list[Row]:
    """One row for each size and stage; each size in a temporary project below ``.lenet5``.

    Raises:
        UsageError: the disk has not enough room.
        DataError: there is no raw data in the checkout.
    """
    paths = bench.paths
    LocalState(paths.root).folder.mkdir(parents=True, exist_ok=True)
    needed, free = max(times) * BASE * _DISK + _SPARE, shutil.disk_usage(LocalState(paths.root).folder).free
    if free < needed:
        raise UsageError(
            f"The disk has not enough room for {max(times)} times MNIST.",
            expected=f"{needed / 1e9:.1f} GB free at {LocalState(paths.root).folder}",
            found=f"{free / 1e9:.1f} GB",
            fix="free some room, or use a smaller --times",
        )
    rows = []
    for scale in times:
        with tempfile.TemporaryDirectory(dir=LocalState(paths.root).folder, prefix="large-") as folder:
            root = Path(folder)
            pins = write_source(root / "source", dataset.load(paths.raw).splits, scale)
            _lay_out(paths, root, pins, scale)
            for stage in STAGES:
                words = COMMANDS.get(stage, ("lenet5", stage))
                name = f"{stage}, {scale * BASE:,} images"
                done = bench.command(name, words, cwd=root, watch_memory=True)
                rate = done.answer if stage in COMMANDS else None
                rows.append(Row(scale, stage, done.wall_s, done.anonymous_mb or 0.0, rate))
                if stage == "ingest":
                    shutil.rmtree(root / "source")  # the other stages do not read it
    return rows


def write_source(folder: Path, splits: dict[str, Split], times: int) -> Checksums:
    """Write the four IDX files of a source into a new folder; the test images stay MNIST's.

    Args:
        folder: the new folder.
        splits: ``train`` and ``test``, uint8 (N, 28, 28) and (N,).
        times: so many times the training images.
    """
    folder.mkdir(parents=True)
    train, test = splits["train"], splits["test"]
    parts = {
        "train_images": _noisy(train.images, times),
        "train_labels": idx.encode_chunks(np.tile(train.labels, times)),
        "test_images": idx.encode_chunks(test.images),
        "test_labels": idx.encode_chunks(test.labels),
    }
    digests = {}
    for item in MNIST_FILES:
        digest = hashlib.sha256()
        with gzip.open(folder / f"{item.file}.gz", "wb", compresslevel=1) as file:
            for part in parts[item.key]:
                digest.update(part)
                file.write(part)
        digests[item.key] = digest.hexdigest()
    return Checksums(**digests)


def _noisy(images: Array, times: int) -> Iterator[bytes]:
    """IDX content: the images many times, with a random lowest bit in every pixel above 1."""
    yield next(idx.encode_chunks(np.broadcast_to(np.uint8(0), (times * len(images), *images.shape[1:]))))
    random = np.random.default_rng(0)
    for _ in range(times):
        for chunk in dataset.chunks(len(images)):
            pixels = images[chunk]
            noise = random.integers(0, 2, pixels.shape, np.uint8)
            yield np.where(pixels > 1, pixels ^ noise, pixels).tobytes()


def _lay_out(paths: Paths, root: Path, pins: Checksums, times: int) -> None:
    """Write what the stages read and no stage makes. The recipe is the checkout's, with one epoch."""
    needed = (
        paths.requirements,
        paths.graph,
        paths.data_card,
        paths.reference,
        classifier_path(paths.reference),
    )
    for original in needed:
        copy = root / original.relative_to(paths.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
    yaml = YAML()
    params: dict[str, Any] = yaml.load(paths.params)
    megabytes = max(params["ingest"]["max_megabytes"], times * BASE * 784 // 1_000_000 + 1)
    params["ingest"] |= {"source": "source", "sha256": pins.model_dump(), "max_megabytes": megabytes}
    params["preprocess"]["validation_images"] *= times
    # variants of a few images that are nearly equal become as many more pairs
    params["validate"]["max_train_near_duplicates"] *= times
    params["train"]["epochs"] = 1
    with Paths(root).params.open("w") as file:
        yaml.dump(params, file)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """The targets: bounded memory, a time per image that does not grow, a training that does not wait."""
    by_stage = {stage: [row for row in rows if row.stage == stage] for stage in STAGES}
    in_memory = by_stage.pop(IN_MEMORY)
    verdicts = []
    for sizes in by_stage.values():
        most = max(sizes, key=lambda row: row.anonymous_mb)
        verdicts.append(at_most(f"{most.name}: anonymous memory", most.anonymous_mb, MEMORY, "MB"))
    for stage, sizes in by_stage.items():
        # the start of a process weighs less with more images, so the time per image must not grow
        growth = [more.seconds_per_base / less.seconds_per_base for less, more in pairwise(sizes)]
        if growth:
            name = f"{stage}: time per image / time per image with less data"
            verdicts.append(at_most(name, max(growth), LINEAR))
    for row, other in zip(by_stage["train"], in_memory, strict=True):
        if row.rate and other.rate:
            verdicts.append(at_least(f"{row.name}: rate / rate in memory", row.rate / other.rate, SPEED))
    return verdicts


if __name__ == "__main__":
    command.main("large")
