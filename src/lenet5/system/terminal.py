"""The terminal: a console for answers, one for errors, and a progress bar for transfers."""

import os

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

# Output that a pipe or a log captures is never wrapped: a script that reads a path gets it in one line.
_UNWRAPPED = 10_000
_WIDTH = None if Console().is_terminal or "COLUMNS" in os.environ else _UNWRAPPED

console = Console(width=_WIDTH, highlight=False)
errors = Console(width=_WIDTH, highlight=False, stderr=True)


def print_error(message: object) -> None:
    """Print an error to standard error. Brackets in it are no markup."""
    errors.print(Text.assemble(("error: ", "bold red"), str(message)), soft_wrap=True)


def byte_progress() -> Progress:
    """Return a display of transfers in bytes: name, bar, amount, speed, time left. It needs a terminal."""
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
