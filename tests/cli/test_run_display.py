"""`lenet5 run` shows a live line for each stage on a terminal, and a plain line for each event in a pipe."""

import io
import signal
import time

import pytest
from rich.console import Console

from lenet5.cli import run_display
from lenet5.cli.run_display import LiveLines, PlainLines, Progress
from lenet5.orchestration.events import PROMOTION, Outcome

STAGES = ("ingest", "preprocess", "train", "evaluate", PROMOTION)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_work(progress: Progress) -> Progress:
    """Let a run reach epoch 7 of 12: one stage was cached, one ran, the training is on a worker."""
    progress.planned(STAGES)
    progress.finished("ingest", Outcome.CACHED)
    progress.started("preprocess")
    progress.printed("preprocess", "55,000 images" + " of a training set" * 5)
    progress.finished("preprocess", Outcome.DONE)
    progress.started("train")
    progress.placed("train", "work pool gpu")
    progress.progress("train", 7, 12, 0.98765)
    return progress


def drawn(progress: Progress, width: int) -> list[str]:
    output = io.StringIO()
    Console(file=output, force_terminal=True, width=width, color_system=None).print(progress)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_line_for_each_stage(width: int) -> None:
    lines = drawn(at_work(LiveLines()), width)
    assert [line.split()[1 if line[0].strip() else 0] for line in lines] == list(STAGES)
    assert all(len(line.rstrip()) <= width for line in lines)
    ingest, preprocess, train, evaluate, promote = lines
    assert ingest.startswith("✓")
    assert "cached" in ingest
    assert preprocess.startswith("✓")
    assert " 0 s  55,000 images of a" in preprocess
    assert preprocess.rstrip().endswith("…") or width == 120
    assert "on work pool gpu, epoch 7/12, accuracy 98.77 %" in train
    assert "waits" in evaluate
    assert "waits" in promote


def test_a_narrow_terminal_still_has_one_line_for_each_stage() -> None:
    assert len(drawn(at_work(LiveLines()), 40)) == len(STAGES)


def test_before_the_first_stage_a_line_says_what_starts() -> None:
    lines = LiveLines()
    lines.planned(STAGES)
    assert "Prefect" in drawn(lines, 80)[-1]
    lines.started("ingest")
    assert len(drawn(lines, 80)) == len(STAGES)


def test_a_stage_that_is_tried_again_starts_from_the_beginning() -> None:
    progress = at_work(Progress())
    progress.finished("train", Outcome.FAILED)
    progress.started("train")
    assert progress.rows["train"].outcome is None
    assert progress.rows["train"].training == ""


def test_a_pipe_gets_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    at_work(PlainLines())
    assert capsys.readouterr().out.splitlines() == [
        "ingest: cached",
        "preprocess: runs",
        "preprocess: 55,000 images" + " of a training set" * 5,
        "preprocess: done, 0 s",
        "train: runs",
        "train: runs on work pool gpu",
        "train: epoch 7/12, accuracy 98.77 %",
    ]


def test_an_interrupted_run_says_what_is_kept() -> None:
    progress = at_work(Progress())
    progress.interrupted()
    progress.finished("train", Outcome.FAILED)
    assert progress.rows["train"].outcome is Outcome.INTERRUPTED
    assert progress.what_is_kept() == (
        "Kept: the results of ingest and preprocess and 7 of 12 epochs of train."
    )
    assert Progress().what_is_kept() == "No stage had finished."


def test_a_run_that_goes_on_forces_only_what_was_not_done() -> None:
    progress = at_work(Progress())
    assert progress.still_forced(["preprocess", "train"], everything=False) == ["--force-stage", "train"]
    assert progress.still_forced([], everything=False) == []
    all_but_one = ["ingest", "train", "evaluate"]
    expected = [word for name in all_but_one for word in ("--force-stage", name)]
    assert progress.still_forced([], everything=True) == expected
    assert Progress().still_forced([], everything=True) == ["--force"]


def test_sigterm_ends_a_run_as_ctrl_c_does_and_is_told_apart() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), run_display.raising_on_sigterm() as received:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(1)
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (725, "12 min 05 s")]
)
def test_durations_are_words(seconds: float, text: str) -> None:
    assert run_display.duration(seconds) == text


@pytest.mark.parametrize(
    ("terminal", "name", "log", "live"),
    [
        (True, "xterm", False, True),
        (True, "dumb", False, False),
        (True, "xterm", True, False),
        (False, "xterm", False, False),
    ],
)
def test_lines_are_live_only_on_a_terminal_without_log_lines(
    terminal: bool, name: str, log: bool, live: bool
) -> None:
    file = Terminal() if terminal else io.StringIO()
    console = Console(file=file, _environ={"TERM": name, "FORCE_COLOR": "1"})
    assert run_display.is_live(console, log=log) is live
