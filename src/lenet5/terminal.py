"""What a person sees: one console, and a progress bar that is a line now and then where there is no terminal."""

import os
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

# Captured output (a Prefect log, a CI log) has no width of its own; 80 columns would break the tables.
_WIDTH = None if Console().is_terminal or "COLUMNS" in os.environ else 120

console = Console(width=_WIDTH, highlight=False)
errors = Console(width=_WIDTH, highlight=False, stderr=True)


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
