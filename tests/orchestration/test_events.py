"""The events of a flow run reach its observer, from the lines that DVC, a training and a worker print."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from lenet5.core.errors import Refused, Unavailable
from lenet5.orchestration import events
from lenet5.orchestration.events import Outcome
from lenet5.training.epoch_line import EpochLine


class Recorder:
    """Keeps the events in their order."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def planned(self, stages: Sequence[str]) -> None:
        self.events.append(("planned", *stages))

    def started(self, stage: str) -> None:
        self.events.append(("started", stage))

    def placed(self, stage: str, where: str) -> None:
        self.events.append(("placed", stage, where))

    def progress(self, stage: str, epoch: int, epochs: int, accuracy: float | None) -> None:
        self.events.append(("progress", stage, epoch, epochs, accuracy))

    def printed(self, stage: str, line: str) -> None:
        self.events.append(("printed", stage, line))

    def interrupted(self) -> None:
        self.events.append(("interrupted",))

    def finished(self, stage: str, outcome: Outcome) -> None:
        self.events.append(("finished", stage, outcome))


def of(*lines: str, error: BaseException | None = None) -> list[tuple[object, ...]]:
    """Return the events of a stage that prints lines, then ends or raises an error."""
    recorder, logged = Recorder(), list[str]()

    def stage() -> None:
        with events.of_stage("train", logged.append) as on_line:
            for line in lines:
                on_line(line)
            if error:
                raise error

    with events.publish_to(recorder):
        if error:
            with pytest.raises(type(error)):
                stage()
        else:
            stage()
    assert logged == list(lines), "every line is logged"
    assert recorder.events[0] == ("started", "train")
    return recorder.events[1:]


def test_a_stage_that_runs_is_done() -> None:
    assert of("Running stage 'train':", "> lenet5 train") == [("finished", "train", Outcome.DONE)]


@pytest.mark.parametrize(
    "line",
    [
        "Stage 'train' didn't change, skipping",
        "Stage 'train' is cached - skipping run, checking out outputs",
    ],
)
def test_a_stage_that_dvc_skips_is_cached(line: str) -> None:
    assert of(line) == [("finished", "train", Outcome.CACHED)]


def test_what_the_stage_prints_is_told_from_what_dvc_prints() -> None:
    lines = (
        "Running stage 'train':",
        "> lenet5 train",
        "26 checks passed",
        "",
        "Generating lock file 'dvc.lock'",
        "Updating lock file 'dvc.lock'",
        "Use `dvc push`",
    )
    assert of(*lines)[:-1] == [("printed", "train", "26 checks passed")]


def test_an_error_of_a_stage_is_no_result() -> None:
    lines = (
        "> lenet5 train",
        "error: it diverged",
        "  fix:      lower it",
        "ERROR: failed to reproduce 'train'",
    )
    assert of(*lines)[:-1] == []


def test_epochs_are_progress() -> None:
    line = str(EpochLine(2, 5, {"accuracy": 0.9, "loss": 0.1, "val_accuracy": 0.95, "val_loss": 0.2}))
    assert of(line)[0] == ("progress", "train", 2, 5, 0.95)


def test_a_stage_that_is_sent_to_a_worker_says_where_it_is() -> None:
    line = "train is sent to work pool gpu: flow run wise-owl (0198)"
    assert of(line)[0] == ("placed", "train", "work pool gpu")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Refused("no"), Outcome.REFUSED),
        (Unavailable("no answer"), Outcome.FAILED),
        (ZeroDivisionError(), Outcome.FAILED),
        (KeyboardInterrupt(), Outcome.INTERRUPTED),
    ],
)
def test_an_error_is_an_outcome(error: BaseException, outcome: Outcome) -> None:
    assert of(error=error) == [("finished", "train", outcome)]


def test_the_promotion_comes_last_in_the_plan() -> None:
    recorder = Recorder()
    with events.publish_to(recorder):
        events.all_cached(["ingest", "train"])
    assert recorder.events == [
        ("planned", "ingest", "train", events.PROMOTION),
        ("finished", "ingest", Outcome.CACHED),
        ("finished", "train", Outcome.CACHED),
    ]
    with events.publish_to(recorder):
        events.all_cached(["train"], refused=True)
    assert recorder.events[-1] == ("finished", events.PROMOTION, Outcome.REFUSED)


def test_an_interruption_comes_before_the_end_of_the_stages() -> None:
    recorder = Recorder()
    with events.publish_to(recorder):
        events.interrupt()
    events.interrupt()  # no observer
    assert recorder.events == [("interrupted",)]


def test_without_an_observer_the_lines_are_only_logged() -> None:
    logged: list[str] = []
    with events.of_stage("train", logged.append) as on_line:
        on_line("Stage 'train' didn't change, skipping")
    assert logged == ["Stage 'train' didn't change, skipping"]


def test_the_threads_of_a_flow_publish_to_the_same_observer() -> None:
    def run() -> None:
        with events.of_stage("train", print):
            pass

    recorder = Recorder()
    with events.publish_to(recorder), ThreadPoolExecutor() as threads:
        threads.submit(copy_context().run, run).result()
    assert [event[0] for event in recorder.events] == ["started", "finished"]
