"""Many flow runs against the same servers: what grows with each run.

A clone trains one epoch with another seed in each run, so each run makes a new model, a new MLflow run and a
new version. MLflow and Prefect are real server processes on SQLite.
Ctrl-C ends it early: the result has the runs until then.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

from benchmarks import command
from benchmarks.bench import ROOT, Bench
from benchmarks.results import Line, Verdict, at_most
from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.stages import params
from lenet5.system.terminal import console

FILES, MEMORY, DISK, TIME = "soak: open files", "soak: memory", "soak: disk", "soak: one flow run"
MLFLOW, PREFECT, CLONE = "MLflow server", "Prefect server", "clone (cache and local state)"
GROWTH = "soak: growth per run"
_STARTUP_SECONDS = 180.0
_WARM_UP = 0.25
"""Share of the runs that the growth leaves out: a server fills its caches first."""
_TINY = {
    "train.epochs": 1,
    # no model is refused: this part measures processes and stores
    "register.floors.accuracy": 0.1,
    "register.floors.worst_class_recall": 0.0,
    "register.floors.mean_corruption_accuracy": 0.0,
    "register.ceilings.calibration_error": 1.0,
    "register.gate.margin": 0.9,
    "register.gate.corruption_margin": 0.9,
    "register.gate.slice_margin": 0.9,
    "register.gate.resamples": 100,
}


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        with _mlflow(folder / "mlflow") as mlflow, _prefect(folder / "prefect") as prefect:
            (clone / ".env").write_text(
                f"MLFLOW_TRACKING_URI={mlflow.address}\nPREFECT_API_URL={prefect.address}/api\n"
            )
            with _until_interrupted():
                for number in range(2 if bench.quick else bench.runs):
                    params.write(Paths(clone).params, {**_TINY, "train.seed": number})
                    done = bench.command(f"flow run {number + 1}", ("lenet5", "run"), code=clone)
                    measured = {
                        (TIME, "wall time"): done.wall_s,
                        (TIME, "CPU time"): done.cpu_s,
                        (DISK, CLONE): _size_mb(clone / ".dvc") + _size_mb(clone / ".lenet5"),
                    }
                    for title, server in ((MLFLOW, mlflow), (PREFECT, prefect)):
                        measured[MEMORY, title] = server.memory_mb()
                        measured[FILES, title] = server.open_files()
                        measured[DISK, title] = _size_mb(server.folder)
                    for key, value in measured.items():
                        values[key].append(value)
    units = {MEMORY: "MB", DISK: "MB", FILES: "", TIME: "s"}
    lines = [
        Line(table=table, name=what, unit=units[table], values=tuple(found), headline=True)
        for (table, what), found in values.items()
    ]
    growths = {(line.table, line.name): growth(line.values) for line in lines}
    for (table, what), value in growths.items():
        unit = f" ({units[table]})" if units[table] else ""
        label = f"{table.removeprefix('soak: ')}, {what}{unit}"
        lines.append(Line(table=GROWTH, name=label, unit="", values=(value,), headline=True))
    if bench.quick:
        return lines, []
    return lines, [
        *(
            at_most(f"growth of memory per run, {what}", growths[MEMORY, what], 1.0, "MB")
            for what in (MLFLOW, PREFECT)
        ),
        *(
            at_most(f"growth of open files per run, {what}", growths[FILES, what], 0.1)
            for what in (MLFLOW, PREFECT)
        ),
        at_most("growth of CPU time per run", growths[TIME, "CPU time"], 0.05, "s"),
    ]


def growth(values: Sequence[float]) -> float:
    """Return the slope of a least-squares line through the values after the warm-up, per run."""
    settled = values[int(len(values) * _WARM_UP) :]
    if len(settled) < 2:
        return 0.0
    return statistics.linear_regression(range(len(settled)), settled).slope


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """End the block at Ctrl-C or SIGTERM, so that the runs until then are a result."""
    # a shell starts background commands with SIGINT ignored
    before = {how: signal.signal(how, signal.default_int_handler) for how in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted: the result has the runs until now.")
    finally:
        for how, handler in before.items():
            signal.signal(how, handler)


class _Server:
    """A server process with its data in one folder."""

    def __init__(self, folder: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"
        self._process = process

    def memory_mb(self) -> float:
        """Return the resident memory of the server and its workers, in 1e6 bytes."""
        return sum(each.memory_info().rss for each in self._tree()) / 1e6

    def open_files(self) -> float:
        return float(sum(each.num_fds() for each in self._tree()))

    def _tree(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def _mlflow(folder: Path) -> Iterator[_Server]:
    port = _free_port()
    words = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = (
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    )
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with _serving(folder, port, (*words, *stores), environment, "/health") as server:
        yield server


@contextmanager
def _prefect(folder: Path) -> Iterator[_Server]:
    port = _free_port()
    words = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    environment = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with _serving(folder, port, words, environment, "/api/health") as server:
        yield server


@contextmanager
def _serving(
    folder: Path, port: int, words: Sequence[str], environment: dict[str, str], probe: str
) -> Iterator[_Server]:
    """Run a server in the block.

    Raises:
        Unavailable: it does not answer in time.
    """
    folder.mkdir()
    program, *arguments = words
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = _Server(folder, port, process)
    try:
        end = time.monotonic() + _STARTUP_SECONDS
        while not _answers(f"{server.address}{probe}"):
            if process.poll() is not None or time.monotonic() > end:
                raise Unavailable(
                    f"{program} does not start.", found=(folder / "server.log").read_text()[-2000:]
                )
            time.sleep(0.5)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(url, timeout=5).ok
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _size_mb(folder: Path) -> float:
    """Return the size of all files in a folder, in 1e6 bytes."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    command.main("soak")
