"""Compare LeNet-5 with an MLP on changed digits: ``python -m benchmarks.baseline``.

It trains ``params.yaml`` and the recipe ``mlp`` with several seeds, scores each model on moved, rotated and
corrupted test images, and writes the table of docs/lenet5.md.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import typer
from rich.progress import track
from scipy.ndimage import rotate

from benchmarks import command, report
from benchmarks.bench import ROOT
from benchmarks.contestants.robustness import on_mnist_c, trained
from benchmarks.readme import replaced
from benchmarks.training import DEFAULT, recipe
from lenet5.core import dataset, files
from lenet5.core.dataset import Array, Split
from lenet5.core.paths import Paths
from lenet5.images.corruptions.scoring import Scorer
from lenet5.images.operations import pad
from lenet5.stages.params import Params
from lenet5.system import settings
from lenet5.system.terminal import console

NETWORKS = {"LeNet-5": DEFAULT, "MLP": "mlp"}
"""Recipes by the name in the table."""
CORRUPTED = "mean of 15 corruptions"
Change = Callable[[Array], Array]


def moved(down: int, right: int) -> Change:
    """Move images; the pixels that leave at one side are lost, and zeros enter at the other."""
    most = max(abs(down), abs(right))

    def change(images: Array) -> Array:
        _, height, width = images.shape
        return pad(images, most)[:, most - down :, most - right :][:, :height, :width]

    return change


def turned(degrees: float) -> Change:
    """Rotate images around their centre."""
    return lambda images: rotate(images, degrees, (2, 1), reshape=False, order=1)


CONDITIONS: Mapping[str, list[Change]] = {
    "clean": [moved(0, 0)],
    **{
        f"moved by {n} px": [moved(down * n, right * n) for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        for n in (1, 2, 3)
    },
    **{f"rotated by {degrees}°": [turned(degrees), turned(-degrees)] for degrees in (15, 30)},
}
"""Changes of the test images by the name in the table, which shows the mean of their accuracies."""


def main(seeds: Annotated[int, typer.Option(help="Trainings of each network.", min=1)] = 5) -> None:
    """Train, score and write the table."""
    paths = Paths(ROOT)
    settings.apply(paths)
    raw = dataset.load(paths.raw).splits
    rows = [header()]
    recipes = {name: recipe(paths, chosen) for name, chosen in NETWORKS.items()}  # before they can be edited
    for name, params in recipes.items():
        models = []
        for seed in track(range(1998, 1998 + seeds), description=name, console=console):
            seeded = params.changed({"train.seed": seed})
            models.append(accuracies(trained(seeded, raw["train"]), raw["test"]))
        rows.append(row(name, weights(params), models))
        print(rows[-1], flush=True)  # the next network takes minutes
    spread = f"Accuracy in %: median of {seeds} trainings, and the lowest and the highest."
    table = "\n".join([*rows, "", spread])
    page = ROOT / "docs/lenet5.md"
    files.write_text(page, replaced(page.read_text(encoding="utf-8"), "baseline", table, where=page))


def accuracies(scorer: Scorer, test: Split) -> dict[str, float]:
    """Return the accuracy of a model, by the name of the condition."""
    clean = np.asarray(test.images)

    def accuracy(images: Array) -> float:
        return float((scorer(images).argmax(axis=1) == test.labels).mean())

    return {
        **{
            name: float(np.mean([accuracy(change(clean)) for change in changes]))
            for name, changes in CONDITIONS.items()
        },
        CORRUPTED: float(np.mean(list(on_mnist_c(scorer, test).values()))),
    }


def weights(params: Params) -> int:
    """Return the number of weights of a recipe's network."""
    from lenet5.stages.train.fit import untrained_network

    image = params.ingest.image
    side = image.size + 2 * params.preprocess.padding
    shape, classes = (side, side, image.channels), len(params.ingest.classes)
    return int(untrained_network(shape, classes, params.train).count_params())


def header() -> str:
    return report.markdown(["network", "weights", *CONDITIONS, CORRUPTED], [])


def row(name: str, weights: int, models: list[dict[str, float]]) -> str:
    """Return a row of the table.

    Args:
        name: of the network.
        weights: their number.
        models: what :func:`accuracies` returns, one for each seed.
    """
    cells = []
    for condition in models[0]:
        each = [100 * model[condition] for model in models]
        cells.append(f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})")
    return f"| {name} | {weights:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    command.run(main)
