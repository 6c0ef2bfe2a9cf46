"""Test accuracy of the recipe in ``params.yaml`` over several seeds: ``python -m benchmarks.accuracy``.

The same code as the stages run, on the data that `dvc repro preprocess` left; nothing is registered.
"""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from lenet5 import dataset, params, settings
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import console, quiet_libraries


def main(seeds: Annotated[int, typer.Option(help="How many trainings.")] = 5) -> None:
    """Train once for each seed and print every result, the mean and the minimum."""
    paths = Paths.find()
    settings.apply(paths)
    rows = []
    for row, _ in _trainings(paths, params.load(paths.params).train, seeds):
        rows.append(row)
        console.print(" ".join(f"{name} {value:.4g}" for name, value in row.items()))
    table = pd.DataFrame(rows).set_index("seed")
    console.print(table.agg(["mean", "min", "max"]).round(4).to_string())


def correct_by_seed(paths: Paths, recipe: Train, seeds: int) -> list[NDArray[np.bool_]]:
    """For each seed, which test images its model reads right: bool (N,)."""
    return [correct for _, correct in _trainings(paths, recipe, seeds)]


def _trainings(paths: Paths, recipe: Train, seeds: int) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_]]]:
    processed, raw = dataset.load(paths.processed), dataset.load(paths.raw)
    test = raw.splits["test"]
    with quiet_libraries():
        from lenet5 import backend
        from lenet5.evaluate.metrics import probabilities
        from lenet5.train.fit import fit
        from lenet5.train.model import with_preprocessing
    backend.use_threads(recipe.threads)
    for seed in range(recipe.seed, recipe.seed + seeds):
        started = time.perf_counter()
        network, history = fit(
            processed.splits["train"],
            processed.splits["validation"],
            recipe.model_copy(update={"seed": seed}),
            on_epoch=lambda epoch, metrics: None,
        )
        seconds = time.perf_counter() - started
        model = with_preprocessing(network, processed.manifest.padding)
        correct = probabilities(model, test.images, batch_size=1000).argmax(axis=1) == test.labels
        row = {
            "seed": seed,
            "epochs": len(history),
            "validation accuracy": history["val_accuracy"].max(),
            "test accuracy": correct.mean(),
            "fit (s)": seconds,
        }
        yield row, correct


if __name__ == "__main__":
    typer.run(main)
