"""What happens to the stages of a flow run, published to one observer: the display of ``lenet5 run``.

    with publish_to(observer): …    the caller of a flow chooses the observer
    with of_stage(name, log) as on_line: …    the flow publishes start, progress and end of a stage

Without an observer, as on a worker, events go nowhere. Progress of a training is read from the lines that the
stage prints, so a stage on another machine reports it, too.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

from lenet5.core.errors import Refused
from lenet5.system.process import OnLine
from lenet5.training.epoch_line import EpochLine

PROMOTION = "promote"
"""The name of the last step, which asks the gate. It is no stage of ``dvc.yaml``."""
_CACHED = re.compile(r"Stage '\S+' (didn't change, skipping|is cached - skipping run)")
"""What DVC prints for a stage that it does not run."""
_COMMAND = re.compile(r"> ")
"""How DVC announces the command of a stage. What follows is the output of the stage."""
_NO_RESULT = re.compile(r"(Generating|Updating) lock file |error: |ERROR: failed to ")
"""What DVC prints after the output of the stage, and an error, which the command itself prints at its end."""
_SENT = re.compile(r"\S+ is sent to (?P<where>work pool \S+): flow run ")


class Outcome(StrEnum):
    """How a stage ended."""

    DONE = "done"
    CACHED = "cached"
    REFUSED = "refused"
    """The gate did not promote the version."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class StageEvents(Protocol):
    """Observes the stages of a flow run. Stages that run at the same time report from different threads."""

    def planned(self, stages: Sequence[str]) -> None:
        """Receive all stages in graph order, and the promotion. This comes first."""

    def started(self, stage: str) -> None:
        """A stage begins, or begins again after a failure that a second try can mend."""

    def placed(self, stage: str, where: str) -> None:
        """A stage runs elsewhere: ``work pool gpu``."""

    def progress(self, stage: str, epoch: int, epochs: int, accuracy: float | None) -> None:
        """A training finished an epoch, counted from 1. The accuracy is a share of the validation images."""

    def printed(self, stage: str, line: str) -> None:
        """A stage printed a line about its result. Lines of DVC and of epochs are none."""

    def interrupted(self) -> None:
        """A signal ends the flow. The stages that end after this are killed, and did not fail."""

    def finished(self, stage: str, outcome: Outcome) -> None:
        """A stage ended."""


_observer: ContextVar[StageEvents | None] = ContextVar("observer", default=None)


@contextmanager
def publish_to(observer: StageEvents | None) -> Iterator[None]:
    """Publish the events of flows that run in this block and in this process."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def plan(stages: Sequence[str]) -> None:
    """Publish the names of all stages in graph order, and the promotion after them."""
    if observer := _observer.get():
        observer.planned([*stages, PROMOTION])


def all_cached(stages: Sequence[str], *, refused: bool = False) -> None:
    """Publish that no stage has anything to do, for a run that starts no flow.

    Args:
        stages: all of them.
        refused: whether the gate did not promote the version, when it was asked.
    """
    plan(stages)
    if observer := _observer.get():
        for stage in stages:
            observer.finished(stage, Outcome.CACHED)
        if refused:
            observer.finished(PROMOTION, Outcome.REFUSED)


def interrupt() -> None:
    """Publish that a signal ends the flow, before its stages are killed."""
    if observer := _observer.get():
        observer.interrupted()


@contextmanager
def of_stage(name: str, log: OnLine) -> Iterator[OnLine]:
    """Publish that a stage begins and how it ends.

    Args:
        name: of the stage.
        log: receives every line that the stage prints.

    Yields:
        A function that takes the lines of the stage, publishes the progress in them, and calls ``log``.
    """
    observer = _observer.get()
    if observer is None:
        yield log
        return
    outcome = Outcome.DONE
    is_output = False

    def on_line(line: str) -> None:
        nonlocal outcome, is_output
        log(line)
        if _COMMAND.match(line) or _NO_RESULT.match(line):
            is_output = _COMMAND.match(line) is not None
        elif epoch := EpochLine.parse(line):
            observer.progress(name, epoch.number, epoch.total, epoch.accuracy)
        elif _CACHED.match(line):
            outcome = Outcome.CACHED
        elif sent := _SENT.match(line):
            observer.placed(name, sent["where"])
        elif is_output and line.strip():
            observer.printed(name, line)

    observer.started(name)
    try:
        yield on_line
    except Refused:
        outcome = Outcome.REFUSED
        raise
    except Exception:
        outcome = Outcome.FAILED
        raise
    except BaseException:
        outcome = Outcome.INTERRUPTED
        raise
    finally:
        observer.finished(name, outcome)
