"""What all commands share: the app, the checkout, and the formats of answers."""

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lenet5 import __version__
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.system import logs
from lenet5.system.terminal import console
from lenet5.tracking import tags

if TYPE_CHECKING:
    from lenet5.registry.model_versions import Version
    from lenet5.stages.params import Params

EXIT_CODES = """
Exit codes: 0 success · 1 defect, with a stack trace · 2 wrong usage, parameter or setting ·
3 the promotion gate rejected a version, or a reproduction differs · 4 data is missing, damaged or invalid,
or a picture cannot be used ·
5 the training failed · 6 a source, server or worker does not answer, a process was killed, or another run
uses the checkout · 7 the disk is full, over its quota, read-only or broken · 130 interrupted by Ctrl-C,
143 by SIGTERM
"""
PIPELINE = "Pipeline"
WORKERS = "Schedules and workers (docs/workers.md)"
MODELS = "Model versions (VERSION is a number, or an alias such as @champion)"
STAGES = "Stages (`dvc repro` runs them in order and records them)"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train, check, register and serve LeNet-5 on MNIST, or on your own images. "
    "Start with `lenet5 run`; `lenet5 status` shows the state of this checkout.",
    epilog=EXIT_CODES,
)
data = typer.Typer(no_args_is_help=True, help="Set up, show and describe the data set.")
app.add_typer(data, name="data", rich_help_panel=PIPELINE)
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON to standard output, for scripts; an error is JSON on standard error."
    ),
]

log = logging.getLogger(__name__)


def _print_version(requested: bool) -> None:
    if requested:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, show_default=False, help="Log progress; -vv logs details too."
        ),
    ] = 0,
    log_format: Annotated[
        logs.Format,
        typer.Option(help="Format of messages on standard error: text, or one JSON object per line."),
    ] = "text",
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logs.configure(verbose=verbose, log_format=log_format)


def checkout() -> tuple[Paths, "Params"]:
    """Find the checkout, export its settings to the environment and read its parameters.

    Raises:
        UsageError: this folder is not in a checkout, a setting or a parameter is invalid, or Python runs
            without assertions.
    """
    if sys.flags.optimize:
        raise UsageError(
            "Python runs without assertions, and some checks of the pipeline are assertions.",
            expected="no PYTHONOPTIMIZE, and no option -O",
            found=f"PYTHONOPTIMIZE={sys.flags.optimize}",
            fix="unset PYTHONOPTIMIZE",
        )
    from lenet5.stages.params import load
    from lenet5.system import settings

    paths = Paths.find()
    log.info("checkout: %s", paths.root)
    if log.isEnabledFor(logging.DEBUG):
        for setting in settings.resolved(paths):
            log.debug("setting from %s: %s=%s", setting.origin, setting.name, setting.value)
    settings.apply(paths)
    return paths, load(paths.params)


def wants_json() -> bool:
    """Return whether the command line asks for JSON, even if it is wrong otherwise."""
    return "--json" in sys.argv[1:]


def print_json_error(error: Lenet5Error) -> None:
    """Print an error as one line of JSON to standard error; standard output holds answers alone.

    The line is ``{"error": {"what", "expected", "found", "fix", "exit_code"}}``. It comes last.
    """
    print(json.dumps({"error": error.as_dict()}), file=sys.stderr)


def print_json(value: object) -> None:
    """Print a value as indented JSON to standard output. JSON escapes control characters."""
    print(mask_urls(json.dumps(value, indent=2)))


def output_file(path: Path | None) -> Path | None:
    """Check the value of an option that names a file to write or replace, before the work begins.

    It is the ``callback`` of the option. None, for an option that is not given, passes.

    Raises:
        UsageError: a folder or a device is there, which must not be replaced, or its folder cannot be used.
    """
    if path is None:
        return None
    folder = next(each for each in path.absolute().parents if os.path.lexists(each))
    if path.is_dir():
        found = "a folder"
    elif os.path.lexists(path) and not path.is_file():
        found = "something that is no file"
    elif not folder.is_dir():
        found = f"{folder}, which is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        found = f"no permission to write in {folder}"
    else:
        return path
    raise UsageError(
        f"{path} cannot be written.",
        expected="a new file, or one to replace",
        found=found,
        fix="choose another name for the file",
    )


def format_value(value: object) -> str:
    """Return a value of an answer as text for a table or a tree, with markup escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(escape(str(item)) for item in value) or "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(item)}" for name, item in value.items())
    return "none" if value is None else escape(str(value))


def print_versions(versions: Sequence["Version"], changes: Mapping[int, Sequence[str]] | None = None) -> None:
    """Print a table of registered versions.

    Args:
        versions: The rows.
        changes: What a version was made from that the champion was not, by number; None for no such column.
    """
    titles = ["version", "aliases", "test accuracy", "data", "commit", "registered"]
    table = Table(*titles, *([] if changes is None else ["changed against the champion"]))
    for version in versions:
        row = version_as_dict(version)
        table.add_row(
            str(version.number),
            ", ".join(version.aliases),
            f"{row['accuracy']:.4f}" if row["accuracy"] is not None else "",
            escape(" ".join(filter(None, (row["data_name"], (row["data"] or "")[:12])))),
            (row["commit"] or "")[:8] + ("+" if row["dirty"] else ""),
            f"{version.created.astimezone():%Y-%m-%d %H:%M}",
            *([] if changes is None else [escape(", ".join(changes.get(version.number, ())))]),
        )
    console.print(table)


def version_as_dict(version: "Version") -> dict[str, Any]:
    """Return a registered version as JSON answers show it."""
    accuracy = version.tags.get(f"{tags.METRICS}accuracy")
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "accuracy": None if accuracy is None else float(accuracy),
        "data": version.tags.get(tags.RAW_DATA),
        "data_name": version.tags.get(tags.DATA_NAME),
        "commit": version.tags.get(tags.COMMIT),
        "dirty": version.tags.get(tags.DIRTY) == "true",
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
    }
