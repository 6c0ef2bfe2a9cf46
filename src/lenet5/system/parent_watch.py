"""End a child process when its parent is killed, so that no orphan writes where another process works."""

import os
import threading
from contextlib import suppress

import psutil

VARIABLE = "LENET5_SUPERVISOR"
POLL_SECONDS = 1.0
_MAX_CLOCK_DIFFERENCE_SECONDS = 3600


def env_for_child() -> dict[str, str]:
    """Return environment variables that identify the parent: PID and start time, because PIDs are reused."""
    process = psutil.Process()
    return {VARIABLE: f"{process.pid}:{process.create_time()}"}


def exit_with_parent() -> None:
    """End this process, in whatever state it is, soon after the parent that the environment names."""
    if parent := os.environ.get(VARIABLE):
        pid, _, started = parent.partition(":")
        threading.Thread(target=_watch, args=(int(pid), float(started)), daemon=True).start()


def _watch(pid: int, started: float) -> None:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        # the clock may be set while both work, which moves the start time that is computed from it;
        # psutil compares by boot time from then on
        while (
            abs(parent.create_time() - started) < _MAX_CLOCK_DIFFERENCE_SECONDS
            and parent.is_running()
            and not _is_zombie(parent)
        ):
            threading.Event().wait(POLL_SECONDS)
    os._exit(1)  # like a kill: files are written aside, and no parent is left to read an error


def _is_zombie(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_ZOMBIE
