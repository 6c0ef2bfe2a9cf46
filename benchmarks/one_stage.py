"""One stage in a process of its own, for whoever looks at it from outside.

    python -m benchmarks.one_stage ROOT STAGE       what `lenet5 STAGE` does in the project ROOT
    python -m benchmarks.one_stage ROOT in-memory   the same as train, but with 55,000 of the images in memory

The last line that either training prints is the rate of its epochs, in images a second.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lenet5 import params, settings
from lenet5.dataset import Split
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import quiet_libraries

IN_MEMORY = "in-memory"
_IMAGES = 55_000
_EPOCHS = 3  # of so few images


def main(root: Path, stage: str) -> None:
    paths = Paths(root)
    settings.apply(paths)
    name = "train" if stage == IN_MEMORY else stage
    section = params.load(paths.params).section(name)
    with quiet_libraries(), settings.lean_keras(for_training=name == "train"):
        door: Any = importlib.import_module(f"lenet5.{name}.stage")
        member: Any = importlib.import_module("lenet5.train.member") if name == "train" else None
    if name != "train":
        door.run(paths, section)
        return
    clock, fit = _clock(), member.fit

    def timed(train: Split, validation: Split, recipe: Train, *, callbacks: list[Any], **how: Any) -> Any:
        if stage == IN_MEMORY:
            train = Split(np.array(train.images[:_IMAGES]), np.array(train.labels[:_IMAGES]))
            recipe = recipe.model_copy(update={"epochs": _EPOCHS})
        return fit(train, validation, recipe, callbacks=[*callbacks, clock], **how)

    member.fit = timed
    door.run(paths, section)
    print(json.dumps(clock.rate(section.batch_size)))


def _clock() -> Any:
    import keras

    class Clock(keras.callbacks.Callback):
        """When each epoch's calls into the compiled graph came back."""

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[list[tuple[int, float]]] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.epochs.append([])

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.epochs[-1].append((batch, time.perf_counter()))

        def rate(self, batch_size: int) -> float:
            """Images a second: the median of the epochs, each without its first call, which may compile."""
            rates = []
            for (first, began), *_, (last, ended) in self.epochs:
                rates.append((last - first) * batch_size / (ended - began))
            return float(np.median(rates))

    return Clock()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
