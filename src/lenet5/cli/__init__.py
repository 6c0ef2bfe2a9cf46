"""The command line: ``lenet5 --help``. Nothing heavy is imported before a command needs it."""

import sys

# imported in the order in which `lenet5 --help` shows them
from lenet5.cli import pipeline  # isort: skip
from lenet5.cli import sweep  # isort: skip
from lenet5.cli import workers  # isort: skip
from lenet5.cli import models  # isort: skip
from lenet5.cli import stages  # isort: skip
from lenet5.cli.app import app
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.system.terminal import print_error

__all__ = ["app", "main", "models", "pipeline", "stages", "sweep", "workers"]


def main() -> None:
    """LogEntry point: our own errors become a message and an exit code; anything else is a defect."""
    try:
        app()
    except Lenet5Error as error:
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        print_error(f"{error.filename}: {error.strerror}")
        sys.exit(UsageError.exit_code)
