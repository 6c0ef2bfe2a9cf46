"""One command as a whole process: what it took, and who else was at work meanwhile."""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from lenet5.core.errors import Lenet5Error

_MEGABYTE = 1e6
_LOOKS = 0.05  # seconds between two looks at the memory


class Failed(Lenet5Error):
    """A measured command did not end well: a benchmark of it would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """What one process and everything that it started took."""

    wall_s: float
    cpu_s: float
    """User and system time of the whole tree, as the kernel counted it."""
    largest_rss_mb: float
    """The most that one process of the tree held at a time, in 1e6 bytes; shared pages count."""
    others_cores: float
    """CPU that everybody else used meanwhile, in cores: 1.0 is one core, all the time."""
    stolen_cores: float
    """CPU that the machine under this one did not give, in cores."""
    tree_rss_mb: float | None = None
    """The most that the tree held, pages shared by two processes counted twice; where it was watched."""
    tree_anonymous_mb: float | None = None
    """The same without what is only a file's: what the machine must really have."""
    answer: Any = None
    """What the last line of its standard output says, if that is JSON."""

    def as_row(self) -> dict[str, Any]:
        """What a result keeps, to three decimals."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if value is not None
        }


def whole_process(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], watch_memory: bool = False
) -> Measured:
    """Run a command to its end.

    Args:
        watch_memory: look at the memory of the tree 20 times a second. That costs time, some percent of a
            core: not for what is timed.

    Raises:
        Failed: it ended with another code than 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, ours = _busy(), time.process_time()
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=dict(environment), stdout=out, stderr=err)
        with _Memory(process.pid, watch=watch_memory) as memory:
            _, status, used = os.wait4(process.pid, 0)  # the resources of this child, not of all
        wall = time.perf_counter() - started
        after = _busy()
        process.returncode = code = os.waitstatus_to_exitcode(status)
        said, complained = (_read(file) for file in (out, err))
    if code != 0:
        raise Failed(
            f"`{' '.join(map(str, command))}` failed.",
            expected="exit code 0",
            found=f"{code}\n{said[-1000:]}\n{complained[-3000:]}".rstrip(),
        )
    cpu = used.ru_utime + used.ru_stime
    busy, stolen = (now - then for now, then in zip(after, before, strict=True))
    return Measured(
        wall_s=wall,
        cpu_s=cpu,
        largest_rss_mb=used.ru_maxrss * 1024 / _MEGABYTE,
        others_cores=max(0.0, busy - cpu - (time.process_time() - ours)) / wall,
        stolen_cores=stolen / wall,
        tree_rss_mb=memory.rss / _MEGABYTE if watch_memory else None,
        tree_anonymous_mb=memory.anonymous / _MEGABYTE if watch_memory else None,
        answer=_last_json(said),
    )


def _busy() -> tuple[float, float]:
    """CPU-seconds since the machine started: what was used by anybody, and what was stolen."""
    times = psutil.cpu_times()._asdict()
    names = ("user", "nice", "system", "irq", "softirq")  # guests are in user; waiting for a disk is no use
    return sum(times.get(name, 0.0) for name in names), times.get("steal", 0.0)


class _Memory:
    """Peaks of a process and its descendants, in bytes."""

    def __init__(self, pid: int, *, watch: bool) -> None:
        self.rss = self.anonymous = 0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True) if watch else None

    def __enter__(self) -> "_Memory":
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOKS):
            try:
                first = psutil.Process(self._pid)
                tree = [_resident(each.pid) for each in (first, *first.children(recursive=True))]
            except psutil.NoSuchProcess:
                return
            rss, anonymous = (sum(column) for column in zip(*tree, strict=True))
            self.rss, self.anonymous = max(self.rss, rss), max(self.anonymous, anonymous)


def _resident(pid: int) -> tuple[int, int]:
    """Resident bytes of one process, and those of them that no file backs; 0 when it has just ended.

    The kernel keeps these sums; `smaps_rollup` is exact, but walks every page for each look.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    rss, anonymous = (int(fields[name][0]) * 1024 if name in fields else 0 for name in ("VmRSS", "RssAnon"))
    return rss, anonymous


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))


def _last_json(text: str) -> Any:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
