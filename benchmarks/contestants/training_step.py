"""The CPU time of the training step with and without one measure, in turns in one process.

A turn takes less than half a second, so that a slow minute of the machine slows every variant down.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

from benchmarks.contestants.program import answer
from benchmarks.training import DEFAULT, recipe
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages.train.params import Train
from lenet5.system import settings

ITEMS = 4
"""Calls of the step in one turn."""
Step = Callable[..., dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    paths = Paths.find()
    settings.apply(paths)
    changed = {"train.batch_size": arguments.batch_size, "train.seed": arguments.seed}
    params = recipe(paths, DEFAULT, changed).train
    with quiet_libraries(), engine.lean_keras():
        import tensorflow as tf

        from lenet5.model import backend
        from lenet5.stages.train import fused
    backend.configure(params.threads)
    train = dataset.load(paths.processed).splits["train"]
    size = params.batch_size * params.steps_per_execution
    items = [
        tuple(tf.constant(array[start : start + size]) for array in (train.images, train.labels))
        for start in range(0, ITEMS * size, size)
    ]
    changes: dict[str, AbstractContextManager[Any]] = {
        "product": nullcontext(),
        "own_update": mock.patch.object(fused, "update", lambda optimizer, *of: optimizer.apply(*of)),
        "early_relu": mock.patch.object(fused, "_is_before_maximum", return_value=False),
    }
    steps: dict[str, Step] = {}
    for name, change in changes.items():
        with change:
            steps[name] = _traced(params, items[0])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.turns):
        for name, step in steps.items():
            began = time.process_time()
            for item in items:
                metrics = step(*item)
            float(metrics["loss"])  # waits for the result
            seconds[name].append(time.process_time() - began)
    answer(**{name: 1e6 * statistics.median(each) / (ITEMS * size) for name, each in seconds.items()})


def _traced(params: Train, item: tuple[Any, ...]) -> Step:
    """Return the compiled training step of a new network, which took one call already."""
    import keras
    import tensorflow as tf

    from lenet5.stages.train.fit import compile_model, untrained_network
    from lenet5.stages.train.fused import FusedSequential

    keras.utils.set_random_seed(params.seed)
    images, labels = item
    network = untrained_network(tuple(images.shape[1:]), labels.shape[1], params)
    model = FusedSequential(network, params.batch_size)
    compile_model(model, params, steps=10_000)
    step: Step = tf.function(lambda *of: model.train_step(of))
    step(*item)
    return step


if __name__ == "__main__":
    main()
