"""Messages on standard error: text for people, JSON lines for log collectors."""

import inspect
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from lenet5.serving import mlflow_child
from lenet5.system import logs
from tests.conftest import REPOSITORY

LOGGER = logging.getLogger("lenet5")
log = logging.getLogger("lenet5.stages.ingest.source")


@pytest.fixture(autouse=True)
def restored_logger() -> Iterator[None]:
    handlers, level, propagate = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    yield
    LOGGER.handlers, LOGGER.propagate = handlers, propagate
    LOGGER.setLevel(level)


def emit_all() -> None:
    log.debug("a detail")
    log.info("progress")
    log.warning("attempt %d of 4 failed: [/red]", 3)
    log.error("error of %s", "a stage")


def test_text_names_the_level_and_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    emit_all()
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["warning: attempt 3 of 4 failed: [/red]", "error: error of a stage"]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("verbose", "levels"),
    [
        (0, ["WARNING", "ERROR"]),
        (1, ["INFO", "WARNING", "ERROR"]),
        (2, ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (9, ["DEBUG", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_json_has_one_object_per_line(
    capsys: pytest.CaptureFixture[str], verbose: int, levels: list[str]
) -> None:
    logs.configure(verbose=verbose, log_format="json")
    before = datetime.now(UTC)
    emit_all()
    log.warning("first line\nsecond line")
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [entry["level"] for entry in entries] == [*levels, "WARNING"]
    assert entries[-1]["message"] == "first line\nsecond line"
    assert {entry["logger"] for entry in entries} == {"lenet5.stages.ingest.source"}
    for entry in entries:
        assert abs(datetime.fromisoformat(entry["time"]) - before).total_seconds() < 60


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_stack_trace_is_part_of_the_message(
    capsys: pytest.CaptureFixture[str], log_format: logs.Format
) -> None:
    logs.configure(log_format=log_format)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("the batch is empty")
    err = capsys.readouterr().err
    if log_format == "json":
        entry = json.loads(err)
        assert entry["message"] == "the batch is empty"
        assert entry["exception"].endswith("ZeroDivisionError: division by zero")
    else:
        assert err.startswith("error: the batch is empty\nTraceback")
        assert err.endswith("ZeroDivisionError: division by zero\n")


def test_messages_of_other_packages_are_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    other = logging.getLogger("another.package")
    handlers, level = other.handlers, other.level
    logs.configure(verbose=2, log_format="json")
    other.info("not shown")
    assert capsys.readouterr().err == ""
    assert (other.handlers, other.level) == (handlers, level)


def test_configuring_twice_prints_each_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    log.warning("once")
    assert capsys.readouterr().err == "warning: once\n"


def test_every_program_of_the_package_configures_its_messages() -> None:
    """A process that is started with ``python -m`` prints messages as ``lenet5`` does."""
    programs = [
        file
        for file in (REPOSITORY / "src").rglob("*.py")
        if re.search(r'^if __name__ == "__main__":', file.read_text(), re.MULTILINE)
    ]
    assert programs
    assert "logs.configure()" in inspect.getsource(mlflow_child.main)
    configures = re.compile(r"\b(logs\.configure|mlflow_child\.main)\(")
    assert [file for file in programs if not configures.search(file.read_text())] == []
