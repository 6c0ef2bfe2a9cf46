"""One way to get answers from the model that `dvc repro` left: µs for one image, images per second."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contestants.program import Array, answer, digits
from lenet5.core.paths import Paths
from lenet5.model import onnx_session

Predict = Callable[[Array], Any]
"""uint8 (N, 28, 28) → float32 (N, 10)."""


def keras(paths: Paths, batch_size: int) -> Predict:
    """Keras' ``predict``, which makes batches itself."""
    model = _keras_model(paths)
    return lambda images: model.predict(images, batch_size=batch_size, verbose=0)


def keras_on_batch(paths: Paths, batch_size: int) -> Predict:
    predict = _keras_model(paths).predict_on_batch
    return lambda images: [predict(images[at : at + batch_size]) for at in range(0, len(images), batch_size)]


def onnxruntime(paths: Paths, batch_size: int) -> Predict:
    session = onnx_session.load(paths.onnx.read_bytes())
    return lambda images: onnx_session.probabilities(session, images, batch_size)


WAYS = {way.__name__: way for way in (keras, keras_on_batch, onnxruntime)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--seconds", type=float, default=1.0, help="of calls with one image")
    parser.add_argument("--seed", type=int, help="ignored: nothing is random here")
    arguments = parser.parse_args()
    images = digits().test_images
    way, paths = WAYS[arguments.way], Paths.find()

    predict = way(paths, 1)
    predict(images[:1])
    singles: list[float] = []
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        at = len(singles) % len(images)
        singles.append(_seconds(predict, images[at : at + 1]))
    singles = singles[len(singles) // 10 :]  # caches fill during the first ones

    rates = {}
    for size in (64, 1000):
        predict = way(paths, size)
        passes = [_seconds(predict, images) for _ in range(4)]
        # the first pass traces or allocates
        rates[f"images_per_s_{size}"] = len(images) / statistics.median(passes[1:])
    answer(one_us=1e6 * statistics.median(singles), **rates)


def _seconds(predict: Predict, images: Array) -> float:
    started = time.perf_counter()
    predict(images)
    return time.perf_counter() - started


def _keras_model(paths: Paths) -> Any:
    import keras
    import tensorflow as tf

    if not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return keras.saving.load_model(paths.model, compile=False)


if __name__ == "__main__":
    main()
