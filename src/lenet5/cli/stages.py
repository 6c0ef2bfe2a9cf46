"""One command per stage. ``dvc repro`` calls these commands."""

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lenet5.cli.app import STAGES, app, checkout
from lenet5.core.paths import Paths
from lenet5.system.terminal import byte_progress, console, print_line

if TYPE_CHECKING:
    from lenet5.stages.params import Params


@app.command(rich_help_panel=STAGES)
def ingest() -> None:
    """Read the source, compare it with the checksums in params.yaml, and store it as arrays in data/raw.

    Example: `lenet5 ingest`

    Needs: read access to ingest.source.

    Next: `lenet5 validate`. If the source has new data: `lenet5 pin`.
    """
    paths, params = _begin()
    from lenet5.stages.ingest import stage

    _end(paths, stage.run(paths, params.ingest, progress=byte_progress()))


@app.command(rich_help_panel=STAGES)
def validate(
    update_reference: Annotated[
        bool,
        typer.Option(
            "--update-reference",
            help="Write what is usual in data/raw to data/reference.*, after an intended change of the data.",
        ),
    ] = False,
) -> None:
    """Check data/raw with Great Expectations. Data that fails a check ends the pipeline.

    The rows that fail are stored in data/quarantine. Exit code 4: a check failed.

    Example: `lenet5 validate --update-reference`

    Needs: data/raw (`lenet5 ingest`).

    Next: `lenet5 preprocess`; `lenet5 data show` opens the page with every check.
    """
    paths, params = _begin()
    from lenet5.stages.validate import reference, report, stage

    if update_reference:
        from lenet5.orchestration import raw_data

        raw_data.require_current(paths, params.ingest)
        print_line(reference.update(paths, params.validate_))
        print_line("Next: commit both files of data/reference.* with the reason, then `dvc repro`.")
        return
    logging.getLogger("great_expectations.render.renderer.site_builder").addFilter(_raise_logged)
    try:
        summary = stage.run(paths, params.validate_)
    except stage.ValidationFailed as error:
        console.print(report.table(error.failed))
        raise
    _end(paths, summary)


@app.command(rich_help_panel=STAGES)
def preprocess() -> None:
    """Split off validation images, pad, reshape and rescale the images, and one-hot encode the labels.

    Example: `lenet5 preprocess`

    Needs: data/raw (`lenet5 ingest`).

    Next: `lenet5 train`.
    """
    paths, params = _begin()
    from lenet5.stages.preprocess import stage

    _end(paths, stage.run(paths, params.preprocess))


@app.command(rich_help_panel=STAGES)
def train(
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of training processes, for a trial run.", min=1, show_default="train.workers"
        ),
    ] = None,
) -> None:
    """Train and calibrate LeNet-5, and store it as a model that takes raw pixels, for Keras and as ONNX.

    An interrupted training continues from its last checkpoint.

    Example: `lenet5 train --workers 2`

    Needs: data/processed (`lenet5 preprocess`).

    Next: `lenet5 evaluate`; `tensorboard --logdir .lenet5/tensorboard`.
    """
    paths, params = _begin()
    from lenet5.training import launcher

    changes = {} if workers is None else {"train.workers": workers}
    launcher.run(paths, params.changed(changes).train)
    if changes:
        from lenet5.stages.recipes import options

        print_line(f"Next: `dvc exp run {options(changes)}` records it; dvc.lock does not hold this trial.")
        return
    _end(paths)


@app.command(rich_help_panel=STAGES)
def evaluate() -> None:
    """Score the model on every image; write metrics, and predictions and figures of the test images.

    Example: `lenet5 evaluate`

    Needs: the model (`lenet5 train`), data/processed and data/raw.

    Next: `lenet5 register`; `dvc metrics diff`.
    """
    paths, params = _begin()
    from lenet5.stages.evaluate import stage

    _end(paths, stage.run(paths, params.evaluate))


@app.command(rich_help_panel=STAGES)
def register() -> None:
    """Complete the MLflow run of the model and register the model as a version, the challenger.

    Example: `lenet5 register`

    Needs: the outputs of all other stages, and the model registry.

    Next: `lenet5 promote`.
    """
    paths, params = _begin()
    from lenet5.stages.register import stage

    _end(paths, str(stage.run(paths, params.register_, params.flat())))


def _raise_logged(_record: logging.LogRecord) -> bool:
    """Raise the exception that a library only logs: Great Expectations leaves out the page of the report."""
    error = sys.exc_info()[1]
    if error:
        raise error
    return True


def _begin() -> tuple[Paths, "Params"]:
    from lenet5.system import parent_watch

    parent_watch.exit_with_parent()
    return checkout()


def _end(paths: Paths, summary: str = "") -> None:
    """Print the summary of the stage and, unless DVC runs the stage, the next step."""
    from lenet5.system import settings

    if summary:
        print_line(summary)
    if not settings.load(paths).dvc_stage:
        print_line("Next: `dvc repro` runs the stages that depend on it, and records them in dvc.lock.")
