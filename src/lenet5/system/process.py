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

import psutil

from lenet5.core.errors import Lenet5Error, Unavailable
from lenet5.system import parent_watch

OnLine = Callable[[str], None]

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
_SHELL_SIGNAL = 128
_FAULTS = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS}
"""Signals that a process causes by its own defect; others come from outside."""

_running: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    lines: list[str]
    """Its output."""
    timed_out: bool
    """It ran too long and was killed."""
    memory_kills: int = 0
    """How many processes the kernel killed meanwhile because the memory ran out."""


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
    kills_before = memory_kills()
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
    return Ended(code, lines, timed_out.is_set(), memory_kills() - kills_before)


def signal_number(code: int) -> int | None:
    """Return the signal that ended a process; None when it ended by itself.

    Args:
        code: its exit code: negative from Python, above 128 from a shell.
    """
    number = -code if code < 0 else code - _SHELL_SIGNAL
    return number if number in {each.value for each in signal.Signals} else None


def death(what: str, number: int, *, memory_kills: int = 0) -> Lenet5Error:
    """Return the error for a process that a signal ended.

    Args:
        what: what happened, as a sentence.
        number: the signal.
        memory_kills: how many processes the kernel killed for memory while it ran.
    """
    died = f"killed by signal {number} ({signal.Signals(number).name})"
    if number in _FAULTS:
        return Lenet5Error(
            what, found=f"{died}: a crash in compiled code", fix="report it with the output above"
        )
    if number != signal.SIGKILL:
        return Unavailable(
            what,
            found=f"{died}, which another program sent",
            fix="run it again; completed stages are kept",
        )
    memory = psutil.virtual_memory()
    if memory_kills > 0:
        reason = "the kernel killed a process meanwhile because the memory ran out"
    else:
        reason = "another program sent it, or the kernel because the memory ran out; then `dmesg` has a line"
    return Unavailable(
        what,
        found=f"{died}: {reason}. {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB are free now",
        fix="end other programs, or use more memory, then run it again; completed stages are kept",
    )


def memory_kills() -> int:
    """Return how many processes the kernel of Linux has killed because the memory ran out; elsewhere 0.

    These are the processes of this control group or, where it has no counter, of the whole machine.
    """
    for counters in (_control_group() / "memory.events", Path("/proc/vmstat")):
        with suppress(OSError):
            lines = counters.read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0


def _control_group() -> Path:
    """Return the folder of this process's control group, version 2."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return root / line.removeprefix("0::").lstrip("/")
    return root


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
