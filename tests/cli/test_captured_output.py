"""Output that a script reads: in a pipe, every value is on one line, whatever its length."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BIN, Arrays, Project, make_project

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("captured")]

LONG = Path(*[f"a-folder-with-a-long-name-{number}" for number in range(6)])
ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Escape sequences of colours."""

Lines = Callable[..., list[str]]


TOO_LONG = f"ui --mlflow-port {'x' * 200}"
COMMANDS = (
    "status",
    "status --settings",
    "versions",
    "history",
    "lineage 1",
    "predict {root}/no-image.png",
    "predict {root}/missing.png",
    TOO_LONG,
    "validate --update-reference",
)
END_OF_COMMAND = "\x1e"
SCRIPT = f"""
import os, sys
from lenet5 import cli

environment = dict(os.environ)
for command in sys.argv[1:]:
    sys.argv = ["lenet5", *command.split()]
    try:
        cli.main()
    except SystemExit:
        pass
    os.environ.clear()
    os.environ.update(environment)  # a command exports its settings
    for stream in (sys.stdout, sys.stderr):
        print(end={END_OF_COMMAND!r}, file=stream, flush=True)
"""


@pytest.fixture(
    scope="module",
    params=[{}, pytest.param({"COLUMNS": "40", "FORCE_COLOR": "1"}, marks=pytest.mark.long)],
    ids=["plain", "colours on 40 columns"],
)
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a plain script, and one that asks for colours and a narrow terminal."""
    return dict(request.param)


@pytest.fixture(scope="module")
def trained(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with a registered champion, whose path is long."""
    folder = tmp_path_factory.mktemp("captured") / LONG
    folder.mkdir(parents=True)
    project = finished.copy(folder)
    assert len(str(project.root)) > 150
    (project.root / "no-image.png").write_bytes(b"no image")
    return project


@pytest.fixture(scope="module")
def outputs(trained: Project, environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Standard output and standard error of each command. One process runs all: imports take long."""
    before = {path: path.read_bytes() for path in trained.paths.reference.parent.glob("reference.*")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *(command.format(root=trained.root) for command in COMMANDS)],
        cwd=trained.root,
        env=trained.environment() | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for path, content in before.items():  # the checkout is shared, and its stages stay up to date
        path.write_bytes(content)
    pairs = zip(done.stdout.split(END_OF_COMMAND), done.stderr.split(END_OF_COMMAND), strict=True)
    return dict(zip([*COMMANDS, "after the last"], pairs, strict=True))


@pytest.fixture
def lines(outputs: dict[str, tuple[str, str]]) -> Lines:
    """Return the lines that a command wrote into a pipe, without colours."""

    def read(command: str, stderr: bool = False) -> list[str]:
        return ANSI.sub("", outputs[command][stderr]).splitlines()

    return read


def one(lines: list[str], *values: str) -> str:
    """Return the line that holds all values, and nothing of which is padded to the width of the output."""
    [line] = [line for line in lines if all(value in line for value in values)]
    assert len(line.rstrip()) < 1500
    assert max(map(len, lines)) < 1500
    return line


def test_pin_prints_paths_and_changes_on_one_line(
    tmp_path: Path, digits: Arrays, environment: dict[str, str]
) -> None:
    project = make_project(tmp_path / LONG, digits)
    project.put_source(digits | {"train_labels": digits["train_labels"][::-1]}, pin=False)
    done = subprocess.run(
        ["bash", "-c", "lenet5 pin | cat"],
        cwd=project.root,
        env=project.environment() | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first = ANSI.sub("", done.stdout).splitlines()[0]
    assert first.startswith(f"{project.root}/params.yaml pins ")
    assert first.endswith("; changed: train_labels")


def test_status_prints_folder_and_store_on_one_line(trained: Project, lines: Lines) -> None:
    shown = lines("status")
    one(shown, "project", f"folder {trained.root}")
    one(shown, "tracking", f"address sqlite:///{trained.root}/.lenet5/mlflow/mlflow.db", "answers yes")
    one(shown, "champion", "version 1, accuracy 0.")
    one(shown, "stages", "to run nothing")


def test_settings_are_on_one_line_each(trained: Project, lines: Lines) -> None:
    shown = lines("status --settings")
    one(shown, "LENET5_CHECKPOINTS", f"{trained.root}/.lenet5/checkpoints", "default", "last checkpoint")
    one(shown, "PREFECT_HOME", f"{trained.root}/.lenet5/prefect", "default")


def test_tables_of_versions_have_one_line_per_version(lines: Lines) -> None:
    line = one(lines("versions"), "│ champion")
    data, commit, date = r"MNIST [0-9a-f]{12}", r"[0-9a-f]{8}\+?", r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.search(rf"│ 1 +│ champion +│ 0\.\d{{4}} +│ {data} +│ {commit} +│ {date} +│", line)
    one(lines("history"), "champion", "none", "promote", "@")


def test_tree_of_a_version_has_one_line_per_fact(trained: Project, lines: Lines) -> None:
    shown = lines("lineage 1")
    commit = trained.git("rev-parse", "HEAD").strip()
    one(shown, f"commit: {commit}")
    one(shown, "decision: promote: every limit is kept")
    one(shown, "data docs: runs:/", "/validation/index.html")


def test_errors_have_one_line_per_part(trained: Project, lines: Lines) -> None:
    for name in ("no-image.png", "missing.png"):
        shown = lines(f"predict {{root}}/{name}", stderr=True)
        one(shown, f"error: {trained.root}/{name} cannot be read")
    usage = lines(TOO_LONG, stderr=True)
    assert len(usage) == 2
    assert usage[1] == "  fix:      `lenet5 ui --help` describes the command"


def test_a_stage_prints_paths_on_one_line(trained: Project, lines: Lines) -> None:
    one(lines("validate --update-reference"), f"→ {trained.root}/data/reference.json")


def test_on_a_terminal_tables_fit_its_width(trained: Project) -> None:
    """The opposite case: a person reads a table that does not break the frame."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 72, 0, 0))
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        with subprocess.Popen(
            [str(BIN / "lenet5"), "status", "--settings"],
            cwd=trained.root,
            env=trained.environment() | {"TERM": "xterm"},
            stdout=follower,
            stdin=follower,
        ) as process:
            os.close(follower)
            output = b""
            try:
                while chunk := terminal.read(65536):
                    output += chunk
            except OSError:  # Linux reports the end of a terminal so
                pass
        assert process.returncode == 0
    table = [line for line in ANSI.sub("", output.decode()).splitlines() if line.startswith(("│", "┃", "└"))]
    assert len(table) > 50
    assert {len(line) for line in table} == {72}
