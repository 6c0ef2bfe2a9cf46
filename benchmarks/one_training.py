"""The stage `train` of the project in the working directory, with a clock; it prints images per second.

``python -m benchmarks.one_training``              the training of `lenet5 train`
``python -m benchmarks.one_training --in-memory``  the same with 55,000 of the images, which are in memory
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from lenet5 import params, settings
from lenet5.dataset import Split
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import quiet_libraries

_IMAGES, _EPOCHS = 55_000, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--in-memory", action="store_true")
    arguments = parser.parse_args()
    paths = Paths.find()
    settings.apply(paths)
    section = params.load(paths.params).train
    with quiet_libraries(), settings.lean_keras(for_training=True):
        from lenet5.train import member, stage
    clock = _clock(section.batch_size)
    _add_to_fit(member, clock, in_memory=arguments.in_memory)
    stage.run(paths, section)
    print(json.dumps(float(np.median(clock.rates))))


def _add_to_fit(member: Any, clock: Any, *, in_memory: bool) -> None:
    """Replace the module's ``fit`` by one with a clock: the stage does not take callbacks."""
    fit = member.fit

    def timed(train: Split, validation: Split, recipe: Train, *, callbacks: list[Any], **others: Any) -> Any:
        if in_memory:
            train = Split(np.array(train.images[:_IMAGES]), np.array(train.labels[:_IMAGES]))
            recipe = recipe.model_copy(update={"epochs": _EPOCHS})
        return fit(train, validation, recipe, callbacks=[*callbacks, clock], **others)

    member.fit = timed


def _clock(batch_size: int) -> Any:
    import keras

    class Clock(keras.callbacks.Callback):
        """Images per second of each epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.rates: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.calls: list[tuple[int, float]] = []

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.calls.append((batch, time.perf_counter()))

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            (first, began), *_, (last, ended) = self.calls  # the first call may compile
            self.rates.append((last - first) * batch_size / (ended - began))

    return Clock()


if __name__ == "__main__":
    main()
