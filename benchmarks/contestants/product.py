"""The product's own training on its own processed data: ``lenet5 train`` without MLflow and TensorBoard.

``--without`` takes one measure out of the training, for the part `ablation`.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.contestants.program import Epochs, answer, options, override
from benchmarks.training import DEFAULT, correct, recipe
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.system import settings


def _without_fused_step() -> None:
    from lenet5.stages.train import fit

    fit.takes_fused_step = lambda: False


def _without_own_thread() -> None:
    import tensorflow as tf

    from lenet5.stages.train import fused
    from lenet5.stages.train.batches import Batches, ValidationBatches, endless

    @contextmanager
    def from_generator(batches: Batches | ValidationBatches, split: Split) -> Iterator[tf.data.Dataset]:
        arrays = (split.images, split.labels)
        signature = tuple(tf.TensorSpec((None, *array.shape[1:]), tf.float32) for array in arrays)
        options = tf.data.Options()
        options.autotune.enabled = False
        items = tf.data.Dataset.from_generator(partial(endless, batches), output_signature=signature)
        yield items.prefetch(2).with_options(options)

    fused.drawn_ahead = from_generator


WITHOUT = {
    "fused-step": _without_fused_step,
    "own-thread": _without_own_thread,
}


def main() -> None:
    arguments = _arguments()
    paths = Paths.find()
    settings.apply(paths)
    overrides = {**dict(arguments.set), "train.seed": arguments.seed}
    params = recipe(paths, arguments.recipe, overrides).train
    with quiet_libraries(), engine.lean_keras():
        from lenet5.model import backend
        from lenet5.stages.train.fit import fit
    backend.configure(params.threads)
    processed = dataset.load(paths.processed)
    train, validation = processed.splits["train"], processed.splits["validation"]
    train = Split(train.images[: arguments.images], train.labels[: arguments.images])
    if arguments.mode == "rate":  # so few that they take no time
        validation = Split(validation.images[:10], validation.labels[:10])
    if arguments.without:
        WITHOUT[arguments.without]()
    epochs = Epochs()
    network, _ = fit(train, validation, params, on_epoch=lambda epoch, metrics: epochs.end())
    facts = epochs.facts(len(train.images))
    if arguments.mode == "train":
        test = dataset.load(paths.raw).splits["test"]
        facts["test_accuracy"] = float(correct(network, processed.manifest.padding, test).mean())
    answer(weights=network.count_params(), **facts, **epochs.cpu(len(train.images)))


def _arguments() -> argparse.Namespace:
    parser = options()
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--without", choices=WITHOUT)
    parser.add_argument("--set", action="append", default=[], type=override, metavar="NAME=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
