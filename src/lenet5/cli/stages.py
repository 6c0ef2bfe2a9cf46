"""A command for each stage, as `dvc repro` calls it."""

import importlib
import os
from pathlib import Path

from lenet5 import supervision
from lenet5.cli.app import STAGES, app, checkout
from lenet5.terminal import console, quiet_libraries


def _add_stage(name: str) -> None:
    about = importlib.import_module(f"lenet5.{name}").__doc__

    @app.command(name, help=about, rich_help_panel=STAGES)
    def stage() -> None:
        supervision.accept()
        paths, params = checkout()
        with quiet_libraries():
            door = importlib.import_module(f"lenet5.{name}.stage")
        door.run(paths, params.section(name))
        if "DVC_STAGE" not in os.environ:
            console.print("Next: `dvc repro` runs what depends on it, and records all of it in dvc.lock.")


# A stage is a room: a folder of this package with a stage.py.
for _door in sorted(Path(__file__).parent.parent.glob("*/stage.py")):
    _add_stage(_door.parent.name)
