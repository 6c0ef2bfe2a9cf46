"""A process, watched from outside.

Anonymous memory is what a process holds itself. The files that it maps do not count: the system drops their
pages when it needs room.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_INTERVAL = 0.05  # seconds between two looks


def anonymous_peak(command: Sequence[str]) -> int:
    """Run a command that must succeed; the most anonymous memory that it and its children held, in bytes.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    ours = ("MLFLOW_", "PREFECT_", "DVC_", "LENET5_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env=variables, cwd=Path(__file__).parents[1], stdout=said, stderr=subprocess.STDOUT
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(_anonymous(each.pid) for each in _family(process.pid)))
            time.sleep(_INTERVAL)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(
                f"{' '.join(command)} ended with {process.returncode}:\n{said.read().decode()}"
            )
    return peak


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _anonymous(pid: int) -> int:
    """The kernel keeps count of this, so that a look costs the process nothing, however much it maps."""
    try:
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:  # it has just ended
        return 0
    return int(found[1]) * 1024 if found else 0
