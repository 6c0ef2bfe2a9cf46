"""``lenet5 serve`` for ten minutes at 70 % of its peak rate, while the alias moves between two versions.

The client keeps 16 connections and sends a PNG file of another test digit each time. In the end every row
of the inference log is scored again by the version that it names. The registry is a copy of the one of the
checkout, which needs two versions with different files.
"""

import asyncio
import io
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks import command, serving
from benchmarks.bench import Bench
from benchmarks.measure import Failed
from benchmarks.results import Line, Verdict, at_least, at_most
from lenet5.core import dataset
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup
from lenet5.serving import inference_log, predictor
from lenet5.stages import params
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.system.terminal import console

MOVES, PARTS = 20, 6
"""Of the alias; equal parts of the time, whose figures are compared."""
SHARE = 0.7
"""Of the peak rate."""
PEAK_SECONDS = 10
PICTURES = 2000


@dataclass
class Load:
    """What the client saw."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Time of the answer and seconds until it, of each request."""
    versions: set[bytes] = field(default_factory=set)
    refused: int = 0


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    seconds = 30 if bench.quick else 600
    paths = bench.paths
    name = params.load(paths.params).register_.model_name
    with tempfile.TemporaryDirectory() as folder:
        root = serving.project(paths, Path(folder))
        database = _copy_of_registry(paths, root)
        versions = _two_versions(paths, name, database)
        requests = _requests(paths)
        service = serving.Service(
            "soak", ("lenet5", "serve", "--port", "PORT", "--poll", "1", "--log-pixels"), 1
        )
        with serving.running(paths, service, root, f"sqlite:///{database}") as (process, port, _):
            peak = asyncio.run(_send(port, requests, PEAK_SECONDS, rate=None))
            rate = SHARE * len(peak.latencies) / PEAK_SECONDS
            console.print(f"  peak {len(peak.latencies) / PEAK_SECONDS:.0f} requests/s", style="dim")
            stop = threading.Event()
            memory: list[float] = []
            movers = [
                threading.Thread(target=_move_alias, args=(database, name, versions, seconds / MOVES, stop)),
                threading.Thread(target=_watch_memory, args=(process, memory, stop)),
            ]
            for thread in movers:
                thread.start()
            began = time.perf_counter()
            with serving.alone(bench, service.name, process):
                load = asyncio.run(_send(port, requests, seconds, rate=rate))
            stop.set()
            for thread in movers:
                thread.join()
        wrong, rows = _rescored(paths, root)
    answered = len(load.latencies) + len(peak.latencies)
    parts = _parts(load, began, seconds)
    kept = memory[len(memory) // PARTS :]  # buffers fill in the first part
    lines = [
        Line(table=table, name="lenet5 serve, 1 worker", unit=unit, values=tuple(values), headline=True)
        for table, unit, values in (
            ("soak: requests per second", "requests/s", [len(load.latencies) / seconds]),
            ("soak: 99th percentile in each sixth of the time", "ms", parts),
            ("soak: memory", "MB", [kept[0], max(kept), kept[-1]]),
            ("soak: refused requests", "requests", [load.refused]),
            ("soak: rows of the log, scored again", "rows", [rows]),
            ("soak: rows that another file would answer", "rows", [wrong]),
        )
    ]
    verdicts = [
        at_most("refused requests", load.refused, 0),
        at_least("versions that answered", len(load.versions), 2),
        at_least("rows of the log / answers", rows / answered, 1),
        at_most("rows that differ from the version that they name", wrong, 0),
        at_most("last 99th percentile / first one", parts[-1] / parts[0], 1.25),
        at_most("memory at the end / after the first sixth", kept[-1] / kept[0], 1.05),
    ]
    bench.repetitions[-1]["answer"] = {"peak": len(peak.latencies) / PEAK_SECONDS}
    return lines, [] if bench.quick else verdicts


def _copy_of_registry(paths: Paths, root: Path) -> Path:
    uri = settings.load(paths).mlflow_tracking_uri
    if not uri.startswith("sqlite:///"):
        raise UsageError("This benchmark moves an alias.", expected="an embedded registry", found=uri)
    copy = root / "mlflow.db"
    shutil.copyfile(uri.removeprefix("sqlite:///"), copy)
    return copy


def _two_versions(paths: Paths, name: str, database: Path) -> tuple[int, int]:
    """Return the newest two versions whose files differ, and store their files for the service."""
    settings.apply(paths)
    environment = settings.load(paths).model_copy(update={"mlflow_tracking_uri": f"sqlite:///{database}"})
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT version FROM model_versions WHERE name = ? ORDER BY version DESC", (name,)
        )
        numbers = [int(row[0]) for row in rows]
    found: dict[str, int] = {}
    for number in numbers:
        version = fast_lookup.find(environment, name, str(number))
        digest = fast_lookup.onnx_digest(version.tags) if version else None
        if digest:
            found.setdefault(digest, number)
        if len(found) == 2:
            break
    else:
        raise UsageError(
            "The alias needs two versions to move between.",
            expected="two versions with different files",
            found=f"{len(found)}",
            fix="change a parameter, such as train.seed, and `lenet5 run`",
        )
    for digest, number in found.items():
        _, content = predictor.onnx_file(paths, name, str(number))
        target = predictor.cache_file(Paths(database.parent), digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content or b"")
    first, second = found.values()
    return first, second


def _move_alias(
    database: Path, name: str, versions: tuple[int, int], pause: float, stop: threading.Event
) -> None:
    """Move the alias to the other version, again and again."""
    move = 0
    while not stop.wait(pause):
        move += 1
        with sqlite3.connect(database) as connection:
            connection.execute(
                "UPDATE registered_model_aliases SET version = ? WHERE name = ? AND alias = 'champion'",
                (versions[move % 2], name),
            )


def _watch_memory(process: psutil.Process, memory: list[float], stop: threading.Event) -> None:
    while not stop.wait(2):
        memory.append(process.memory_full_info().pss / 1e6)


def _requests(paths: Paths) -> list[bytes]:
    """Return HTTP requests with one test digit each."""
    requests = []
    for image in dataset.load(paths.raw).splits["test"].images[:PICTURES]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        body = file.getvalue()
        requests.append(
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
    return requests


async def _send(port: int, requests: Sequence[bytes], seconds: float, rate: float | None) -> Load:
    """Send requests over 16 connections: as many as possible, or ``rate`` per second in all."""
    load = Load()
    end = time.perf_counter() + seconds
    pause = serving.CONNECTIONS / rate if rate else 0.0

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = time.perf_counter() + pause * number / serving.CONNECTIONS
        position = number
        while True:
            if pause:  # a late answer delays the next request of its connection, and counts as waiting time
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = due if pause else time.perf_counter()
            if began > end:
                break
            writer.write(requests[position % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                load.refused += 1
            load.versions.add(head.lower().partition(b"x-model-version: ")[2].partition(b"\r\n")[0])
            now = time.perf_counter()
            load.latencies.append((now, now - began))
            due, position = due + pause, position + serving.CONNECTIONS
        writer.close()

    await asyncio.gather(*(client(number) for number in range(serving.CONNECTIONS)))
    return load


def _parts(load: Load, began: float, seconds: float) -> list[float]:
    """Return the 99th percentile of each part of the time, in ms."""
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for at, latency in load.latencies:
        parts[min(PARTS - 1, int((at - began) / seconds * PARTS))].append(1000 * latency)
    if not all(parts):
        raise Failed("The service stopped answering.", expected="answers in each part of the time")
    return [round(statistics.quantiles(part, n=100)[98], 3) for part in parts]


def _rescored(paths: Paths, root: Path) -> tuple[int, int]:
    """Return how many logged rows differ from what their version answers, and how many rows there are."""
    table = inference_log.read_all(LocalState(root).serving / "log").to_pandas()
    ids = table["request_id"] + "/" + table["row"].astype(str)
    if ids.duplicated().any():
        raise Failed("The log holds a row twice.", found=ids[ids.duplicated()].iloc[0])
    wrong = 0
    for digest, rows in table.groupby("model_sha256"):
        content = predictor.cached_onnx(Paths(root), str(digest))
        if content is None:
            raise Failed("The log names a file that is not stored.", found=digest)
        model = predictor.of_onnx(0, content)
        images = np.stack([np.frombuffer(pixels, np.uint8) for pixels in rows["pixels"]])
        scored = model.probabilities(images.reshape(-1, *model.shape))
        logged = np.stack(rows["probabilities"].to_list())
        wrong += int((np.abs(scored - logged).max(axis=1) > 1e-6).sum())
    return wrong, len(table)


if __name__ == "__main__":
    command.main("serving_soak")
