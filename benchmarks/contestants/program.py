"""What the programs share: their options, the digits, the answer. It needs NumPy alone."""

import argparse
import json
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
    """The digits as the product's first stage writes them, or only the first ``images`` to train on."""

    def array(split: str, name: str) -> Array:
        return np.load(RAW / split / f"{name}.npy")

    return Digits(
        array("train", "images")[:images],
        array("train", "labels")[:images],
        array("test", "images"),
        array("test", "labels"),
    )


def options() -> argparse.ArgumentParser:
    """The options of every training program. A program may add to them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("train", "rate"), help="rate: no test images between the epochs")
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--until", type=float, help="end after the first epoch with this test accuracy")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, help="the number of images to train on; all by default")
    return parser


def override(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, with a value in JSON: the dotted name of a parameter, and its value."""
    name, _, value = text.partition("=")
    return name, json.loads(value)


def train(
    arguments: argparse.Namespace,
    images: int,
    weights: int,
    epoch: Callable[[], object],
    accuracy: Callable[[], float],
) -> None:
    """Train with a peer's own epoch, until the arguments say that it is enough, and answer.

    Args:
        arguments: of :func:`options`.
        images: of an epoch.
        weights: of the model.
        epoch: trains all images once.
        accuracy: scores the test images.
    """
    epochs = Epochs()
    for _ in range(arguments.epochs):
        epoch()
        metrics = {} if arguments.mode == "rate" else {"test_accuracy": accuracy()}
        epochs.end(**metrics)
        if metrics and arguments.until and metrics["test_accuracy"] >= arguments.until:
            break
    answer(weights=weights, **epochs.facts(images))


def answer(**facts: Any) -> None:
    """Print the measurement."""
    print(json.dumps(facts))


class Epochs:
    """The time of each epoch, and its metrics."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._cpu: list[float] = []
        self.rows: list[dict[str, float]] = []

    def end(self, **metrics: float) -> None:
        """Record the end of an epoch; the next one begins now."""
        now = time.perf_counter()
        self.rows.append({"seconds": now - self._last, **metrics})
        self._last = now
        self._cpu.append(time.process_time())

    def cpu(self, images: int) -> dict[str, float]:
        """CPU time per image in microseconds, of all threads, without the first epoch, which compiles."""
        if len(self._cpu) < 2:
            return {}
        return {"cpu_us_per_image": (self._cpu[-1] - self._cpu[0]) / images / (len(self._cpu) - 1) * 1e6}

    def facts(self, images: int) -> dict[str, Any]:
        """The whole training, each epoch, and the rate without the first epoch, which compiles."""
        facts: dict[str, Any] = {"fit_s": time.perf_counter() - self._began, "epochs": self.rows}
        if rows := self.rows[1:]:
            facts["images_per_s"] = images * len(rows) / sum(row["seconds"] for row in rows)
        return facts
