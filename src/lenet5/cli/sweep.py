"""The command that searches parameters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lenet5.cli.app import PIPELINE, Json, app, checkout, print_json
from lenet5.core.quiet import quiet_libraries
from lenet5.system.terminal import console, errors

if TYPE_CHECKING:
    from lenet5.sweep.result import Result

_SHOWN = 10
"""Trials in the table: the others are in MLflow."""


@app.command(rich_help_panel=PIPELINE)
def sweep(
    trials: Annotated[
        int | None,
        typer.Option(help="Go on until there are so many trials.", min=1, show_default="sweep.yaml"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Trainings at a time.", min=1, show_default="one a core; 1 on a pool")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(help="The work pool that trains: cpu or gpu.", show_default="this machine"),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the winner's values into params.yaml.")
    ] = False,
    space: Annotated[
        Path | None, typer.Option(help="A file like sweep.yaml.", show_default="sweep.yaml")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search parameters of the training: many trainings side by side, scored on the hold-out images.

    sweep.yaml says which parameters, and where. Optuna draws them and ends trainings that do worse than
    others. What was ended goes on when the command is called again; when all trials are there, it prints the
    result. The test images are never read, and nothing is registered: the winner is a proposal, which
    becomes a candidate with `lenet5 sweep --apply` and `lenet5 run`, and then the gate decides as always.
    """
    paths, params = checkout()
    from lenet5.stages.params import write
    from lenet5.sweep.space import load

    wanted = load(space or paths.sweep, params)
    if trials:
        wanted = wanted.model_copy(update={"trials": trials})
    with quiet_libraries():
        from lenet5.orchestration import sweep as sweep_run
    # with --json, standard output is the answer's alone
    told = (lambda line: errors.print(line, markup=False, soft_wrap=True)) if as_json else _tell
    found = sweep_run.run(paths, params, wanted, workers=workers, pool=pool, on_line=told)
    if apply:
        write(paths.params, found.winner.values)
    if as_json:
        print_json(found.as_dict())
        return
    asked = [*(["--trials", str(trials)] if trials else []), *(["--space", str(space)] if space else [])]
    _print(found, applied=apply, to_apply=" ".join(["lenet5 sweep", *asked, "--apply"]))


def _tell(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _print(found: "Result", *, applied: bool, to_apply: str) -> None:
    names = list(found.winner.values)
    table = Table("trial", "hold-out accuracy", "epochs", *(name.removeprefix("train.") for name in names))
    for row in found.rows[:_SHOWN]:
        mark = " (params.yaml)" if row == found.own else ""
        values = [str(row.values[name]) for name in names]
        table.add_row(f"{row.trial}{mark}", f"{row.score:.4f}", str(row.epochs), *values)
    console.print(table)
    console.print(
        f"{found.trials} trials: {len(found.rows)} trained to the end, {found.pruned} ended early, "
        f"{found.diverged} diverged"
    )
    if found.winner == found.own:
        console.print("Nothing was better than params.yaml as it is.")
        return
    if applied:
        console.print("params.yaml has the winner's values. Next: `lenet5 run`, whose gate decides.")
        return
    from lenet5.stages.recipes import options

    console.print(f"Next: `{to_apply}` and `lenet5 run`; or, with params.yaml left as it is,", markup=False)
    changed = options(found.winner.values)
    console.print(f"    dvc exp run {changed}\n    lenet5 promote", soft_wrap=True, markup=False)
