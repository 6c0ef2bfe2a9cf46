"""The command that searches hyper-parameters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lenet5.cli.app import PIPELINE, Json, app, checkout, print_json
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console, errors, print_line

if TYPE_CHECKING:
    from lenet5.sweep.result import Result

_ROWS = 10
"""Trials in the printed table. MLflow has all of them."""


@app.command(rich_help_panel=PIPELINE)
def sweep(
    trials: Annotated[
        int | None,
        typer.Option(help="Continue until the sweep has this many trials.", min=1, show_default="sweep.yaml"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Concurrent trainings.", min=1, show_default="one per core; 1 on a work pool"),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(help="The work pool that trains, cpu or gpu.", show_default="this machine"),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the values of the best trial into params.yaml.")
    ] = False,
    space: Annotated[
        Path | None,
        typer.Option(help="A search space: a file like sweep.yaml.", show_default="sweep.yaml"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Search hyper-parameters: train many models in parallel and score them on the hold-out images.

    sweep.yaml defines the search space. Optuna chooses the values and stops trials that do worse than others.
    An interrupted sweep continues when the command is called again; a complete sweep prints its result. The
    command does not read the test images and registers nothing.

    Example: `lenet5 sweep --trials 20 --workers 2`

    Needs: data/processed (`lenet5 run` makes it).

    Next: `lenet5 sweep --apply` and `lenet5 run`, whose gate compares the new model with the champion.
    """
    paths, params = checkout()
    from lenet5.stages.params import write
    from lenet5.sweep.space import load

    search = load(space or paths.sweep, params)
    if trials:
        search = search.model_copy(update={"trials": trials})
    with quiet_libraries():
        from lenet5.orchestration import sweep as sweep_run
    progress = errors if as_json else console  # with --json, standard output holds only the answer
    result = sweep_run.run(
        paths, params, search, workers=workers, pool=pool, on_line=lambda line: print_line(line, to=progress)
    )
    if apply:
        write(paths.params, result.winner.values)
    if as_json:
        print_json(result.as_dict())
        return
    options = [*(["--trials", str(trials)] if trials else []), *(["--space", str(space)] if space else [])]
    _print_trials(result)
    _print_next_step(result, applied=apply, apply_command=" ".join(["lenet5 sweep", *options, "--apply"]))


def _print_trials(result: "Result") -> None:
    names = list(result.winner.values)
    table = Table("trial", "hold-out accuracy", "epochs", *(name.removeprefix("train.") for name in names))
    for row in result.rows[:_ROWS]:
        mark = " (params.yaml)" if row == result.own else ""
        values = [str(row.values[name]) for name in names]
        table.add_row(f"{row.trial}{mark}", f"{row.score:.4f}", str(row.epochs), *values)
    console.print(table)
    print_line(
        f"{result.trials} trials: {len(result.rows)} completed, {result.pruned} stopped early, "
        f"{result.diverged} diverged"
    )


def _print_next_step(result: "Result", *, applied: bool, apply_command: str) -> None:
    if result.winner == result.own:
        print_line("No trial was better than params.yaml.")
    elif applied:
        print_line("params.yaml has the values of the best trial. Next: `lenet5 run`.")
    else:
        from lenet5.stages.recipes import options

        print_line(f"Next: `{apply_command}` and `lenet5 run`. Or, without a change of params.yaml:")
        print_line(f"    dvc exp run {options(result.winner.values)}\n    lenet5 promote")
