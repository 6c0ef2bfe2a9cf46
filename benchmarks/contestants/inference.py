"""One way to ask the model: seconds to load it, microseconds an image, images a second."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.program import Array, Stopwatch, answer

BATCHES = (64, 1000)
"""Images a call."""
Ask = Callable[..., Any]
"""uint8 (N, 28, 28) → float32 (N, 10); what makes batches itself is told their size."""
BATCHES_ITSELF = ("predict", "pyfunc")


def keras_model(folder: Path, threads: int) -> Any:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return keras.saving.load_model(folder / "model.keras", compile=False)


def predict(folder: Path, threads: int) -> Ask:
    model = keras_model(folder, threads)
    return lambda images, batch_size=32: model.predict(images, batch_size=batch_size, verbose=0)


def predict_on_batch(folder: Path, threads: int) -> Ask:
    return keras_model(folder, threads).predict_on_batch


def call(folder: Path, threads: int) -> Ask:
    model = keras_model(folder, threads)
    return lambda images: np.asarray(model(images))


def pyfunc(folder: Path, threads: int) -> Ask:
    import mlflow
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = mlflow.pyfunc.load_model(str(folder / "pyfunc"))
    return lambda images, batch_size=32: loaded.predict(images)  # its own size: Keras' 32


def onnxruntime(folder: Path, threads: int) -> Ask:
    from lenet5.model import onnx_session

    content = (folder / "model.onnx").read_bytes()
    if threads == 1:
        session = onnx_session.load(content)  # as the product has it
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([onnx_session.PROBABILITIES], {onnx_session.PIXELS: images})[0]


def litert(folder: Path, threads: int) -> Ask:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=threads)
    asked, said = (
        end()[0]["index"] for end in (interpreter.get_input_details, interpreter.get_output_details)
    )
    shape: tuple[int, ...] = ()

    def ask(images: Array) -> Array:
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(asked, images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(asked, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(said))

    return ask


WAYS = {way.__name__: way for way in (predict, predict_on_batch, call, pyfunc, onnxruntime, litert)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    wanted = parser.parse_args()
    images = np.load(wanted.folder / "images.npy")
    watch = Stopwatch()
    ask = WAYS[wanted.way](wanted.folder, wanted.threads)
    watch.lap("ready")
    ask(images[:1])
    watch.lap("first")

    each: list[float] = []
    end = time.perf_counter() + wanted.seconds
    while time.perf_counter() < end:
        at = len(each) % len(images)
        started = time.perf_counter()
        ask(images[at : at + 1])
        each.append(time.perf_counter() - started)
    each = each[len(each) // 10 :]  # the first are slower: caches

    rates = {}
    for size in BATCHES:
        passes = []
        for _ in range(4):
            started = time.perf_counter()
            if wanted.way in BATCHES_ITSELF:
                ask(images, batch_size=size)
            else:
                for at in range(0, len(images), size):
                    ask(images[at : at + size])
            passes.append(time.perf_counter() - started)
        # the first one traces or allocates
        rates[f"images_per_s_{size}"] = len(images) / statistics.median(passes[1:])
    answer(
        ready_s=watch.laps["ready"],
        first_s=watch.laps["first"],
        one_us=1e6 * statistics.median(each),
        one_99_us=1e6 * float(np.quantile(each, 0.99)),
        **rates,
    )


if __name__ == "__main__":
    main()
