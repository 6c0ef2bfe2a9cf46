"""One stage in a process of its own, for whoever looks at it from outside.

    python -m benchmarks.one_stage ROOT STAGE       what `lenet5 STAGE` does in the project ROOT
    python -m benchmarks.one_stage ROOT in-memory   the same as train, but with 55,000 of the images in memory

The last line that either training prints is the rate of its epochs, in images a second.
"""

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages import params
from lenet5.stages.ingest import stage as ingest
from lenet5.stages.preprocess import stage as preprocess
from lenet5.stages.register import stage as register
from lenet5.stages.train.params import Train
from lenet5.stages.validate import stage as validate
from lenet5.system import settings

IN_MEMORY = "in-memory"
_IMAGES = 55_000
_EPOCHS = 3  # of so few images


def main(root: Path, stage: str) -> None:
    paths = Paths(root)
    settings.apply(paths)
    everything = params.load(paths.params)
    if stage in ("train", IN_MEMORY):
        _train(paths, everything.train, in_memory=stage == IN_MEMORY)
    elif stage == "ingest":
        ingest.run(paths, everything.ingest)
    elif stage == "validate":
        validate.run(paths, everything.validate_)
    elif stage == "preprocess":
        preprocess.run(paths, everything.preprocess)
    elif stage == "evaluate":
        from lenet5.stages.evaluate import stage as evaluate

        evaluate.run(paths, everything.evaluate)
    else:
        register.run(paths, everything.register_, everything.flat())


def _train(paths: Paths, recipe: Train, *, in_memory: bool) -> None:
    with quiet_libraries(), engine.lean_keras(for_training=True):
        from lenet5.model import backend
        from lenet5.stages.train import stage as train
        from lenet5.stages.train.fit import fit

    clock = _clock()
    if in_memory:
        backend.use_threads(recipe.threads)
        splits = dataset.load(paths.processed).splits
        some = Split(np.array(splits["train"].images[:_IMAGES]), np.array(splits["train"].labels[:_IMAGES]))
        short = recipe.model_copy(update={"epochs": _EPOCHS})
        fit(some, splits["validation"], short, on_epoch=lambda epoch, metrics: None, callbacks=[clock])
    else:
        train.run(paths, recipe, observe=lambda training: nullcontext(train.Observers(callbacks=[clock])))
    print(json.dumps(clock.rate(recipe.batch_size)))


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
