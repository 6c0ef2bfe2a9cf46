"""One stage in a process of its own, for whoever looks at it from outside.

    python -m benchmarks.one_stage ROOT STAGE       what `lenet5 STAGE` does in the project ROOT
    python -m benchmarks.one_stage ROOT in-memory   what ``train`` does, with 55,000 images in memory

Both trainings write the rate of their epochs to ROOT/rate.json.
"""

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lenet5 import files, params, settings
from lenet5.dataset import Split
from lenet5.params import Params
from lenet5.paths import Paths
from lenet5.terminal import quiet_libraries

RATE = "rate.json"
IN_MEMORY = "in-memory"
_IMAGES = 55_000
_EPOCHS = 3


def main(root: Path, stage: str) -> None:
    paths = Paths(root)
    settings.apply(paths)
    everything = params.load(paths.params)
    if stage == IN_MEMORY:
        _train_in_memory(paths, everything)
        return
    with quiet_libraries():
        door: Any = importlib.import_module(f"lenet5.{stage}.stage")
    if stage == "train":
        clock, fit = _clock(), door.fit
        door.fit = lambda *arrays, callbacks, **how: fit(*arrays, callbacks=[*callbacks, clock], **how)
    door.run(paths, everything.section(stage))
    if stage == "train":
        _write(paths, everything, clock)


def _train_in_memory(paths: Paths, everything: Params) -> None:
    with quiet_libraries():
        from lenet5 import backend
        from lenet5.train.fit import fit
    recipe = everything.section("train").model_copy(update={"epochs": _EPOCHS})
    backend.use_threads(recipe.threads)
    # not by `dataset.load`, which reads all of it
    images, labels = (
        np.array(np.load(paths.processed / "train" / f"{name}.npy", mmap_mode="r")[:_IMAGES])
        for name in ("images", "labels")
    )
    clock = _clock()
    few = Split(images[:1000], labels[:1000])
    fit(Split(images, labels), few, recipe, on_epoch=lambda epoch, metrics: None, callbacks=[clock])
    _write(paths, everything, clock)


def _write(paths: Paths, everything: Params, clock: Any) -> None:
    files.write_json(paths.root / RATE, clock.rate(everything.section("train").batch_size))


def _clock() -> Any:
    import keras

    class Clock(keras.callbacks.Callback):
        """When each epoch's first and last calls into the compiled graph came back."""

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[list[tuple[int, float]]] = []

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.epochs.append([])

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.epochs[-1].append((batch, time.perf_counter()))

        def rate(self, batch_size: int) -> float:
            """Images a second: the median of the epochs, each without its first call, which compiles."""
            rates = []
            for (first, began), *_, (last, ended) in self.epochs:
                rates.append((last - first) * batch_size / (ended - began))
            return float(np.median(rates))

    return Clock()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
