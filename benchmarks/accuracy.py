"""Test accuracy of the recipes alone over seeds: ``python -m benchmarks accuracy --seeds 20``.

The part ``time`` has the same lines for its own seeds.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks import time_to_accuracy
from benchmarks.bench import Bench
from benchmarks.results import Line, Verdict
from benchmarks.scored import correct
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.stages.train.params import Train


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    return time_to_accuracy.accuracies(bench.take_turns(time_to_accuracy.recipes(bench))), []


def correct_by_seed(paths: Paths, recipe: Train, seeds: int) -> list[NDArray[np.bool_]]:
    """Train once for each seed: which test images that model reads right, bool (N,)."""
    processed, test = dataset.load(paths.processed), dataset.load(paths.raw).splits["test"]
    with quiet_libraries():
        from lenet5.model import backend
        from lenet5.stages.train.fit import fit
    backend.use_threads(recipe.threads)

    def score(seed: int) -> NDArray[np.bool_]:
        network, _ = fit(
            processed.splits["train"],
            processed.splits["validation"],
            recipe.model_copy(update={"seed": seed}),
            on_epoch=lambda epoch, metrics: None,
        )
        return correct(network, processed.manifest.padding, test)

    return [score(seed) for seed in range(recipe.seed, recipe.seed + seeds)]
