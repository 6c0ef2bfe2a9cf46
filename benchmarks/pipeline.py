"""What a user waits for, in a fresh clone of the last commit: ``python -m benchmarks.pipeline``."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from lenet5.paths import Paths
from lenet5.terminal import console

STEPS = {
    "lenet5 --help": ("lenet5", "--help"),
    "lenet5 run, nothing there yet": ("lenet5", "run"),
    "lenet5 run, nothing to do": ("lenet5", "run"),
    "dvc repro, nothing to do": ("dvc", "repro"),
    "dvc repro --force": ("dvc", "repro", "--force"),
    "lenet5 reproduce @champion": ("lenet5", "reproduce", "@champion"),
}


def main() -> None:
    """Clone, then time each command as a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(Paths.find().root), str(clone)], check=True)
        ours = ("MLFLOW_", "PREFECT_", "DVC_", "LENET5_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment["PYTHONPATH"] = f"{clone / 'src'}:{clone}"  # the clone's code, not the checkout's
        for name, command in STEPS.items():
            before, started = os.times(), time.perf_counter()
            subprocess.run(command, cwd=clone, env=environment, capture_output=True, check=True)
            wall, after = time.perf_counter() - started, os.times()
            cpu = sum(after[2:4]) - sum(before[2:4])
            console.print(f"{name:<32} {wall:6.1f} s  ({cpu:.1f} CPU-s)")


if __name__ == "__main__":
    main()
