"""The terminal: a console for answers, one for messages, and a progress display for transfers."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

_CAPTURED_WIDTH = 10_000
"""Columns of output that a pipe or a log captures, so that a script reads each value from one line."""


def _console(*, stderr: bool = False) -> Console:
    console = Console(highlight=False, stderr=stderr)
    if not console.file.isatty():
        console.width = _CAPTURED_WIDTH
    return console


console = _console()
errors = _console(stderr=True)


def print_line(text: object, *, to: Console = console) -> None:
    """Print a text as it is: brackets are not markup, and a long line is not wrapped."""
    to.print(str(text), markup=False, emoji=False, soft_wrap=True)


def print_message(label: str, message: object, *, style: str = "") -> None:
    """Print ``LABEL: MESSAGE`` to standard error. Brackets in the message are not markup."""
    errors.print(Text.assemble((f"{label}: ", style), str(message)), soft_wrap=True)


def print_error(message: object) -> None:
    """Print an error to standard error. Brackets in the message are not markup."""
    print_message("error", message, style="bold red")


def byte_progress() -> "Progress":
    """Return a progress display for transfers: name, bar, bytes, speed, time left. It needs a terminal."""
    # the import is slow, and one command needs it
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
