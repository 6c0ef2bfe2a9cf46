"""A console shows a line for each epoch and, on a terminal, a progress bar."""

import contextlib
import io
import re

import pytest
from rich.console import Console

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError
from lenet5.training import progress
from tests.training_fixtures import Fit

pytestmark = pytest.mark.xdist_group("progress")  # two tests share one training

LINE = r"epoch {}/2  accuracy \d\.\d{{4}} loss \d\.\d{{4}} val_accuracy \d\.\d{{4}} val_loss \d\.\d{{4}}"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def screen(*, terminal: bool) -> tuple[io.StringIO, Console]:
    output = io.StringIO()
    return output, Console(file=output, force_terminal=terminal, width=120, highlight=False)


@pytest.fixture(scope="module")
def outputs(fitted: Fit) -> dict[str, str]:
    """What one training prints to a file and to a terminal at the same time."""
    (file, to_file), (terminal, to_terminal) = screen(terminal=False), screen(terminal=True)
    fitted(callbacks=[progress.ProgressBar(to_file), progress.ProgressBar(to_terminal)])
    return {"file": file.getvalue(), "terminal": terminal.getvalue()}


def test_without_a_terminal_there_is_one_line_for_each_epoch(outputs: dict[str, str]) -> None:
    lines = outputs["file"].splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(LINE.format(number), line)


def test_on_a_terminal_there_is_a_progress_bar(outputs: dict[str, str]) -> None:
    text = outputs["terminal"]
    for number in (1, 2):
        assert re.search(LINE.format(number), text)
    assert re.search(r"/10.* steps, loss", text)
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1


def test_terminal_is_restored_after_an_error(fitted: Fit, train: Split) -> None:
    output, console = screen(terminal=True)
    with pytest.raises(TrainingError), contextlib.closing(progress.ProgressBar(console)) as bar:
        fitted(train=Split(train.images, train.labels * float("nan")), callbacks=[bar])
    assert output.getvalue().count(SHOW_CURSOR) == 1
