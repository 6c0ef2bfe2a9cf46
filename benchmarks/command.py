"""The command line of all parts and of each part alone."""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import report, results
from benchmarks.bench import ROOT, Bench
from lenet5 import __version__
from lenet5.core import dataset
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console, errors, print_error

PARTS = {
    "time": "time_to_accuracy",
    **{
        name: name
        for name in (
            "rate",
            "ablation",
            "held_out",
            "inference",
            "pipeline",
            "gate",
            "robustness",
            "label_errors",
            "large",
            "serving",
            "serving_soak",
            "soak",
        )
    },
}
"""A part is a module of this package with ``run(bench)``, which returns lines and verdicts."""
ALONE = {"serving_soak", "soak"}
"""Parts that take long, and run only when they are named."""
QUIET = 0.1
"""Cores that other processes may use before a warning is printed."""


def main(*words: str) -> None:
    """Run the command line, with these words before those of the shell."""
    sys.argv[1:1] = words
    run(_parts)


def run(function: Callable[..., None]) -> None:
    """Run a function as a command; an error that the user can act on has no stack trace."""
    try:
        typer.run(function)
    except Lenet5Error as error:
        print_error(error)
        sys.exit(error.exit_code)


def _parts(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(PARTS)}.")] = None,
    seeds: Annotated[int, typer.Option(help="Rounds; each one has its own seed.", min=1)] = 5,
    times: Annotated[
        list[int] | None,
        typer.Option(help="For `large`: so many times MNIST.", min=1, show_default="1 and 10"),
    ] = None,
    runs: Annotated[int, typer.Option(help="For `soak`: flow runs.", min=1)] = 200,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round; its figures mean nothing.")
    ] = False,
) -> None:
    """Measure the product, the notebook and the peers in turns. Without a PART, all but `soak`."""
    paths = Paths(ROOT)
    selected = parts or [part for part in PARTS if part not in ALONE]
    if unknown := sorted(set(selected) - PARTS.keys()):
        raise UsageError("There is no such part.", expected=", ".join(PARTS), found=", ".join(unknown))
    for folder in (paths.raw, paths.processed) if set(selected) - ALONE else ():
        dataset.load_manifest(folder)  # its error names the command that makes the data
    # a quick result never replaces a real one
    folder = LocalState(paths.root).folder / "bench" / "quick" if quick else results.FOLDER
    for part in selected:
        bench = Bench(paths, 1 if quick else seeds, sorted(set(times or (1, 10))), runs, quick)
        _measure(part, bench, folder)
    console.print(f"The results are in {folder}.", markup=False)
    if not quick:
        console.print("Next: `python -m benchmarks.readme` writes them into the documents.", markup=False)


def _measure(part: str, bench: Bench, folder: Path) -> None:
    module = importlib.import_module(f"benchmarks.{PARTS[part]}")
    console.rule(part)
    started, date = time.perf_counter(), results.now()
    commit, dirty = results.commit(bench.paths.root)  # of the code that runs, whatever is committed meanwhile
    lines, verdicts = module.run(bench)
    result = results.Result(
        part=part,
        date=date,
        commit=commit,
        dirty=dirty,
        machine=results.machine(),
        versions={"lenet5": __version__, **results.versions()},
        quick=bench.quick,
        seeds=bench.seeds,
        minutes=round((time.perf_counter() - started) / 60, 1),
        others_cores=(others := round(bench.others_cores(), 3)),
        lines=tuple(lines),
        verdicts=tuple(verdicts),
        repetitions=tuple(bench.repetitions),
    )
    results.write(result, folder)
    console.print(report.text(result), markup=False, soft_wrap=True)
    console.print(f"{part}: {result.minutes:.1f} minutes", markup=False)
    if others > QUIET:
        errors.print(f"warning: other processes used {others:.2f} cores meanwhile: wall times are too long.")
