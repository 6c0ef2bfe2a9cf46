"""The stage `train` of the project in the working directory, with a clock; it prints images per second.

``python -m benchmarks.one_training``              the training of `lenet5 train`
``python -m benchmarks.one_training --in-memory``  the same with 55,000 of the images, which are in memory
"""

import argparse
import json
import time
from contextlib import nullcontext
from typing import Any

import numpy as np

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages import params
from lenet5.system import settings

_IMAGES, _EPOCHS = 55_000, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--in-memory", action="store_true")
    arguments = parser.parse_args()
    paths = Paths.find()
    settings.apply(paths)
    section = params.load(paths.params).train
    with quiet_libraries(), engine.lean_keras():
        from lenet5.model import backend
        from lenet5.stages.train import stage
        from lenet5.stages.train.fit import fit
    clock = _clock()
    if arguments.in_memory:
        backend.configure(section.threads)
        splits = dataset.load(paths.processed).splits
        some = Split(np.array(splits["train"].images[:_IMAGES]), np.array(splits["train"].labels[:_IMAGES]))
        short = section.model_copy(update={"epochs": _EPOCHS})
        fit(some, splits["validation"], short, on_epoch=lambda epoch, metrics: None, callbacks=[clock])
    else:
        stage.run(paths, section, observe=lambda training: nullcontext(stage.Observers(callbacks=[clock])))
    from lenet5.stages.train.fit import takes_fused_step

    steps = section.steps_per_execution if takes_fused_step() else 1
    print(json.dumps(clock.rate(section.batch_size * steps)))


def _clock() -> Any:
    import keras

    class Clock(keras.callbacks.Callback):
        """The time at which each call into the compiled graph returned."""

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[list[tuple[int, float]]] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.epochs.append([])

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.epochs[-1].append((batch, time.perf_counter()))

        def rate(self, batch_size: int) -> float:
            """Images per second: the median of the epochs, each without its first call, which may compile,
            and its last two, which may have fewer images.

            Args:
                batch_size: images in what Keras counts as a batch.
            """
            return float(
                np.median(
                    [
                        (last - first) * batch_size / (ended - began)
                        for (first, began), *_, (last, ended), _, _ in self.epochs
                    ]
                )
            )

    return Clock()


if __name__ == "__main__":
    main()
