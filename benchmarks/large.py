"""Every stage on more data than fits in memory: ``python -m benchmarks.large``.

MNIST's train images come many times over, each time distorted at random by another seed, and every stage runs
on them in a process of its own that is watched from outside.

``--times 1 --times 10 --times 100`` goes up to 6 million images, 25 GB of disk and about half an hour.
"""

import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks import one_stage
from benchmarks.enlarge import write_source
from benchmarks.watched import anonymous_peak
from lenet5 import dataset, environment, files
from lenet5.errors import Lenet5Error, UsageError
from lenet5.paths import Paths
from lenet5.terminal import console, print_error

STAGES = ("ingest", "validate", "preprocess", "train", one_stage.IN_MEMORY, "evaluate", "register")
BASE = 60_000
MEMORY = 2**30
"""Bytes of anonymous memory that a stage may hold."""
SPEED = 0.9
"""Share of the rate in memory that training on a memory-map keeps at least."""
LINEAR = 1.25
"""An image may cost at most so many times what it costs where there are fewer."""

_DISK = 4000  # bytes an image: 784 raw, 3,136 + 40 preprocessed; at the time of ingest fewer
_SPARE = 1_000_000_000
_RESULT = Path(__file__).parent / "results" / "large.json"


@dataclass(frozen=True)
class Row:
    """One stage on so many images."""

    times: int
    images: int
    stage: str
    seconds: float
    cpu_seconds: float
    anonymous_bytes: int
    """The most that was seen."""
    images_per_second: float | None
    """Of the epochs alone, for the two trainings."""

    @property
    def seconds_per_base(self) -> float:
        return self.seconds / self.times


@dataclass(frozen=True)
class Verdict:
    what: str
    found: str
    passed: bool


def main(
    times: Annotated[list[int], typer.Option(min=1, help="How often MNIST's train images come.")] = [1, 10],  # noqa: B006
) -> None:
    """Measure, print the table and the verdicts, and write them to benchmarks/results/large.json."""
    try:
        rows = measure(Paths.find(), sorted(set(times)))
    except Lenet5Error as error:
        print_error(error)
        raise typer.Exit(error.exit_code) from None
    verdicts = judge(rows)
    console.print(table(rows))
    for verdict in verdicts:
        console.print(f"{'✓' if verdict.passed else '✗'} {verdict.what}: {verdict.found}")
    files.write_json(
        _RESULT,
        {
            "machine": environment.machine(),
            "rows": [asdict(row) for row in rows],
            "verdicts": [asdict(verdict) for verdict in verdicts],
        },
    )


def measure(paths: Paths, times: Sequence[int]) -> list[Row]:
    """One row a scale and stage, each scale in a temporary project below ``.lenet5``.

    Raises:
        UsageError: the disk has not room enough.
        DataError: there is no raw data in the checkout.
    """
    _require_room(paths.state, max(times))
    raw = dataset.load(paths.raw)
    rows = []
    for scale in times:
        with tempfile.TemporaryDirectory(dir=paths.state, prefix="large-") as folder:
            project = Paths(Path(folder))
            console.print(f"{scale} × {BASE:,} images in {folder}: making them")
            source = project.root / "source"
            pins = write_source(source, paths.raw / "train" / "images.npy", raw.splits, scale)
            _lay_out(paths, project, source, pins.model_dump(), scale)
            for stage in STAGES:
                row = _row(project, stage, scale)
                console.print(f"  {stage:<10} {row.seconds:7.1f} s {row.anonymous_bytes / 2**20:7.0f} MiB")
                rows.append(row)
                if stage == "ingest":
                    shutil.rmtree(source)  # the others read what it made
    return rows


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
    most = max(row.anonymous_bytes for row in rows)
    return Verdict(f"{stage} holds less than 1 GiB", f"{most / 2**20:,.0f} MiB", most < MEMORY)


def _linearity(stage: str, rows: Sequence[Row]) -> Verdict:
    """A process's start weighs less the more images there are: an image must not cost more among more."""
    growth = max(after.seconds_per_base / before.seconds_per_base for before, after in pairwise(rows))
    return Verdict(
        f"{stage} is linear in the images",
        f"an image costs at most {growth:.2f} times what it costs among fewer",
        growth <= LINEAR,
    )


def _rates(mapped: Sequence[Row], in_memory: Sequence[Row]) -> Iterator[Verdict]:
    for row, other in zip(mapped, in_memory, strict=True):
        rate, reference = row.images_per_second or 0.0, other.images_per_second or math.inf
        yield Verdict(
            f"training on {row.images:,} images keeps {SPEED:.0%} of the rate in memory",
            f"{rate:,.0f} of {reference:,.0f} images/s, {rate / reference:.0%}",
            rate >= SPEED * reference,
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
        "anonymous, MiB",
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
            f"{row.anonymous_bytes / 2**20:,.0f}",
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
            do="make room, or take a smaller --times",
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


def _row(project: Paths, stage: str, times: int) -> Row:
    rate = project.root / one_stage.RATE
    rate.unlink(missing_ok=True)
    before, started = os.times(), time.perf_counter()
    peak = anonymous_peak([sys.executable, "-m", "benchmarks.one_stage", str(project.root), stage])
    seconds, after = time.perf_counter() - started, os.times()
    return Row(
        times=times,
        images=times * BASE,
        stage=stage,
        seconds=seconds,
        cpu_seconds=sum(after[2:4]) - sum(before[2:4]),
        anonymous_bytes=peak,
        images_per_second=float(rate.read_text()) if rate.exists() else None,
    )


if __name__ == "__main__":
    typer.run(main)
