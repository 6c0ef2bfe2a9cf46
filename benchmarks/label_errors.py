"""Plant wrong labels among the train images, and see whether the ranking finds them.

``python -m benchmarks.label_errors`` writes the table of docs/evaluation.md. It compares the margins of a
model that was trained on the wrong labels with out-of-fold margins, each from a model that has not seen the
image.
"""

import os
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import command
from benchmarks.bench import ROOT
from benchmarks.readme import replaced
from lenet5.core import dataset, files
from lenet5.core.dataset import CLASSES, Split
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.stages import params
from lenet5.stages.evaluate import label_errors
from lenet5.stages.train.params import Train
from lenet5.system import settings
from lenet5.system.terminal import console

SEED = 1998
SHARE = 0.01
"""Share of the train labels that are replaced by another digit."""
VALIDATION = 1_000
"""Images that the training reports on; nothing depends on them."""

Floats = NDArray[np.float32]


def main(
    folds: Annotated[int, typer.Option(help="Models for the out-of-fold margins.")] = 5,
    epochs: Annotated[list[int] | None, typer.Option(help="Numbers of epochs to try.")] = None,
) -> None:
    """Train with planted wrong labels, and write the table of docs/evaluation.md."""
    os.environ.update(engine.ENGINE_FLAGS)
    paths = Paths(ROOT)
    settings.apply(paths)
    training = params.load(paths.params).train.model_copy(update={"patience": 0})
    train = dataset.load(paths.raw, ["train"]).splits["train"]
    planted, is_wrong = plant(train)
    rows = [
        f"| epochs | margins | planted labels below 0 | planted among the {is_wrong.sum()} lowest |",
        "| --- | --- | --- | --- |",
    ]
    for number in epochs or [training.epochs, 20]:
        settings_ = training.model_copy(update={"epochs": number})
        everything = np.arange(len(planted.labels))
        seen = probabilities(planted, everything, everything, settings_)
        rows.append(row(number, "in-sample", seen, planted, is_wrong))
        unseen = np.empty_like(seen)
        for kept, held_out in track(list(split(len(everything), folds)), console=console):
            unseen[held_out] = probabilities(planted, kept, held_out, settings_)
        rows.append(row(number, f"out-of-fold, {folds} folds", unseen, planted, is_wrong))
    print("\n".join(rows))
    page = ROOT / "docs/evaluation.md"
    text = replaced(page.read_text(encoding="utf-8"), "planted", "\n".join(rows), where=page)
    files.write_text(page, text)


def plant(train: Split) -> tuple[Split, NDArray[np.bool_]]:
    """Replace a share of the labels, and say which, bool (N,)."""
    random = np.random.default_rng(SEED)
    count = len(train.labels)
    chosen = random.choice(count, round(SHARE * count), replace=False)
    labels = train.labels.copy()
    labels[chosen] = (labels[chosen] + random.integers(1, CLASSES, len(chosen))) % CLASSES
    return Split(train.images, labels), labels != train.labels


def split(count: int, folds: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each fold the images that are trained on and those that are held out."""
    fold = np.random.default_rng(SEED).permutation(count) % folds
    for number in range(folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def probabilities(data: Split, kept: NDArray[np.int64], scored: NDArray[np.int64], training: Train) -> Floats:
    """Train on some images of a split and score others, float32 (len(scored), 10)."""
    from lenet5.model import backend, metrics
    from lenet5.model.network import with_preprocessing
    from lenet5.stages.preprocess.transform import encode
    from lenet5.stages.train.fit import fit

    backend.configure(1)
    train, validation = (
        encode(Split(data.images[rows], data.labels[rows]), padding=0) for rows in (kept, kept[:VALIDATION])
    )
    network, _ = fit(train, validation, training, on_epoch=lambda *_: None)
    return metrics.probabilities(with_preprocessing(network, padding=0), data.images[scored])


def row(epochs: int, name: str, scores: Floats, planted: Split, is_wrong: NDArray[np.bool_]) -> str:
    margins = label_errors.margins(planted.labels, scores)
    lowest = np.argsort(margins, kind="stable")[: is_wrong.sum()]
    return f"| {epochs} | {name} | {(margins[is_wrong] < 0).mean():.1%} | {is_wrong[lowest].mean():.1%} |"


if __name__ == "__main__":
    command.run(main)
