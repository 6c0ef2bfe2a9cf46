"""``python -m benchmarks [PART ...]``: measure, print tables, write ``benchmarks/results/*.json``."""

import importlib
import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import machine, results, tables
from benchmarks.bench import ROOT, Bench
from lenet5 import __version__
from lenet5.core import dataset
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console, print_error

log = logging.getLogger(__name__)

PARTS = {
    "time": "time_to_accuracy",
    "rate": "rate",
    "ablation": "ablation",
    "fixed": "fixed_costs",
    "inference": "inference",
    "memory": "memory",
    "pipeline": "pipeline",
    "gate": "gate",
    "scaling": "scaling",
    "large": "large",
    "accuracy": "accuracy",
}
"""A part is a module of this package with ``run(bench)``, which gives lines and verdicts."""
ON_REQUEST = {"accuracy"}  # `time` has the same figures
QUIET = 0.1
"""Cores that others may use before a warning says that they did."""


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(PARTS)}.")] = None,
    seeds: Annotated[int, typer.Option(help="Rounds, each with a seed of its own.", min=1)] = 5,
    times: Annotated[
        list[int] | None,
        typer.Option(help="Sizes of the part `large`: MNIST so many times.", min=1, show_default="1 and 10"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round, to see that it works; the figures mean nothing.")
    ] = False,
) -> None:
    """Measure the product, the notebook and the peers in turn. With no PART, all but `accuracy`."""
    paths = Paths(ROOT)
    wanted = parts or [part for part in PARTS if part not in ON_REQUEST]
    if unknown := sorted(set(wanted) - PARTS.keys()):
        raise UsageError("There is no such part.", expected=", ".join(PARTS), found=", ".join(unknown))
    for folder in (paths.raw, paths.processed):
        dataset.load_manifest(folder)  # says what to do when it is not there
    # what was shortened never takes the place of a real figure
    folder = LocalState(paths.root).folder / "bench" / "quick" if quick else results.FOLDER
    for part in wanted:
        _measure(part, Bench(paths, 1 if quick else seeds, sorted(set(times or (1, 10))), quick), folder)
    console.print(f"Results lie in {folder}.", markup=False)
    if not quick:
        console.print("Next: `python -m benchmarks.readme` puts them into README.md.", markup=False)


def _measure(part: str, bench: Bench, folder: Path) -> None:
    module = importlib.import_module(f"benchmarks.{PARTS[part]}")
    console.rule(part)
    started, date = time.perf_counter(), machine.now()
    commit, dirty = machine.commit(bench.paths.root)  # what is measured, whatever is committed meanwhile
    lines, verdicts = module.run(bench)
    result = results.Result(
        part=part,
        about=module.__doc__ or "",
        date=date,
        commit=commit,
        dirty=dirty,
        machine=machine.facts(),
        versions={"lenet5": __version__, **machine.versions()},
        quick=bench.quick,
        seeds=bench.seeds,
        minutes=round((time.perf_counter() - started) / 60, 1),
        others_cores=round(bench.others_cores(), 3),
        lines=tuple(lines),
        verdicts=tuple(verdicts),
        repetitions=tuple(bench.repetitions),
    )
    results.write(result, folder)
    for table in tables.tables(result):
        console.print(table)
    console.print(
        f"{part}: {result.minutes:.1f} minutes; others used {result.others_cores:.2f} cores meanwhile",
        markup=False,
    )
    if result.others_cores > QUIET:
        log.warning("the machine was not quiet: what is measured in wall time is too long, and ratios may be")


if __name__ == "__main__":
    try:
        typer.run(main)
    except Lenet5Error as error:
        print_error(error)
        sys.exit(error.exit_code)
