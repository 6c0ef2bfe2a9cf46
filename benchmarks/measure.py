"""One command as a whole process: its resources, and those that other processes used meanwhile."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from lenet5.core.errors import Lenet5Error

_INTERVAL = 0.05  # seconds between two samples of the memory


class Failed(Lenet5Error):
    """A measured command failed, so its figures would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """Resources of one process and of all that it started."""

    wall_s: float
    cpu_s: float
    """User and system time of the whole tree, as the kernel counts it."""
    others_cores: float
    """CPU that other processes used meanwhile, in cores: 1.0 is one core, all the time."""
    anonymous_mb: float | None = None
    """Peak memory of the tree without a file behind it, in 1e6 bytes; None: not watched."""
    answer: Any = None
    """The last line of its standard output, if that is JSON."""

    def as_row(self) -> dict[str, Any]:
        """The fields that a result keeps, to three decimals."""
        row = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def whole_process(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], watch_memory: bool = False
) -> Measured:
    """Run a command to its end.

    Args:
        watch_memory: sample the memory of the tree 20 times a second. That takes some percent of a core.

    Raises:
        Failed: its exit code is not 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        busy, ours = busy_seconds(), time.process_time()
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=dict(environment), stdout=out, stderr=err)
        with _Memory(process.pid, watch=watch_memory) as memory:
            _, status, used = os.wait4(process.pid, 0)  # the resources of this child alone
        wall = time.perf_counter() - started
        cpu = used.ru_utime + used.ru_stime
        others = busy_seconds() - busy - cpu - (time.process_time() - ours)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        output, errors = _read(out), _read(err)
    if code != 0:
        raise Failed(
            f"`{' '.join(command)}` failed.",
            expected="exit code 0",
            found=f"{code}\n{output[-1000:]}\n{errors[-3000:]}".rstrip(),
        )
    answer = None
    with suppress(ValueError, IndexError):
        answer = json.loads(output.splitlines()[-1])
    return Measured(wall, cpu, max(0.0, others) / wall, memory.peak / 1e6 if watch_memory else None, answer)


def busy_seconds() -> float:
    """CPU-seconds that all processes have used since the machine started."""
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Memory:
    """Samples the anonymous memory of a process and its descendants; keeps the peak, in bytes."""

    def __init__(self, pid: int, *, watch: bool) -> None:
        self.peak = 0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if watch else None

    def __enter__(self) -> "_Memory":
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_INTERVAL):
            with suppress(psutil.NoSuchProcess):
                first = psutil.Process(self._pid)
                tree = (first, *first.children(recursive=True))
                self.peak = max(self.peak, sum(_anonymous(each.pid) for each in tree))


def _anonymous(pid: int) -> int:
    """Anonymous resident bytes of one process; 0 when it has just ended.

    The kernel keeps this sum. `smaps_rollup` is exact, but walks every page for each sample.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
