"""The command line: ``lenet5 --help``. A command imports slow libraries only when it runs."""

import gc
import io
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

import typer

# the order of the imports is the order of the commands in `lenet5 --help`
from lenet5.cli import pipeline  # isort: skip
from lenet5.cli import data  # isort: skip
from lenet5.cli import sweep  # isort: skip
from lenet5.cli import workers  # isort: skip
from lenet5.cli import models  # isort: skip
from lenet5.cli import pages  # isort: skip
from lenet5.cli import promotion  # isort: skip
from lenet5.cli import serving  # isort: skip
from lenet5.cli import stages  # isort: skip
from lenet5.cli.app import app, print_json_error, wants_json
from lenet5.core import files, storage
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import shown
from lenet5.system import logs

__all__ = [
    "app",
    "data",
    "main",
    "models",
    "pages",
    "pipeline",
    "promotion",
    "serving",
    "stages",
    "sweep",
    "workers",
]

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command line.

    An expected error becomes a message and an exit code. Any other exception is a defect and leaves its stack
    trace.
    """
    # imports make a million objects that stay: to search all of them for garbage, again and again, takes a
    # tenth of the time until a command begins
    gc.set_threshold(700, 10, 1000)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without → must not fail a stage that is done
    if sys.warnoptions:  # with PYTHONWARNINGS=error, a warning of a library would end a stage
        warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    logs.configure()  # for errors that are raised before the options are read
    try:
        with storage.failures_named(_place()):
            code = app(standalone_mode=False)
            sys.stdout.flush()  # later, a failure would have no message
        sys.exit(code)
    except typer.TyperException as error:
        if message := error.format_message():  # without a command, typer has printed the help
            usage_error = UsageError(message, fix=f"`{_command_path(error)} --help` describes the command")
            _print_error(usage_error)
        sys.exit(error.exit_code)
    except Lenet5Error as error:
        _fail(error)
    except OSError as error:
        if error.filename is None:
            _print_defect()
        elif wrong := files.wrong_kind(error, Path(os.fsdecode(error.filename))):
            _fail(wrong)
        else:
            _fail(UsageError(f"{error.filename}: {error.strerror}"))
    except Exception:
        _print_defect()


def _place() -> Path:
    """Return the checkout, or the working directory outside of one."""
    try:
        return Paths.find().root
    except (Lenet5Error, OSError):
        return Path().absolute()


def _fail(error: Lenet5Error) -> NoReturn:
    """Print an expected error without a stack trace, which does not help the user; end with its exit code."""
    _print_error(error)
    _end(error.exit_code)


def _print_error(error: Lenet5Error) -> None:
    if wants_json():
        print_json_error(error)
    else:
        log.error("%s", error)


def _print_defect() -> NoReturn:
    """Print the stack trace of the current exception, without credentials, and end with exit code 1."""
    sys.stderr.write(shown(traceback.format_exc()))
    if wants_json():
        last = traceback.format_exception_only(sys.exception())[-1].strip()
        print_json_error(Lenet5Error("A defect: the stack trace is above.", found=shown(last)))
    _end(1)


def _end(code: int) -> NoReturn:
    """End with an exit code, even if standard output is on a full disk: Python would end with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _command_path(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context else "lenet5"
