"""Compare LeNet-5 with an MLP on moved and rotated digits: ``python -m benchmarks.baseline``.

It trains ``params.yaml`` and the recipe ``mlp`` with several seeds, scores each model on changed test images,
and writes the table of docs/lenet5.md.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import track
from scipy.ndimage import rotate

from benchmarks import command
from benchmarks.bench import ROOT
from benchmarks.readme import replaced
from benchmarks.training import DEFAULT, correct, recipe
from lenet5.core import dataset, files
from lenet5.core.dataset import Array, Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.images.operations import pad
from lenet5.model import engine
from lenet5.system import settings
from lenet5.system.terminal import console

if TYPE_CHECKING:
    import keras

CONTESTANTS = {"LeNet-5": DEFAULT, "MLP": "mlp"}
"""Recipes by the name in the table."""
Change = Callable[[Array], Array]


def moved(down: int, right: int) -> Change:
    """Move images; the pixels that leave one side are lost, and zeros enter at the other."""
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
"""Changes of the test images by the name in the table, whose figure is the mean of the accuracies."""


def main(seeds: Annotated[int, typer.Option(help="Trainings of each network.", min=1)] = 5) -> None:
    """Train, score and write the table."""
    paths = Paths(ROOT)
    settings.apply(paths)
    with quiet_libraries(), engine.lean_keras(for_training=True):
        from lenet5.model import backend
    backend.configure(1)
    test = dataset.load(paths.raw).splits["test"]
    changed = {
        name: [Split(change(test.images), test.labels) for change in changes]
        for name, changes in CONDITIONS.items()
    }
    rows = [header()]
    for name, chosen in CONTESTANTS.items():
        scores: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
        for seed in track(range(1998, 1998 + seeds), description=name, console=console):
            network, padding = trained(paths, chosen, seed)
            for condition, splits in changed.items():
                scores[condition].append(
                    float(np.mean([correct(network, padding, split).mean() for split in splits]))
                )
        rows.append(row(name, int(network.count_params()), scores))
    table = "\n".join(
        [*rows, "", f"Accuracy in %: median of {seeds} trainings, and the lowest and the highest."]
    )
    print(table)
    page = ROOT / "docs/lenet5.md"
    files.write_text(page, replaced(page.read_text(encoding="utf-8"), "baseline", table, where=page))


def trained(paths: Paths, chosen: str, seed: int) -> "tuple[keras.Sequential, int]":
    """Train a recipe and return the network and the padding of its images."""
    from lenet5.stages.train.fit import fit

    processed = dataset.load(paths.processed)
    params = recipe(paths, chosen, {"train.seed": seed}).train
    network, _ = fit(
        processed.splits["train"],
        processed.splits["validation"],
        params,
        on_epoch=lambda epoch, metrics: None,
    )
    return network, processed.manifest.padding


def header() -> str:
    columns = ["network", "weights", *CONDITIONS]
    return f"| {' | '.join(columns)} |\n| {' | '.join('---' for _ in columns)} |"


def row(name: str, weights: int, scores: Mapping[str, list[float]]) -> str:
    """Return a row of the table.

    Args:
        name: of the network.
        weights: their number.
        scores: accuracies, one for each seed, by condition.
    """
    cells = [
        f"{100 * np.median(each):.2f} ({100 * min(each):.2f} to {100 * max(each):.2f})"
        for each in scores.values()
    ]
    return f"| {name} | {weights:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    command.run(main)
