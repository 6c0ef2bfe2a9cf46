"""The product's own training, through its own code, on its own processed data, with a recipe.

What ``lenet5 train`` does but for MLflow and TensorBoard. To show what a setting buys, one can be taken away.
"""

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.contestants.program import Epochs, Stopwatch, answer, options, time_saving
from benchmarks.recipes import DEFAULT, recipe
from benchmarks.scored import correct
from lenet5.core import dataset
from lenet5.core.dataset import Dataset, Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages.train.params import Train
from lenet5.system import settings


def main() -> None:
    wanted = _options()
    paths = Paths.find()
    for name, value in wanted.engine:
        engine.ENGINE_FLAGS.pop(name, None)
        os.environ.pop(name, None)
        if value:
            engine.ENGINE_FLAGS[name] = value
    settings.apply(paths)
    params = recipe(paths, wanted.recipe, {**dict(wanted.set), "train.seed": wanted.seed}).train
    watch = Stopwatch()
    with quiet_libraries(), engine.lean_keras(for_training=True):
        import keras

        from lenet5.model import backend
        from lenet5.stages.train.fit import fit
    watch.lap("import")
    backend.use_threads(params.threads)
    if wanted.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    if wanted.decay_all:
        keras.optimizers.AdamW.exclude_from_weight_decay = lambda *wanted, **others: None
    if wanted.jit:
        keras.Sequential.compile = functools.partialmethod(keras.Sequential.compile, jit_compile=True)
    processed = dataset.load(paths.processed)
    train, validation = processed.splits["train"], processed.splits["validation"]
    watch.lap("data")

    if wanted.what == "fixed":
        _fixed(watch, processed, params)
        return

    train = Split(train.images[: wanted.images], train.labels[: wanted.images])
    if wanted.what == "rate":
        train = Split(train.images.astype(wanted.dtype), train.labels)
        few = wanted.validation_images
        validation = Split(validation.images[:few], validation.labels[:few])
    epochs = Epochs()
    started = time.perf_counter()
    network, history = fit(
        train, validation, params, on_epoch=lambda number, metrics: epochs.end(), callbacks=_callbacks(wanted)
    )
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "fit_s": seconds,
        "import_s": watch.laps["import"],
        "weights": network.count_params(),
        "epochs": epochs.rows,
    }
    if wanted.what == "rate":
        facts |= epochs.steady(len(train.images))
    else:
        test = dataset.load(paths.raw).splits["test"]
        facts["test_accuracy"] = float(correct(network, processed.manifest.padding, test).mean())
        facts["validation_accuracy"] = float(history["val_accuracy"].max())
    answer(**facts)


def _fixed(watch: Stopwatch, processed: Dataset, params: Train) -> None:
    from lenet5.model import keras_file, network
    from lenet5.stages.train import optimizer

    some = processed.splits["train"]
    images, labels = np.asarray(some.images[: params.batch_size]), some.labels[: params.batch_size]
    _, height, width, _ = images.shape
    model = network.build(height, width, params.kernel_size)
    model.compile(optimizer.build(params, steps=100), "categorical_crossentropy")
    watch.lap("build")
    model.train_on_batch(images, labels)
    watch.lap("first step")
    padding = processed.manifest.padding
    time_saving(
        watch,
        "model.keras",
        lambda file: keras_file.save(network.with_preprocessing(model, padding), file),
        keras_file.load,
    )


def _callbacks(wanted: argparse.Namespace) -> Sequence[Any]:
    if not wanted.tensorboard:
        return ()
    import keras

    return [keras.callbacks.TensorBoard(tempfile.mkdtemp(), write_graph=False)]


def _options() -> argparse.Namespace:
    parser = options()
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--set", action="append", default=[], type=_override, metavar="NAME=VALUE")
    # what the product never does, to show why
    parser.add_argument("--engine", action="append", default=[], type=_pair, metavar="VARIABLE=VALUE")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--decay-all", action="store_true")
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("--validation-images", type=int, default=10)
    return parser.parse_args()


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _override(text: str) -> tuple[str, Any]:
    name, value = _pair(text)
    return name, json.loads(value)


if __name__ == "__main__":
    main()
