"""What a user waits for, in fresh clones of the last commit, and how much of it is not work.

Work is what handles data, trains and evaluates: its CPU is measured by calling each stage's own code in one
process that has imported everything and called it once (`contestants/stages.py`). The rest of a command's CPU
is imports, DVC, MLflow and Prefect. Cold is a clone with no cache, no outputs and no state.
"""

import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.bench import ROOT, Bench, environment
from benchmarks.measure import Measured
from benchmarks.results import Line, Verdict
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.stages import params

STAGES = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
COLD, NOTHING = "dvc repro, cold", "dvc repro, nothing to do"
BINS, SEED = "dvc repro, evaluate.calibration_bins changed", "dvc repro, train.seed changed"
FLOW, FLOW_NOTHING = "lenet5 run, cold", "lenet5 run, nothing to do"
HELP, REPRODUCE = "lenet5 --help", "lenet5 reproduce @champion"
PREDICT_FIRST, PREDICT = "lenet5 predict, a version's first time", "lenet5 predict, one picture"
RUNS = {  # the stages whose work a command does
    COLD: STAGES,
    NOTHING: (),
    BINS: ("evaluate", "register"),
    SEED: ("train", "evaluate", "register"),
    FLOW: STAGES,
    FLOW_NOTHING: (),
}


@dataclass
class _Clone:
    """A fresh clone, and what was measured in it."""

    bench: Bench
    root: Path
    took: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, name: str, *words: str, watch_memory: bool = False) -> Measured:
        done = self.bench.command(
            name, words, cwd=self.root, environment=environment(self.root), watch_memory=watch_memory
        )
        self.took[name].append(done)
        return done

    def set(self, name: str, value: Any) -> None:
        """Edit one parameter."""
        params.write(Paths(self.root).params, {name: value})


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    took: dict[str, list[Measured]] = defaultdict(list)
    for _ in range(1 if bench.quick else max(1, bench.seeds // 5)):  # minutes each
        with tempfile.TemporaryDirectory() as folder:
            _graph(_clone(bench, Path(folder) / "graph", took))
            if not bench.quick:
                _flow(_clone(bench, Path(folder) / "flow", took))
    work = [each.answer for each in took["work"]]
    cpu = {stage: tuple(each.get(stage, 0.0) for each in work) for stage in STAGES}
    lines = [*_commands(took), *_shares(took, cpu), *_by_stage(took, cpu)]
    return lines, [] if bench.quick else _verdicts(took, lines)


def _clone(bench: Bench, folder: Path, took: dict[str, list[Measured]]) -> _Clone:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return _Clone(bench, folder, took)


def _graph(clone: _Clone) -> None:
    if clone.bench.quick:
        clone.set("train.epochs", 1)
    clone.measure(COLD, "dvc", "repro")
    for _ in range(clone.bench.seeds):
        clone.measure(NOTHING, "dvc", "repro")
        clone.measure(HELP, "lenet5", "--help")
    for stage in STAGES:
        clone.measure(f"lenet5 {stage}", "lenet5", stage, watch_memory=True)
    clone.measure("work", sys.executable, "-m", "benchmarks.contestants.stages")
    clone.set("evaluate.calibration_bins", 16)
    clone.measure(BINS, "dvc", "repro")
    if not clone.bench.quick:
        clone.set("train.seed", 2026)
        clone.measure(SEED, "dvc", "repro")


def _flow(clone: _Clone) -> None:
    clone.measure(FLOW, "lenet5", "run")
    clone.measure(FLOW_NOTHING, "lenet5", "run")
    picture = clone.root / ".lenet5" / "digit.png"
    Image.fromarray(dataset.load(clone.bench.paths.raw).splits["test"].images[0]).save(picture)
    clone.measure(PREDICT_FIRST, "lenet5", "predict", str(picture))  # fetches the file
    for _ in range(clone.bench.seeds):
        clone.measure(PREDICT, "lenet5", "predict", str(picture))
    clone.measure(REPRODUCE, "lenet5", "reproduce", "@champion")


def _commands(took: dict[str, list[Measured]]) -> list[Line]:
    names = [name for name in (*RUNS, HELP, PREDICT_FIRST, PREDICT, REPRODUCE) if name in took]
    return [
        Line(
            table=f"commands: {what}",
            name=name,
            unit=unit,
            values=tuple(getattr(each, value) for each in took[name]),
            headline=value == "wall_s",
        )
        for what, unit, value in (("wall time", "s", "wall_s"), ("CPU", "CPU-s", "cpu_s"))
        for name in names
    ]


def _shares(took: dict[str, list[Measured]], cpu: dict[str, tuple[float, ...]]) -> list[Line]:
    lines = []
    for name, stages in RUNS.items():
        commands = took.get(name, [])
        if len(commands) != len(took["work"]):  # what does no work is measured more often, and its share is 0
            continue
        shares = [
            100 * sum(cpu[stage][at] for stage in stages) / done.cpu_s for at, done in enumerate(commands)
        ]
        lines.append(
            Line(
                table="commands: share of the CPU that is work",
                name=name,
                unit="%",
                values=tuple(shares),
                note="" if stages else "there is no work to do",
            )
        )
    return lines


def _by_stage(took: dict[str, list[Measured]], cpu: dict[str, tuple[float, ...]]) -> list[Line]:
    lines = []
    for stage in STAGES:
        whole = took[f"lenet5 {stage}"]
        columns: dict[tuple[str, str], tuple[float, ...]] = {
            ("stages: CPU of the command", "CPU-s"): tuple(each.cpu_s for each in whole),
            ("stages: CPU of the work", "CPU-s"): cpu[stage],
            ("stages: peak memory, resident", "MB"): tuple(each.tree_rss_mb or 0.0 for each in whole),
            ("stages: peak memory, anonymous", "MB"): tuple(each.tree_anonymous_mb or 0.0 for each in whole),
        }
        lines += [
            Line(table=table, name=f"lenet5 {stage}", unit=unit, values=values)
            for (table, unit), values in columns.items()
        ]
    return sorted(lines, key=lambda line: line.table)


def _verdicts(took: dict[str, list[Measured]], lines: list[Line]) -> list[Verdict]:
    def median(table: str, name: str) -> float:
        line = next(line for line in lines if (line.table, line.name) == (table, name))
        return line.median or 0.0

    share = "commands: share of the CPU that is work"
    return [
        Verdict(
            name=NOTHING, measured=median("commands: CPU", NOTHING), relation="<=", target=1.5, unit="CPU-s"
        ),
        Verdict(name=HELP, measured=median("commands: wall time", HELP), relation="<=", target=0.3, unit="s"),
        Verdict(
            name=PREDICT, measured=median("commands: wall time", PREDICT), relation="<=", target=1.0, unit="s"
        ),
        Verdict(name=f"{COLD}: work", measured=median(share, COLD), relation=">=", target=200 / 3, unit="%"),
        Verdict(name=f"{FLOW}: work", measured=median(share, FLOW), relation=">=", target=200 / 3, unit="%"),
    ]
