"""A command for each stage, as `dvc repro` calls it."""

import importlib
import os
from pathlib import Path
from typing import Annotated

import typer

from lenet5 import supervision
from lenet5.cli.app import STAGES, app, checkout
from lenet5.terminal import console, quiet_libraries

Workers = Annotated[
    int | None,
    typer.Option(help="Processes to train with, in place of train.workers; for a trial.", min=1),
]


def _run(name: str, **changed: object) -> None:
    from lenet5 import settings

    supervision.accept()
    paths, params = checkout()
    asked = {key: value for key, value in changed.items() if value is not None}
    params = params.changed(asked) if asked else params
    with quiet_libraries(), settings.lean_keras():
        door = importlib.import_module(f"lenet5.{name}.stage")
    door.run(paths, params.section(name))
    if asked:
        from lenet5.recipes import options

        said = options(asked)
        console.print(f"Next: `dvc exp run {said}` records it; dvc.lock knows nothing of this trial.")
    elif "DVC_STAGE" not in os.environ:
        console.print("Next: `dvc repro` runs what depends on it, and records all of it in dvc.lock.")


def _add_stage(name: str) -> None:
    about = importlib.import_module(f"lenet5.{name}").__doc__

    if name == "train":

        @app.command(name, help=about, rich_help_panel=STAGES)
        def train(workers: Workers = None) -> None:
            _run(name, **{"train.workers": workers})

    else:

        @app.command(name, help=about, rich_help_panel=STAGES)
        def stage() -> None:
            _run(name)


# A stage is a room: a folder of this package with a stage.py.
for _door in sorted(Path(__file__).parent.parent.glob("*/stage.py")):
    _add_stage(_door.parent.name)
