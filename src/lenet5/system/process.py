"""Child processes that end with this one, together with everything they start."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lenet5.system import parent_watch

OnLine = Callable[[str], None]

_running: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    lines: list[str]
    """Its output."""
    timed_out: bool
    """It ran too long and was killed."""


def run(
    command: Sequence[str],
    folder: Path,
    *,
    on_line: OnLine,
    timeout: float | None = None,
    environment: Mapping[str, str | None] | None = None,
    stdin: str | None = None,
) -> Ended:
    """Run a process and pass on its output line by line.

    The process and everything it started are killed when this process ends or an exception leaves this
    function.

    Args:
        command: the program and its arguments.
        folder: the working directory.
        on_line: called with each line of output as it comes.
        timeout: seconds; then the process is killed.
        environment: variables that differ from those of this process; None removes one.
        stdin: what the process reads.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment_for_child(environment or {}),
        stdin=None if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a process group of its own, to be killed as a whole
    )
    _running.add(process)
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        _kill_group(process)

    timer = threading.Timer(timeout or 0, expire)
    if timeout is not None:
        timer.start()
    lines: list[str] = []
    try:
        if process.stdin:
            with suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(stdin or "")
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
    return Ended(code, lines, timed_out.is_set())


def kill_running() -> None:
    """Kill every process that ``run`` waits for; for a flow that is interrupted."""
    for process in list(_running):
        _kill_group(process)


def environment_for_child(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a child process: this one's, with changes, and the parent to watch.

    The child finds the programs of this Python environment first: DVC calls ``lenet5``, a flow ``python``.

    Args:
        changes: variables that differ; None removes one.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    wanted = {**os.environ, **parent_watch.env_for_child(), **changes, "PATH": path}
    return {name: value for name, value in wanted.items() if value is not None}


def _kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
