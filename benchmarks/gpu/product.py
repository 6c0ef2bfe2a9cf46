"""The product's side: its own ``fit`` on its own batches, on the JAX backend of Keras."""

import time
from importlib.metadata import version
from typing import Any

import jax
import keras
import numpy as np

from benchmarks.gpu import task
from benchmarks.gpu.task import Task
from lenet5.core.dataset import Split
from lenet5.stages.train.fit import fit


def main() -> None:
    assert keras.backend.backend() == "jax", "KERAS_BACKEND must be jax before Keras is imported"
    data = task.load()
    test_images, test_labels = data.test.images, data.test.labels.argmax(axis=1)

    def train(wanted: Task) -> dict[str, Any]:
        clock = _Clock(test_images, test_labels)
        images, labels = data.train.images[: wanted.images], data.train.labels[: wanted.images]
        fit(
            Split(images, labels),
            data.validation,
            wanted.recipe(),
            on_epoch=lambda epoch, metrics: None,
            callbacks=[clock],
        )
        return {"images": len(images), "epochs": clock.epochs}

    versions = {name: version(name) for name in ("jax", "jaxlib", "keras", "numpy")}
    task.serve({"device": jax.devices()[0].device_kind, "versions": versions}, train)


class _Clock(keras.callbacks.Callback):
    """The seconds of each epoch's steps, without validation, and the test accuracy after it."""

    def __init__(self, images: Any, labels: Any) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []
        self._images, self._labels = images, labels
        self._began = self._ended = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._began = time.perf_counter()

    def on_test_begin(self, logs: object = None) -> None:  # after the last step, whose loss was read
        self._ended = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        scores = np.asarray(self.model.predict_on_batch(self._images))
        accuracy = float((scores.argmax(axis=1) == self._labels).mean())
        self.epochs.append({"seconds": self._ended - self._began, "test_accuracy": accuracy})


if __name__ == "__main__":
    main()
