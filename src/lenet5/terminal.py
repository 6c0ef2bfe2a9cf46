"""What a person sees: one console for answers, one for errors, and a progress bar on a terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

# Captured output (a Prefect log, a CI log) has no width of its own; 80 columns would break the tables.
_WIDTH = None if Console().is_terminal or "COLUMNS" in os.environ else 120

console = Console(width=_WIDTH, highlight=False)
errors = Console(width=_WIDTH, highlight=False, stderr=True)


def print_error(message: object) -> None:
    """Print an error as it is: a bracket in it is no markup."""
    errors.print(Text.assemble(("error: ", "bold red"), str(message)), soft_wrap=True)


def print_warning(message: object) -> None:
    errors.print(f"warning: {message}", markup=False)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back what compiled libraries write to standard error, and show it only if the block fails.

    TensorFlow greets with a dozen lines that no log level stops.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


@contextmanager
def byte_progress() -> Iterator[Progress]:
    """A progress display for bytes: name, bar, amount, speed, time left. Silent without a terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        yield progress
