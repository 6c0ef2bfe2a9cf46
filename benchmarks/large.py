"""Every stage on more data than fits in memory.

MNIST's train images come many times over, each time distorted at random by another seed, and every stage runs
on them in a process of its own that is watched from outside. ``--times 1 --times 10 --times 100`` goes up to
6 million images: 25 GB of disk and about half an hour.
"""

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table
from ruamel.yaml import YAML

from benchmarks import one_stage
from benchmarks.bench import ROOT, Bench, environment
from benchmarks.enlarge import write_source
from benchmarks.results import Line, Verdict
from lenet5.core import dataset
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console

STAGES = ("ingest", "validate", "preprocess", one_stage.IN_MEMORY, "train", "evaluate", "register")
BASE = 60_000
MEMORY = 2**30 / 1e6
"""Anonymous memory that a stage may hold, in 1e6 bytes: 1 GiB."""
SPEED = 0.9
"""Share of the rate in memory that training on a memory-map keeps at least."""
LINEAR = 1.25
"""An image may cost at most so many times what it costs where there are fewer."""

_DISK = 4000  # bytes an image: 784 raw, 3,136 + 40 preprocessed; at the time of ingest fewer
_SPARE = 1_000_000_000


@dataclass(frozen=True)
class Row:
    """One stage on so many images."""

    times: int
    images: int
    stage: str
    seconds: float
    cpu_seconds: float
    anonymous_mb: float
    """The most that was seen, in 1e6 bytes: what no file backs."""
    images_per_second: float | None
    """Of the epochs alone, for the two trainings."""

    @property
    def name(self) -> str:
        return f"{self.stage}, {self.images:,} images"

    @property
    def seconds_per_base(self) -> float:
        return self.seconds / self.times


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    """One line a stage and scale: what it took, and what it held."""
    rows = measure(bench, [1] if bench.quick else bench.times)
    console.print(table(rows))
    return list(_lines(rows)), [] if bench.quick else judge(rows)


def measure(bench: Bench, times: Sequence[int]) -> list[Row]:
    """One row a scale and stage, each scale in a temporary project below ``.lenet5``.

    Raises:
        UsageError: the disk has not room enough.
        DataError: there is no raw data in the checkout.
    """
    paths = bench.paths
    LocalState(paths.root).folder.mkdir(parents=True, exist_ok=True)
    _require_room(LocalState(paths.root).folder, max(times))
    raw = dataset.load(paths.raw)
    rows = []
    for scale in times:
        with tempfile.TemporaryDirectory(dir=LocalState(paths.root).folder, prefix="large-") as folder:
            project = Paths(Path(folder))
            console.print(f"  making {scale * BASE:,} images", style="dim")
            source = project.root / "source"
            pins = write_source(source, paths.raw / "train" / "images.npy", raw.splits, scale)
            _lay_out(paths, project, source, pins.model_dump(), scale)
            for stage in STAGES:
                rows.append(_measure(bench, project, stage, scale))
                if stage == "ingest":
                    shutil.rmtree(source)  # the others read what it made
    return rows


def _measure(bench: Bench, project: Paths, stage: str, times: int) -> Row:
    images = times * BASE
    done = bench.command(
        f"{stage}, {images:,} images",
        (sys.executable, "-m", "benchmarks.one_stage", str(project.root), stage),
        environment=environment(ROOT),
        watch_memory=True,
    )
    assert done.tree_anonymous_mb is not None  # it was watched
    return Row(times, images, stage, done.wall_s, done.cpu_s, done.tree_anonymous_mb, done.answer)


def _lines(rows: Sequence[Row]) -> Iterator[Line]:
    columns: dict[str, tuple[str, Callable[[Row], float]]] = {
        f"seconds per {BASE:,} images": ("s", lambda row: row.seconds_per_base),
        "anonymous memory, peak": ("MB", lambda row: row.anonymous_mb),
    }
    for name, (unit, value) in columns.items():
        for row in rows:
            yield Line(
                table=name, name=row.name, unit=unit, values=(round(value(row), 3),), headline=row.times > 1
            )
    for row in rows:
        if row.images_per_second:
            rate = (round(row.images_per_second),)
            yield Line(table="training rate", name=row.name, unit="images/s", values=rate, headline=True)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """What is asked of the stages: a bound on memory, a cost that is linear, training that does not wait."""
    by_stage = {stage: [row for row in rows if row.stage == stage] for stage in STAGES}
    reference = by_stage.pop(one_stage.IN_MEMORY)
    return [
        *(_memory(stage, found) for stage, found in by_stage.items()),
        *(_linearity(stage, found) for stage, found in by_stage.items() if len(found) > 1),
        *_rates(by_stage["train"], reference),
    ]


def _memory(stage: str, rows: Sequence[Row]) -> Verdict:
    most = max(rows, key=lambda row: row.anonymous_mb)
    return Verdict(
        name=f"{most.name}: anonymous memory",
        measured=most.anonymous_mb,
        relation="<=",
        target=MEMORY,
        unit="MB",
    )


def _linearity(stage: str, rows: Sequence[Row]) -> Verdict:
    """A process's start weighs less the more images there are: an image must not cost more among more."""
    growth = max(after.seconds_per_base / before.seconds_per_base for before, after in pairwise(rows))
    return Verdict(
        name=f"{stage}: what an image costs, of what it costs among fewer",
        measured=growth,
        relation="<=",
        target=LINEAR,
    )


def _rates(mapped: Sequence[Row], in_memory: Sequence[Row]) -> Iterator[Verdict]:
    for row, other in zip(mapped, in_memory, strict=True):
        yield Verdict(
            name=f"{row.name}: rate, of that in memory",
            measured=(row.images_per_second or 0.0) / (other.images_per_second or math.inf),
            relation=">=",
            target=SPEED,
        )


def table(rows: Sequence[Row]) -> Table:
    """Stage by scale; ``more`` is beyond the scale before: without the start of the process."""
    made = Table(
        "stage",
        "images",
        "seconds",
        "CPU-seconds",
        f"s per {BASE:,}",
        f"s per {BASE:,} more",
        "anonymous, MB",
        "images/s",
    )
    for column in made.columns[1:]:
        column.justify = "right"
    before: Row | None = None
    for row in sorted(rows, key=lambda row: (STAGES.index(row.stage), row.times)):
        known = before if before and before.stage == row.stage else None
        more = (row.seconds - known.seconds) / (row.times - known.times) if known else None
        made.add_row(
            row.stage,
            f"{row.images:,}",
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.seconds_per_base:.2f}",
            "" if more is None else f"{more:.2f}",
            f"{row.anonymous_mb:,.0f}",
            f"{row.images_per_second:,.0f}" if row.images_per_second else "",
        )
        before = row
    return made


def _require_room(folder: Path, times: int) -> None:
    needed, free = times * BASE * _DISK + _SPARE, shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"The disk has not room enough for {times} times MNIST.",
            expected=f"{needed / 1e9:.1f} GB free at {folder}",
            found=f"{free / 1e9:.1f} GB",
            fix="make room, or take a smaller --times",
        )


def _lay_out(paths: Paths, project: Paths, source: Path, pins: dict[str, str], times: int) -> None:
    """Everything a stage reads that no stage makes. The recipe is the checkout's, but for one epoch."""
    for kept in (paths.requirements, paths.reference, paths.graph):
        copy = project.root / kept.relative_to(paths.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, copy)
    yaml = YAML()
    params: dict[str, Any] = yaml.load(paths.params)
    params["ingest"] |= {
        "source": str(source),
        "sha256": pins,
        "max_megabytes": max(params["ingest"]["max_megabytes"], times * BASE * 784 // 1_000_000 + 1),
    }
    # interpolated edges are wider: the images are no MNIST any more
    params["validate"] |= {"max_ink_drift": 1.0, "ink_share_max": 1.0}
    params["preprocess"]["validation_images"] *= times
    params["train"]["epochs"] = 1
    with project.params.open("w") as file:
        yaml.dump(params, file)
