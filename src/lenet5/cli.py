"""The command line: ``lenet5 --help``. Nothing heavy is imported before a command needs it."""

import importlib
import sys
from pathlib import Path

import typer

from lenet5 import settings
from lenet5.errors import Lenet5Error
from lenet5.params import load as load_params
from lenet5.paths import Paths
from lenet5.terminal import errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def _stages() -> list[str]:
    """A stage is a room: a folder of this package with a ``stage.py``."""
    return sorted(door.parent.name for door in Path(__file__).parent.glob("*/stage.py"))


def _add_stage(name: str) -> None:
    about = importlib.import_module(f"lenet5.{name}").__doc__ or ""

    @app.command(name, help=about, rich_help_panel="Stages (run by `dvc repro`; each can be run alone)")
    def stage() -> None:
        paths = Paths.find()
        settings.apply(paths)
        params = load_params(paths.params).section(name)
        importlib.import_module(f"lenet5.{name}.stage").run(paths, params)


for _name in _stages():
    _add_stage(_name)


def main() -> None:
    """Entry point: our own errors become a message and an exit code; anything else is a defect."""
    try:
        app()
    except Lenet5Error as error:
        errors.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
