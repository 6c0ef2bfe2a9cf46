"""What the programs share: their options, the digits, the answer. Standard library and NumPy alone."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RAW = Path("data/raw")


@dataclass(frozen=True)
class Digits:
    """Raw pixels, uint8 (N, 28, 28), and labels, uint8 (N,)."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def digits(images: int | None = None) -> Digits:
    """The digits as the product's first stage leaves them, or the first ``images`` of the train ones."""

    def array(split: str, name: str) -> Array:
        return np.load(RAW / split / f"{name}.npy")

    return Digits(
        array("train", "images")[:images],
        array("train", "labels")[:images],
        array("test", "images"),
        array("test", "labels"),
    )


def options() -> argparse.ArgumentParser:
    """What every trainer understands. A program may add to it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("train", "rate", "fixed"))
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--until", type=float, help="end after the first epoch with this test accuracy")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, help="so many of the train images; else all")
    return parser


def time_saving(
    watch: "Stopwatch", name: str, save: Callable[[Path], object], load: Callable[[Path], object]
) -> None:
    """The last of the fixed costs: a file of this name is saved and loaded again; then all laps are told."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        watch.lap("save")
        load(Path(folder) / name)
        watch.lap("load")
    answer(**watch.laps)


def answer(**facts: Any) -> None:
    """Print what the benchmark reads."""
    print(json.dumps(facts))


class Epochs:
    """When each epoch ended, and what it reached."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.rows: list[dict[str, float]] = []

    def end(self, **metrics: float) -> None:
        """An epoch has just ended; the next begins now."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.rows.append({"seconds": wall - self._wall, "cpu_s": cpu - self._cpu, **metrics})
        self._wall, self._cpu = wall, cpu

    @property
    def seconds(self) -> float:
        """Of all epochs together."""
        return sum(row["seconds"] for row in self.rows)

    def steady(self, images: int) -> dict[str, float]:
        """Images a second, and CPU-microseconds an image, without the first epoch: it compiles."""
        rows = self.rows[1:]
        seen = images * len(rows)
        return {
            "images_per_s": seen / sum(row["seconds"] for row in rows),
            "cpu_us_per_image": 1e6 * sum(row["cpu_s"] for row in rows) / seen,
        }


class Stopwatch:
    """Seconds by name: ``lap("import")`` is what passed since the lap before."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
