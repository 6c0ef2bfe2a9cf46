"""The command line: ``lenet5 --help``. A command imports slow libraries only when it runs."""

import io
import logging
import sys
import warnings

import typer

# the order of the imports is the order of the commands in `lenet5 --help`
from lenet5.cli import pipeline  # isort: skip
from lenet5.cli import sweep  # isort: skip
from lenet5.cli import workers  # isort: skip
from lenet5.cli import models  # isort: skip
from lenet5.cli import promotion  # isort: skip
from lenet5.cli import stages  # isort: skip
from lenet5.cli.app import app
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.system import logs

__all__ = ["app", "main", "models", "pipeline", "promotion", "stages", "sweep", "workers"]

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command line.

    An expected error becomes a message and an exit code. Any other exception is a defect and leaves its stack
    trace.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without → must not fail a stage that is done
    if sys.warnoptions:  # with PYTHONWARNINGS=error, a warning of a library would end a stage
        warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    logs.configure()  # for errors that are raised before the options are read
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:
        if message := error.format_message():  # without a command, typer has printed the help
            usage_error = UsageError(message, fix=f"`{_command_path(error)} --help` describes the command")
            log.error("%s", usage_error)  # noqa: TRY400
        sys.exit(error.exit_code)
    except Lenet5Error as error:
        log.error("%s", error)  # noqa: TRY400 (a stack trace does not help the user)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        log.error("%s: %s", error.filename, error.strerror)  # noqa: TRY400
        sys.exit(UsageError.exit_code)


def _command_path(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context else "lenet5"
