"""What a user's commands take, in fresh clones of the last commit.

Cold is a clone without cache, outputs and state.
"""

import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks import command
from benchmarks.bench import ROOT, Bench
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict, at_most
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.stages import params

COLD, NOTHING = "dvc repro, cold", "dvc repro, nothing to do"
HELP, PREDICT = "lenet5 --help", "lenet5 predict, one image"
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

    def set(self, name: str, value: int) -> None:
        """Edit one parameter."""
        params.write(Paths(self.root).params, {name: value})


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    runs: dict[str, list[Measured]] = defaultdict(list)
    for _ in range(max(1, bench.seeds // 5)):  # each takes minutes
        with tempfile.TemporaryDirectory() as folder:
            _graph(_Clone(bench, Path(folder) / "graph", runs))
            if not bench.quick:
                _flow(_Clone(bench, Path(folder) / "flow", runs))
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
    clone.measure("lenet5 run, cold", "lenet5", "run")
    clone.measure("lenet5 run, nothing to do", "lenet5", "run")
    image = clone.root / ".lenet5" / "digit.png"
    Image.fromarray(dataset.load(clone.bench.paths.raw).splits["test"].images[0]).save(image)
    # the first prediction of a version also fetches the model file
    clone.measure("lenet5 predict, first image of a version", "lenet5", "predict", str(image))
    clone.measure(PREDICT, "lenet5", "predict", str(image), times=clone.bench.seeds)
    clone.measure("lenet5 reproduce @champion", "lenet5", "reproduce", "@champion")


if __name__ == "__main__":
    command.main("pipeline")
