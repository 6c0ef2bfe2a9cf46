"""The terminal: a console for answers, one for messages, and a progress display for transfers.

Both consoles mask credentials of URLs and escape control characters in whatever they print. Text of a
registry or a server can neither reveal a password nor send a command to the terminal.

What a pipe or a log captures is never wrapped, and nothing is padded or ruled to the width of the console.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text, TextType

from lenet5.core.text import printable, shown

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_CAPTURED_WIDTH = 10_000
"""Columns of output that a pipe or a log captures, so that a script reads each value from one line."""


class _SafeConsole(Console):
    """A console that prints no credentials and no control characters but its own."""

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        return super().render_str(
            shown(text), *arguments, **options
        )  # before the layout, which counts columns

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        segments = super().render(renderable, options)
        for segment in _without_padding(segments) if self.width == _CAPTURED_WIDTH else segments:
            # text that is no string comes this way only
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def rule(self, title: TextType = "", **options: Any) -> None:
        """Print a title between lines that fill the width; a pipe or a log gets the title alone."""
        if self.width == _CAPTURED_WIDTH:
            self.print(title)
        else:
            super().rule(title, **options)


def _without_padding(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Leave out blanks at the ends of lines: of a table, of highlighted code, of an alignment."""
    held: list[Segment] = []  # blanks that are an end of a line, or stand before more text
    for segment in segments:
        if segment.control:
            yield from held
            held = []
            yield segment
            continue
        *lines, rest = segment.text.split("\n")
        for line in lines:
            if text := line.rstrip(" "):
                yield from [*held, Segment(text, segment.style)]
            held = []
            yield Segment("\n", segment.style)
        text = rest.rstrip(" ")
        if text:
            yield from [*held, Segment(text, segment.style)]
            held = []
        if text != rest:
            held.append(Segment(rest[len(text) :], segment.style))
    yield from held


def _console(*, stderr: bool = False) -> Console:
    console = _SafeConsole(highlight=False, stderr=stderr)
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
    errors.print(Text.assemble((f"{label}: ", style), shown(message)), soft_wrap=True)


def print_error(message: object) -> None:
    """Print an error to standard error. Brackets in the message are not markup."""
    print_message("error", message, style="bold red")


def count_progress() -> "Progress":
    """Return a progress display for things to count: name, bar, numbers, time. It needs a terminal."""
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    return _progress(MofNCompleteColumn(), TimeElapsedColumn())


def byte_progress() -> "Progress":
    """Return a progress display for transfers: name, bar, bytes, speed, time left. It needs a terminal."""
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    return _progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())


def _progress(*columns: "ProgressColumn") -> "Progress":
    # the import is slow, and few commands need it
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
