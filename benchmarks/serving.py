"""Requests per second of ``lenet5 serve``, of a bare FastAPI loop and of ``mlflow models serve``, in turns.

The client is wrk, on the same machine, with 16 connections that each send the PNG file of one test digit, and
JSON to MLflow, which takes no pictures. A service starts anew for each round. The registry is the checkout's,
and needs a champion; the inference log is written to a temporary folder.
"""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks import command
from benchmarks.bench import ROOT, Bench, environment
from benchmarks.measure import Failed, busy_seconds
from benchmarks.results import Line, Verdict, at_least, at_most
from lenet5.core import dataset
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.stages import params
from lenet5.system import settings
from lenet5.system.terminal import console

CONNECTIONS = 16
BATCH, BATCHES = 10_000, 10
"""Images in one NPY request, and requests."""
RATE, P99, CPU = "service: requests per second", "service: 99th percentile", "service: CPU time per request"
MEMORY, START, IMAGES = "service: memory per worker", "service: start to ready", "service: images per second"
_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*all")
wrk.headers["Content-Type"] = "{kind}"
function done(summary, latency)
  local errors = summary.errors
  print(string.format('{{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Service:
    """A contestant."""

    name: str
    words: tuple[str, ...]
    workers: int
    path: str = "/predict"
    kind: str = "image/png"
    ready: str = "/health/ready"
    baselines: tuple[str, ...] = ()
    """The contestants that its rate is divided by."""


PRODUCT, BARE, MLFLOW = "lenet5 serve", "bare FastAPI and ONNX Runtime", "mlflow models serve"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    if shutil.which("wrk") is None:
        raise UsageError("The client of this benchmark is missing.", expected="wrk", fix="apt install wrk")
    seconds = 2 if bench.quick else 8
    services = _services(bench.paths)
    answers: dict[str, list[dict[str, float]]] = {service.name: [] for service in services}
    with tempfile.TemporaryDirectory() as folder:
        root = project(bench.paths, Path(folder))
        for _ in range(bench.seeds):
            for service in services:
                answers[service.name].append(_measure(bench, service, root, seconds))
    lines = [
        Line(
            table=table,
            name=service.name,
            unit=unit,
            values=tuple(answer[key] for answer in answers[service.name] if key in answer),
            baselines=service.baselines if table == RATE else (),
            headline=True,
        )
        for table, key, unit in (
            (RATE, "rate", "requests/s"),
            (P99, "p99_ms", "ms"),
            (CPU, "cpu_us", "µs"),
            (MEMORY, "memory_mb", "MB"),
            (START, "start_s", "s"),
            (IMAGES, "images_per_s", "images/s"),
        )
        for service in services
        if any(key in answer for answer in answers[service.name])
    ]
    return lines, [] if bench.quick else judge(lines)


def judge(lines: Sequence[Line]) -> list[Verdict]:
    """The targets."""
    median = {(line.table, line.name): line.median or 0.0 for line in lines}
    one, two = contestant(PRODUCT, 1), contestant(PRODUCT, 2)
    return [
        at_least(f"{one}: rate", median[RATE, one], 2500, "requests/s"),
        at_least(f"{two}: rate", median[RATE, two], 4500, "requests/s"),
        *(
            at_least(f"{name}: rate / rate of the bare loop", median[RATE, name] / median[RATE, bare], 0.8)
            for name, bare in ((one, contestant(BARE, 1)), (two, contestant(BARE, 2)))
        ),
        *(at_most(f"{name}: 99th percentile", median[P99, name], 10, "ms") for name in (one, two)),
        *(at_most(f"{name}: memory per worker", median[MEMORY, name], 250, "MB") for name in (one, two)),
        at_most(f"{one}: start to ready", median[START, one], 2, "s"),
        at_least(f"{one}: batches over NPY", median[IMAGES, one], 50_000, "images/s"),
    ]


def contestant(kind: str, workers: int) -> str:
    """The name of a contestant."""
    return f"{kind}, {workers} worker{'s' * (workers > 1)}"


def _services(paths: Paths) -> list[Service]:
    """Return the contestants; ``PORT`` in their commands stands for a free port."""
    model = params.load(paths.params).register_.model_name
    bare = (sys.executable, "-m", "benchmarks.contestants.bare_service", "--port", "PORT")
    mlflow = (
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        f"models:/{model}@champion",
        "--env-manager",
        "local",
    )
    services = []
    for workers in (1, 2):
        options = ("--workers", str(workers))
        services.append(Service(contestant(BARE, workers), (*bare, *options), workers))
        product = ("lenet5", "serve", "--port", "PORT", *options)
        beside = (contestant(BARE, workers), contestant(MLFLOW, 1))
        services.append(Service(contestant(PRODUCT, workers), product, workers, baselines=beside))
    services.append(
        Service(
            contestant(MLFLOW, 1),
            (*mlflow, "--workers", "1", "--port", "PORT"),
            1,
            "/invocations",
            "application/json",
            "/ping",
        )
    )
    return services


def project(paths: Paths, folder: Path) -> Path:
    """Return a folder that the commands take for a checkout, with the requests' bodies."""
    for file in (paths.params, paths.graph, paths.onnx):
        copy = folder / file.relative_to(paths.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    image = dataset.load(paths.raw).splits["test"].images[0]
    Image.fromarray(image).save(folder / "image.png")
    (folder / "image.json").write_text(json.dumps({"inputs": [image.tolist()]}))
    return folder


def _measure(bench: Bench, service: Service, root: Path, seconds: int) -> dict[str, float]:
    with running(bench.paths, service, root) as (process, port, start):
        _load(service, root, port, 1)  # caches fill
        with alone(bench, service.name, process) as used:
            loaded = _load(service, root, port, seconds)
        cpu = used["cpu_s"]
        if loaded["failed"] or not loaded["requests"]:
            raise Failed(f"{service.name} refused requests.", expected="only answers", found=loaded)
        answer = {
            "rate": loaded["requests"] / loaded["seconds"],
            "p50_ms": loaded["p50_ms"],
            "p99_ms": loaded["p99_ms"],
            "cpu_us": 1e6 * cpu / loaded["requests"],
            "memory_mb": _memory(process) / service.workers,
            "start_s": start,
        }
        if service.name == contestant(PRODUCT, 1):
            answer["images_per_s"] = _batches(bench.paths, port)
    answer = {key: round(value, 3) for key, value in answer.items()}
    bench.repetitions[-1]["answer"] = answer
    console.print(f"  {service.name}: {answer}", style="dim", markup=False, highlight=False)
    return answer


@contextmanager
def alone(bench: Bench, name: str, process: psutil.Process) -> Iterator[dict[str, Any]]:
    """Measure a service during the block: ``cpu_s``, ``wall_s``, and the cores that other processes used.

    What this process and its children use belongs to the benchmark.
    """
    used: dict[str, Any] = {"name": name}
    busy, ours, service, began = busy_seconds(), sum(os.times()[:4]), _cpu(process), time.perf_counter()
    yield used
    used["wall_s"] = time.perf_counter() - began
    used["cpu_s"] = _cpu(process) - service
    others = busy_seconds() - busy - used["cpu_s"] - (sum(os.times()[:4]) - ours)
    used["others_cores"] = max(0.0, others) / used["wall_s"]
    bench.repetitions.append(used)


@contextmanager
def running(
    paths: Paths, service: Service, root: Path, registry: str | None = None
) -> Iterator[tuple[psutil.Process, int, float]]:
    """Run a service, and yield its process, its port and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(port) if word == "PORT" else word for word in service.words]
    log = root / "service.log"
    variables = environment(ROOT) | {
        "MLFLOW_TRACKING_URI": registry or settings.load(paths).mlflow_tracking_uri
    }
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=root, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while not _answers(port, service.ready):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise Failed(f"{service.name} does not start.", found=log.read_text()[-2000:])
            time.sleep(0.01)
        yield psutil.Process(process.pid), port, time.perf_counter() - began
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _load(service: Service, root: Path, port: int, seconds: int) -> dict[str, float]:
    """Send requests for some seconds, and return what wrk counted."""
    script = root / "wrk.lua"
    body = root / ("image.png" if service.kind == "image/png" else "image.json")
    script.write_text(_SCRIPT.format(body=body, kind=service.kind))
    address = f"http://127.0.0.1:{port}{service.path}"
    options = f"--threads 1 --connections {CONNECTIONS} --duration {seconds} --timeout 30 --script {script}"
    done = subprocess.run(["wrk", *options.split(), address], capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _batches(paths: Paths, port: int) -> float:
    """Return the images per second of large requests."""
    images = dataset.load(paths.raw).splits["test"].images[:BATCH]
    file = io.BytesIO()
    np.save(file, images)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    rates = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        connection.request("POST", "/predict", file.getvalue(), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Failed("A batch was refused.", found=content[:500])
        rates.append(len(images) / (time.perf_counter() - began))
    connection.close()
    return statistics.median(rates)


def _cpu(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def _memory(process: psutil.Process) -> float:
    """Return the memory of a service in 1e6 bytes; pages that its processes share count once."""
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / 1e6


if __name__ == "__main__":
    command.main("serving")
