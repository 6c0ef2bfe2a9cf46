"""Test accuracy of the recipe in ``params.yaml`` over several seeds: ``python -m benchmarks.accuracy``.

The same code as the stages run, on the data that `dvc repro preprocess` left; nothing is registered.
"""

import time
from typing import Annotated

import pandas as pd
import typer

from lenet5 import dataset, params, settings
from lenet5.paths import Paths
from lenet5.terminal import console, quiet_libraries


def main(seeds: Annotated[int, typer.Option(help="How many trainings.")] = 5) -> None:
    """Train once for each seed and print every result, the mean and the minimum."""
    paths = Paths.find()
    settings.apply(paths)
    recipe = params.load(paths.params).train
    processed, raw = dataset.load(paths.processed), dataset.load(paths.raw)
    test = raw.splits["test"]
    with quiet_libraries():
        from lenet5 import backend
        from lenet5.evaluate.metrics import probabilities
        from lenet5.train.fit import fit
        from lenet5.train.model import with_preprocessing
    backend.use_threads(recipe.threads)
    rows = []
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
        answers = probabilities(model, test.images, batch_size=1000)
        rows.append(
            {
                "seed": seed,
                "epochs": len(history),
                "validation accuracy": history["val_accuracy"].max(),
                "test accuracy": (answers.argmax(axis=1) == test.labels).mean(),
                "fit (s)": seconds,
            }
        )
        console.print(" ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()))
    table = pd.DataFrame(rows).set_index("seed")
    console.print(table.agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    typer.run(main)
