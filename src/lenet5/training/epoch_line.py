"""The line that a training prints after each epoch, and the figures in it.

A flow reads the line from the output of the stage, so progress comes in the same way from a child process and
from a worker on another machine.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_LINE = re.compile(r"epoch (?P<number>\d+)/(?P<total>\d+)  (?P<metrics>\w+ \S+( \w+ \S+)*)")


@dataclass(frozen=True)
class EpochLine:
    """One finished epoch."""

    number: int
    """From 1."""
    total: int
    metrics: Mapping[str, float]
    """Keras' names, such as ``loss`` and ``val_accuracy``."""

    def __str__(self) -> str:
        metrics = " ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"epoch {self.number}/{self.total}  {metrics}"

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Return the epoch that a line reports, rounded as in the line; None if the line reports none."""
        if (match := _LINE.fullmatch(line)) is None:
            return None
        words = match["metrics"].split()
        try:
            metrics = dict(zip(words[::2], map(float, words[1::2]), strict=True))
        except ValueError:
            return None
        return cls(int(match["number"]), int(match["total"]), metrics)

    @property
    def accuracy(self) -> float | None:
        """Return the accuracy on the validation images, else on the training images, as a share."""
        return self.metrics.get("val_accuracy", self.metrics.get("accuracy"))
