"""What a user's commands take, in fresh clones of the last commit.

Cold is a clone without cache, outputs and state.
"""

import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks import command
from benchmarks.bench import ROOT, Bench, environment
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict, at_most
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.stages import params
from lenet5.system.terminal import console

COLD, NOTHING = "dvc repro, cold", "dvc repro, nothing to do"
HELP, PREDICT = "lenet5 --help", "lenet5 predict, one image"
RUN_COLD, RUN_NOTHING = "lenet5 run, cold", "lenet5 run, nothing to do"
VERSIONS, STATUS, PROMOTE = "lenet5 versions", "lenet5 status", "lenet5 promote, the champion"
UI = "lenet5 ui, until all servers answer and then stop"
MAKE = "make pipeline, fresh clone, downloaded packages"
WALL, CPU = "commands: wall time", "commands: CPU time"


@dataclass
class _Clone:
    """A fresh clone, and the measurements made in it."""

    bench: Bench
    root: Path
    runs: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)

    def measure(self, name: str, *words: str, times: int = 1) -> None:
        for _ in range(times):
            self.runs[name].append(self.bench.command(name, words, code=self.root))

    def set(self, name: str, value: float) -> None:
        """Edit one parameter."""
        params.write(Paths(self.root).params, {name: value})


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    runs: dict[str, list[Measured]] = defaultdict(list)
    for _ in range(max(1, bench.seeds // 5)):  # each takes minutes
        with tempfile.TemporaryDirectory() as folder:
            _graph(_Clone(bench, Path(folder) / "graph", runs))
            _flow(_Clone(bench, Path(folder) / "flow", runs))
            if not bench.quick:
                _make(bench, Path(folder), runs)
    lines = []
    for name, measured in runs.items():
        wall, cpu = tuple(each.wall_s for each in measured), tuple(each.cpu_s for each in measured)
        lines.append(Line(table=WALL, name=name, unit="s", values=wall, headline=True))
        lines.append(Line(table=CPU, name=name, unit="CPU-s", values=cpu, headline=True))
    if bench.quick:
        return lines, []
    median = {(line.table, line.name): line.median or 0.0 for line in lines}
    return lines, [
        at_most(NOTHING, median[CPU, NOTHING], 1.5, "CPU-s"),
        at_most(HELP, median[WALL, HELP], 0.3, "s"),
        at_most(PREDICT, median[WALL, PREDICT], 1.0, "s"),
        at_most(RUN_NOTHING, median[CPU, RUN_NOTHING], 2.0, "CPU-s"),
        at_most(VERSIONS, median[CPU, VERSIONS], 0.8, "CPU-s"),
        at_most(STATUS, median[CPU, STATUS], 1.2, "CPU-s"),
        at_most(PROMOTE, median[CPU, PROMOTE], 2.0, "CPU-s"),
        at_most(RUN_COLD, median[WALL, RUN_COLD], 40.0, "s"),
        at_most(COLD, median[WALL, COLD], 32.0, "s"),
        *([at_most(MAKE, median[WALL, MAKE], 70.0, "s")] if (WALL, MAKE) in median else []),
    ]


def _graph(clone: _Clone) -> None:
    seeds, quick = clone.bench.seeds, clone.bench.quick
    if quick:
        clone.set("train.epochs", 1)
    clone.measure(COLD, "dvc", "repro")
    clone.measure(NOTHING, "dvc", "repro", times=seeds)
    clone.measure(HELP, "lenet5", "--help", times=seeds)
    clone.set("evaluate.calibration_bins", 16)
    clone.measure("dvc repro, evaluate.calibration_bins changed", "dvc", "repro")
    if not quick:
        clone.set("train.seed", 2026)
        clone.measure("dvc repro, train.seed changed", "dvc", "repro")


def _flow(clone: _Clone) -> None:
    seeds, quick = clone.bench.seeds, clone.bench.quick
    if quick:
        clone.set("train.epochs", 1)
        for limit in ("accuracy", "worst_class_recall", "mean_corruption_accuracy"):
            clone.set(f"register.floors.{limit}", 0.1)
        clone.set("register.ceilings.calibration_error", 0.9)
    clone.measure(RUN_COLD, "lenet5", "run")
    clone.measure(RUN_NOTHING, "lenet5", "run", times=seeds)
    clone.measure(VERSIONS, "lenet5", "versions", times=seeds)
    clone.measure(STATUS, "lenet5", "status", times=seeds)
    clone.measure(PROMOTE, "lenet5", "promote", times=seeds)
    image = clone.root / ".lenet5" / "digit.png"
    Image.fromarray(dataset.load(clone.bench.paths.raw).splits["test"].images[0]).save(image)
    # the first prediction of a version also fetches the model file
    clone.measure("lenet5 predict, first image of a version", "lenet5", "predict", str(image))
    clone.measure(PREDICT, "lenet5", "predict", str(image), times=seeds)
    clone.measure(UI, sys.executable, "-m", "benchmarks.contestants.ui")
    if not quick:
        clone.measure("lenet5 reproduce @champion", "lenet5", "reproduce", "@champion")


def _make(bench: Bench, folder: Path, runs: dict[str, list[Measured]]) -> None:
    """Measure `make pipeline` in a fresh clone. Another clone has downloaded the packages before it."""
    cache = "UV_CACHE_DIR=../uv"  # beside the clones, so that packages become links
    first, second = (_Clone(bench, folder / name, runs) for name in ("downloads", "make"))
    setup, variables = ("make", "setup", cache), environment(first.root)
    downloads = subprocess.run(setup, cwd=first.root, env=variables, capture_output=True, check=False)
    if downloads.returncode:
        console.print(f"  {MAKE}: left out, because the packages cannot be downloaded", style="dim")
        return
    second.measure(MAKE, "make", "pipeline", cache)


if __name__ == "__main__":
    command.main("pipeline")
