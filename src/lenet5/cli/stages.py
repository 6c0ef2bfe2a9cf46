"""One command for each stage, as ``dvc repro`` calls it."""

import os
from typing import Annotated

import typer

from lenet5.cli.app import STAGES, app, checkout
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages import evaluate as evaluate_package
from lenet5.stages import ingest as ingest_package
from lenet5.stages import preprocess as preprocess_package
from lenet5.stages import register as register_package
from lenet5.stages import train as train_package
from lenet5.stages import validate as validate_package
from lenet5.stages.params import Params
from lenet5.system import parent_watch
from lenet5.system.terminal import byte_progress, console

Workers = Annotated[
    int | None,
    typer.Option(help="Processes to train with, in place of train.workers; for a trial.", min=1),
]


@app.command(help=ingest_package.__doc__, rich_help_panel=STAGES)
def ingest() -> None:
    paths, params = _begin()
    from lenet5.stages.ingest import stage

    _end(stage.run(paths, params.ingest, progress=byte_progress()))


@app.command(help=validate_package.__doc__, rich_help_panel=STAGES)
def validate(
    update_reference: Annotated[
        bool,
        typer.Option(
            "--update-reference",
            help="Profile data/raw anew into data/reference.json, after the data changed on purpose.",
        ),
    ] = False,
) -> None:
    paths, params = _begin()
    from lenet5.stages.validate import reference, report, stage

    if update_reference:
        console.print(reference.update(paths, params.validate_), markup=False, soft_wrap=True)
        console.print("Next: commit data/reference.json with the reason, then `dvc repro`.")
        return
    try:
        summary = stage.run(paths, params.validate_)
    except stage.ValidationFailed as error:
        console.print(report.table(error.failed))
        raise
    _end(summary)


@app.command(help=preprocess_package.__doc__, rich_help_panel=STAGES)
def preprocess() -> None:
    paths, params = _begin()
    from lenet5.stages.preprocess import stage

    _end(stage.run(paths, params.preprocess))


@app.command(help=train_package.__doc__, rich_help_panel=STAGES)
def train(workers: Workers = None) -> None:
    paths, params = _begin()
    from lenet5.training import launcher

    changed = {} if workers is None else {"train.workers": workers}
    launcher.run(paths, params.changed(changed).train)
    if changed:
        from lenet5.stages.recipes import options

        console.print(
            f"Next: `dvc exp run {options(changed)}` records it; dvc.lock does not hold this trial."
        )
        return
    _end()


@app.command(help=evaluate_package.__doc__, rich_help_panel=STAGES)
def evaluate() -> None:
    paths, params = _begin()
    with quiet_libraries(), engine.lean_keras():
        from lenet5.stages.evaluate import stage

    _end(stage.run(paths, params.evaluate))


@app.command(help=register_package.__doc__, rich_help_panel=STAGES)
def register() -> None:
    paths, params = _begin()
    from lenet5.stages.register import stage

    _end(str(stage.run(paths, params.register_, params.flat())))


def _begin() -> tuple[Paths, Params]:
    parent_watch.exit_with_parent()
    return checkout()


def _end(summary: str = "") -> None:
    """Print what the stage did and, unless DVC runs it, the next step."""
    if summary:
        console.print(summary, markup=False, soft_wrap=True)
    if "DVC_STAGE" not in os.environ:
        console.print("Next: `dvc repro` runs what depends on it, and records all of it in dvc.lock.")
