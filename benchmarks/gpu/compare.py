"""Both sides in turns within a time budget; ``gpu.json`` holds what was measured and what was skipped."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from benchmarks import report, results
from benchmarks.gpu.task import ROOT, Task
from benchmarks.results import Line, Result

SIDES = {"product": "benchmarks.gpu.product", "PyTorch": "benchmarks.gpu.torch_peer"}
PEER = "PyTorch"
RECIPES = {128: (6, 0.008), 1024: (12, 0.012), 8192: (40, 0.02)}
"""Epochs and the highest learning rate by batch size: fixed by hand, not searched."""
PRECISIONS = ("float32", "mixed_bfloat16")
TARGETS = (0.9872, 0.99)
RATE, SHARE, COMPILE = "GPU: samples per second", "GPU: product's rate / PyTorch's", "GPU: compile time"
_FIRST_GUESS = 40.0
"""Seconds that a training is expected to take before the first one has ended."""
_RESERVE = 10.0
"""Seconds of the budget that are kept to write the result."""


class SideFailed(Exception):
    """A side's process ended, or did not answer in time."""


@dataclass
class Side:
    """The process of one side."""

    name: str
    process: "subprocess.Popen[str]"
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, name: str, cache: str) -> "Side":
        variables = os.environ | {
            "KERAS_BACKEND": "jax",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # both sides hold memory of one GPU
            "JAX_COMPILATION_CACHE_DIR": cache,  # a later round compiles less
            "KERAS_HOME": cache,
            "PYTHONPATH": os.pathsep.join([f"{ROOT}/src", str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        command = (sys.executable, "-m", SIDES[name])
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=pipe, stdout=pipe, text=True)
        return cls(name, process)

    def ask(self, task: Task | None, seconds: float) -> dict[str, Any]:
        """Train; without a task, wait until the process is ready.

        Raises:
            SideFailed: there is no answer within these seconds.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        if task is not None:
            print(json.dumps(asdict(task)), file=stdin, flush=True)
        line = _line(stdout, seconds, self.process)
        if not line:
            code = self.process.wait()
            raise SideFailed(f"{self.name} ended with exit code {code} or took over {seconds:.0f} seconds")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()  # closes the pipes


def _line(stdout: IO[str], seconds: float, process: "subprocess.Popen[str]") -> str:
    """One line; an empty one when the process ends, or is ended after these seconds."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stdout.readline)
        try:
            return waiting.result(timeout=max(1.0, seconds))
        except TimeoutError:
            process.kill()
            return ""


def main() -> None:
    options = arguments(sys.argv[1:])
    deadline = time.monotonic() + options.budget - _RESERVE
    usual = ROOT / ".lenet5/bench/quick" if options.quick else results.FOLDER
    folder = Path(os.environ.get("OUT") or usual)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    sides: dict[str, Side] = {}
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        try:
            for name in SIDES:
                sides[name] = Side.start(name, cache)
            for side in sides.values():
                side.about = side.ask(None, deadline - time.monotonic())
            if len({side.about["device"] == "cpu" for side in sides.values()}) > 1:
                raise SideFailed(f"one side has no GPU: {[side.about for side in sides.values()]}")
            for run in turns(sides, tasks(options), options.rounds, deadline):
                runs.append(run)
                print(_summary(run), flush=True)
                _write(sides, runs, options, started, folder)  # an interruption loses nothing
        finally:
            for side in sides.values():
                side.stop()
    print(report.text(_write(sides, runs, options, started, folder)))
    print(f"The result is in {folder / 'gpu.json'}.")


def tasks(options: argparse.Namespace) -> list[Task]:
    """Every combination of precision and batch size, float32 first."""
    made = []
    for precision in PRECISIONS:
        for size in options.batch_sizes:
            epochs, rate = RECIPES.get(size, RECIPES[128])
            task = Task(size, precision, epochs, rate, seed=1998, trial_seconds=options.trial_seconds)
            made.append(replace(task, epochs=2, images=1024, trial_seconds=0.0) if options.quick else task)
    return made


def turns(
    sides: dict[str, Side], tasks: Sequence[Task], rounds: int, deadline: float
) -> Iterator[dict[str, Any]]:
    """Each round gives every task to every side, with a seed of its own."""
    took: dict[tuple[str, str], float] = {}
    for number in range(rounds):
        for task in tasks:
            for name in sides if number % 2 == 0 else reversed(sides):
                run = {
                    "name": name,
                    "task": task.name,
                    "round": number + 1,
                    "learning_rate": task.learning_rate,
                }
                others = (seconds for (side, _), seconds in took.items() if side == name)
                expected = took.get((name, task.name), max(others, default=_FIRST_GUESS))
                left = deadline - time.monotonic()
                if left < expected:
                    yield run | {"skipped": f"{left:.0f} seconds were left; {expected:.0f} were expected"}
                    continue
                began = time.monotonic()
                try:
                    answer = sides[name].ask(replace(task, seed=task.seed + number), left)
                except (SideFailed, BrokenPipeError) as error:
                    yield run | {"skipped": str(error)}
                    continue
                took[name, task.name] = time.monotonic() - began
                yield run | ({"skipped": answer["error"]} if "error" in answer else answer | figures(answer))


def figures(answer: dict[str, Any]) -> dict[str, Any]:
    """Rate, compile time, and seconds of training until each target (None: not within these epochs).

    The first epoch compiles: what it takes beyond a median epoch is compile time, and no training.
    """
    seconds = [epoch["seconds"] for epoch in answer["epochs"]]
    steady = statistics.median(seconds[1:])
    excess = max(0.0, seconds[0] - steady)
    reached = {}
    for target in TARGETS:
        hits = [at for at, epoch in enumerate(answer["epochs"]) if epoch["test_accuracy"] >= target]
        reached[f"seconds_to_{target}"] = sum(seconds[: hits[0] + 1]) - excess if hits else None
    return {
        "samples_per_s": answer["images"] / steady,
        "compile_s": answer.get("setup_s", 0.0) + excess,
        **reached,
    }


def lines(runs: Sequence[dict[str, Any]]) -> list[Line]:
    """One line for each quantity, task and side; one with the share of PyTorch's rate for each task."""
    done = [run for run in runs if "skipped" not in run]
    quantities = {RATE: ("samples_per_s", "samples/s"), COMPILE: ("compile_s", "s")}
    quantities |= {f"GPU: seconds to {100 * at:g} %": (f"seconds_to_{at}", "s") for at in TARGETS}
    made = []
    for table, (key, unit) in quantities.items():
        for task, name in dict.fromkeys((run["task"], run["name"]) for run in done):
            mine = [run for run in done if (run["task"], run["name"]) == (task, name)]
            values = tuple(run[key] for run in mine if run[key] is not None)
            best = max(epoch["test_accuracy"] for run in mine for epoch in run["epochs"])
            note = (
                f"{len(values)} of {len(mine)}; best accuracy {best:.4f}" if key.startswith("seconds") else ""
            )
            line = Line(
                table=table, name=f"{task}: {name}", unit=unit, values=values, headline=True, note=note
            )
            made.append(line)
    rates = {line.name: line for line in made if line.table == RATE}
    for task in dict.fromkeys(run["task"] for run in done):
        product, peer = (rates.get(f"{task}: {name}") for name in ("product", PEER))
        if product and peer:
            shares = tuple(mine / its for mine, its in zip(product.values, peer.values, strict=False))
            made.append(Line(table=SHARE, name=task, unit="x", values=shares, headline=True))
    return made


def _write(
    sides: dict[str, Side],
    runs: Sequence[dict[str, Any]],
    options: argparse.Namespace,
    began: float,
    folder: Path,
) -> Result:
    commit, dirty = _commit()
    machine = results.machine()
    devices = dict.fromkeys(str(side.about.get("device", "unknown device")) for side in sides.values())
    processor = f"{', '.join(devices)}; {machine['processor']}"
    versions = {
        name: text for side in sides.values() for name, text in side.about.get("versions", {}).items()
    }
    result = Result(
        part="gpu",
        date=results.now(),
        commit=commit,
        dirty=dirty,
        machine=machine | {"processor": processor, "driver": _driver()},
        versions=versions,
        quick=options.quick,
        seeds=options.rounds,
        minutes=round((time.perf_counter() - began) / 60, 1),
        others_cores=None,
        lines=tuple(lines(runs)),
        repetitions=tuple(runs),
    )
    results.write(result, folder)
    return result


def _summary(run: dict[str, Any]) -> str:
    rest = run.get("skipped") or f"{run['samples_per_s']:,.0f} samples/s, compile {run['compile_s']:.1f} s"
    return f"  round {run['round']}, {run['task']}: {run['name']}: {rest}"


def _commit() -> tuple[str, bool]:
    """The commit of a checkout, or the one that the variable COMMIT names where git's folder is missing."""
    try:
        return results.commit(ROOT)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("COMMIT", "unknown"), False


def _driver() -> str:
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the product with PyTorch on the device at hand.")
    parser.add_argument("--budget", type=float, default=460.0, help="seconds in all")
    parser.add_argument("--rounds", type=int, default=3, help="as many of them as the budget allows")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(RECIPES))
    parser.add_argument("--trial-seconds", type=float, default=90.0, help="for `torch.compile`, in all")
    parser.add_argument(
        "--quick", action="store_true", help="two epochs of 1,024 images, one round; no figures"
    )
    options = parser.parse_args(words)
    if options.quick:
        options.rounds = 1
    return options


if __name__ == "__main__":
    main()
