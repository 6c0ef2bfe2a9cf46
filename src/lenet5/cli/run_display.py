"""What ``lenet5 run`` shows while it works: a live line for each stage, or plain lines in a pipe."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from lenet5.orchestration.events import PROMOTION, Outcome
from lenet5.system.terminal import console, print_line

if TYPE_CHECKING:
    from lenet5.registry.promotion import Promotion

_MARKS = {
    Outcome.DONE: ("✓", "green"),
    Outcome.CACHED: ("✓", "dim"),
    Outcome.REFUSED: ("✗", "yellow"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.INTERRUPTED: ("✗", "yellow"),
}
_REFRESHES_PER_SECOND = 8


@dataclass
class Row:
    """What is known of one stage."""

    stage: str
    started: float | None = None
    """On the clock of ``time.monotonic``; None before the stage begins."""
    ended: float | None = None
    outcome: Outcome | None = None
    where: str = ""
    """The work pool, for a stage on another machine."""
    epoch: int = 0
    """The last finished epoch, from 1."""
    epochs: int = 0
    accuracy: float | None = None
    result: str = ""
    """The last line that the stage printed."""

    @property
    def seconds(self) -> float | None:
        """Return how long the stage ran, or runs already."""
        if self.started is None:
            return None
        return (self.ended or time.monotonic()) - self.started

    @property
    def state(self) -> str:
        """Return the state in one word or two."""
        if self.outcome:
            return "not promoted" if self.outcome is Outcome.REFUSED else str(self.outcome)
        return "waits" if self.started is None else "runs"

    @property
    def training(self) -> str:
        """Return epoch and accuracy; nothing for a stage that does not train."""
        if not self.epochs:
            return ""
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}".replace("%", " %")
        return f"epoch {self.epoch}/{self.epochs}{accuracy}"


class Progress:
    """Keeps the state of every stage. It is an observer of ``lenet5.orchestration.events``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._interrupted = False
        self.rows: dict[str, Row] = {}

    def planned(self, stages: Sequence[str]) -> None:
        with self._lock:
            self.rows = {stage: self.rows.get(stage) or Row(stage) for stage in stages}

    def started(self, stage: str) -> None:
        with self._lock:
            self.rows[stage] = Row(stage, started=time.monotonic())
            self.show(self.rows[stage], "runs")

    def placed(self, stage: str, where: str) -> None:
        with self._lock:
            self._row(stage).where = where
            self.show(self._row(stage), f"runs on {where}")

    def progress(self, stage: str, epoch: int, epochs: int, accuracy: float | None) -> None:
        with self._lock:
            row = self._row(stage)
            row.epoch, row.epochs, row.accuracy = epoch, epochs, accuracy
            self.show(row, row.training)

    def printed(self, stage: str, line: str) -> None:
        with self._lock:
            self._row(stage).result = line.strip()
            self.show(self._row(stage), line.strip())

    def interrupted(self) -> None:
        with self._lock:
            self._interrupted = True

    def finished(self, stage: str, outcome: Outcome) -> None:
        with self._lock:
            row = self._row(stage)
            if self._interrupted and outcome is Outcome.FAILED:
                outcome = Outcome.INTERRUPTED
            row.ended, row.outcome = time.monotonic(), outcome
            timed = row.seconds is not None and outcome is not Outcome.CACHED
            self.show(row, f"{row.state}, {duration(row.seconds or 0)}" if timed else row.state)

    def show(self, row: Row, event: str) -> None:
        """Show one event of a stage."""

    def _row(self, stage: str) -> Row:
        return self.rows.setdefault(stage, Row(stage))

    def what_is_kept(self) -> str:
        """Return in a sentence what a new run need not do again."""
        with self._lock:
            stages = [row for row in self.rows.values() if row.stage != PROMOTION]
            kept = [row.stage for row in stages if row.outcome in (Outcome.DONE, Outcome.CACHED)]
            training = [row for row in stages if row.epoch and row.stage not in kept]
        parts = [f"the results of {_listed(kept)}"] if kept else []
        parts += [f"{row.epoch} of {row.epochs} epochs of {row.stage}" for row in training]
        return f"Kept: {' and '.join(parts)}." if parts else "No stage had finished."

    def still_forced(self, stages: Sequence[str], *, everything: bool) -> list[str]:
        """Return the options that force the stages which an interrupted run was to force, and did not run.

        Args:
            stages: those of ``--force-stage``.
            everything: whether all stages were forced.
        """
        with self._lock:
            forced = [name for name in self.rows if name != PROMOTION] if everything else stages
            left = [
                name for name in forced if name not in self.rows or self.rows[name].outcome != Outcome.DONE
            ]
        if everything and left == forced:
            return ["--force"]
        return [word for name in left for word in ("--force-stage", name)]


class PlainLines(Progress):
    """Prints a line for each event, for a pipe or a log."""

    def show(self, row: Row, event: str) -> None:
        print_line(f"{row.stage}: {event}")


class LiveLines(Progress):
    """Draws a line for each stage. ``rich.live.Live`` asks for it several times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line", style="cyan")

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            table.add_column(width=1)
            table.add_column(no_wrap=True)
            table.add_column(justify="right", no_wrap=True, min_width=6)
            table.add_column()  # it alone gives way on a narrow terminal; its text is cut to one line
            for row in self.rows.values():
                self._add(table, row)
            if all(row.started is None and row.outcome is None for row in self.rows.values()):
                seconds = duration(time.monotonic() - self._begun)
                table.add_row(self._spinner, "Prefect", seconds, Text("starts", style="dim"))
        return table

    def _add(self, table: Table, row: Row) -> None:
        if row.outcome:
            mark, style = _MARKS[row.outcome]
            sign: Text | Spinner = Text(mark, style=style)
        else:
            style = "dim" if row.started is None else ""
            sign = Text(" ") if row.started is None else self._spinner
        elapsed = "" if row.seconds is None or row.outcome is Outcome.CACHED else duration(row.seconds)
        state = "" if row.outcome in (None, Outcome.DONE) and row.started is not None else row.state
        place = f"on {row.where}" if row.where else ""
        result = row.result if row.outcome is Outcome.DONE and not row.training else ""
        texts = [text for text in (state, place, row.training, result) if text]
        rest = Text(", ".join(texts), style=style, no_wrap=True, overflow="ellipsis")
        table.add_row(sign, Text(row.stage, style=style), elapsed, rest)


@contextmanager
def shown(*, live: bool) -> Iterator[Progress]:
    """Show a run in this block.

    Args:
        live: draw on the terminal; otherwise print a line for each event.

    Yields:
        The observer for the flow. It also knows what is kept when the run is interrupted.
    """
    if not live:
        yield PlainLines()
        return
    from rich.live import Live

    lines = LiveLines()
    with Live(lines, console=console, refresh_per_second=_REFRESHES_PER_SECOND):
        yield lines


@contextmanager
def raising_on_sigterm() -> Iterator[list[int]]:
    """Let SIGTERM raise ``KeyboardInterrupt`` in this block, as Ctrl-C does: stages and server are ended.

    Yields:
        A list that receives the number of the signal.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(promotion: "Promotion") -> str:
    """Return in one sentence what a run came to, and in a second one what to do next."""
    number, holder = promotion.version.number, promotion.holder
    if promotion.moved:
        return (
            f"Version {number} is the champion now. Next: `lenet5 predict IMAGE` uses it; `lenet5 report` "
            "shows how good it is; `lenet5 ui` shows the runs."
        )
    if promotion.verdict is None:
        return (
            f"Nothing new to judge: version {number} is the champion. Next: change params.yaml or the data, "
            "then `lenet5 run`; `lenet5 ui` shows the runs."
        )
    stays = f"version {holder.number} stays champion" if holder else "there is still no champion"
    compare = f"`lenet5 compare champion {number}` shows both; " if holder else ""
    return (
        f"Version {number} is registered, and {stays}: {promotion.verdict.why}. "
        f"Next: {compare}`lenet5 ui` shows the runs."
    )


def is_live(target: Console = console, *, log: bool) -> bool:
    """Return whether lines can be drawn again: on a terminal that no log lines cut through."""
    # FORCE_COLOR makes Rich take a pipe for a terminal
    return target.file.isatty() and not target.is_dumb_terminal and not log


def duration(seconds: float) -> str:
    """Return a duration in seconds, or in minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
