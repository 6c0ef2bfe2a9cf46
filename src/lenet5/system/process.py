"""One stage, run through DVC in a process of its own, so that ``dvc repro`` and the flow share one cache."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lenet5.core.errors import Lenet5Error
from lenet5.system import parent_watch

# DVC repeats it after every stage; here it would be half of the log.
_ADVICE = re.compile(
    r"\s*$|To track the changes|\s+git add|To enable auto staging|\s+dvc config|Use `dvc push`"
)
_EXITED = re.compile(r"failed to run: .* exited with (-?\d+)$")


_running: set[subprocess.Popen[str]] = set()


class StageFailed(Lenet5Error):
    """A stage ended with an error; carries its message and its exit code."""

    def __init__(self, stage: str, message: str, exit_code: int) -> None:
        super().__init__(f"stage {stage} failed: {message}")
        self.message = message
        self.exit_code = exit_code


def run_stage(
    root: Path,
    stage: str,
    *,
    timeout: float,
    on_line: Callable[[str], None],
    force: bool = False,
    pull: bool = False,
    environment: Mapping[str, str | None] | None = None,
) -> None:
    """Bring one stage up to date; the stages before it are taken as they are.

    Args:
        root: the checkout.
        stage: its name in ``dvc.yaml``.
        timeout: seconds; then the stage and all it started are killed.
        on_line: is given each line of output as it comes.
        force: run it even if nothing changed.
        pull: ask the DVC remote for what the local cache lacks.
        environment: variables for the stage, beside this process's own; None takes one away.

    Raises:
        StageFailed: the stage said no, broke, or took too long.
    """
    words = [*(["--force"] if force else []), *(["--pull"] if pull else [])]
    # Without --wait-for-lock, DVC gives up after 3 s and throws a finished stage's result away.
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage, *words]

    def pass_on(line: str) -> None:
        if not _ADVICE.match(line):
            on_line(line)

    ended = run(command, root, timeout=timeout, on_line=pass_on, environment=environment)
    _require_success(stage, ended, timeout)


def run_bare(root: Path, stage: str, *, timeout: float, on_line: Callable[[str], None]) -> None:
    """Run a stage without DVC, to help another machine's: nothing of it is recorded here.

    Raises:
        StageFailed: as ``run_stage``.
    """
    environment = {"DVC_STAGE": stage}  # it is part of one
    ended = run(["lenet5", stage], root, timeout=timeout, on_line=on_line, environment=environment)
    _require_success(stage, ended, timeout)


def _require_success(stage: str, ended: "Ended", timeout: float) -> None:
    if ended.overdue:
        raise StageFailed(stage, f"it took more than {timeout:g} seconds and was killed", 1)
    if ended.code:
        raise StageFailed(stage, *reason(ended.lines, ended.code))


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    lines: list[str]
    """Its output."""
    overdue: bool
    """It took too long, and was killed."""


def run(
    command: Sequence[str],
    root: Path,
    *,
    on_line: Callable[[str], None],
    timeout: float | None = None,
    environment: Mapping[str, str | None] | None = None,
    stdin: str | None = None,
) -> Ended:
    """Run a process that ends with this one, and with all it started.

    Args:
        command: its words.
        root: the folder it works in.
        on_line: is given each line of output as it comes.
        timeout: seconds; then it is killed.
        environment: variables beside this process's own; None takes one away.
        stdin: what it reads.
    """
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment_for_child(environment or {}),
        stdin=None if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, to be killed as a whole
    )
    _running.add(process)
    overdue = threading.Event()

    def expire() -> None:
        overdue.set()
        _kill_group(process)

    timer = threading.Timer(timeout or 0, expire)
    if timeout is not None:
        timer.start()
    lines: list[str] = []
    try:
        if process.stdin:
            with suppress(BrokenPipeError), process.stdin as words:
                words.write(stdin or "")
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                lines.append(line.rstrip())
                on_line(lines[-1])
        code = process.wait()
    finally:
        timer.cancel()
        _kill_group(process)
        _running.discard(process)
    return Ended(code, lines, overdue.is_set())


def differs(root: Path, stage: str) -> dict[str, str]:
    """What differs from what ``dvc.lock`` says of a stage: files and parameters, by name, and how.

    Outputs that are only missing do not count: they can be fetched.

    Raises:
        StageFailed: DVC cannot say.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json", stage],
        cwd=root,
        env=environment_for_child({}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StageFailed(stage, *reason(done.stderr.splitlines(), done.returncode))
    found: dict[str, str] = {}
    for change in json.loads(done.stdout).get(stage, []):
        if isinstance(change, str):  # "changed command"
            found[stage] = change
            continue
        for kind, names in change.items():
            missing = ("deleted", "not in cache") if kind == "changed outs" else ()
            found |= {name: str(how) for name, how in names.items() if how not in missing}
    return found


def kill_running() -> None:
    """Kill every stage that runs in this process, with all it started; for a flow that is interrupted."""
    for process in list(_running):
        _kill_group(process)


def reason(lines: list[str], code: int) -> tuple[str, int]:
    """The message of what failed, and its exit code; DVC's own is 255 for every failure."""
    exits = [int(match[1]) for line in lines if (match := _EXITED.search(line))]
    said = [line for line in lines if line and not _EXITED.search(line)]
    starts = [number for number, line in enumerate(said) if line.startswith("error: ")]
    said = said[starts[-1] :] if starts else said[-20:]
    if exits and exits[-1] < 0:
        return f"it was killed by signal {-exits[-1]} (9 can mean that the memory ran out)", 1
    return "\n".join(said).removeprefix("error: "), exits[-1] if exits else code


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def environment_for_child(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a child process: this one's, with changes, and the parent to watch.

    The child finds the programs of this Python environment first: DVC calls ``lenet5``, a flow ``python``.

    Args:
        changes: variables that differ; None removes one.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    wanted = {**os.environ, **parent_watch.env_for_child(), **changes, "PATH": path}
    return {name: value for name, value in wanted.items() if value is not None}
