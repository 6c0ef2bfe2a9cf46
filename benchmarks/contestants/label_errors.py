"""Train the default recipe with a few wrong labels, and rank the train images by three methods."""

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants.program import answer
from benchmarks.contestants.robustness import trained_file
from benchmarks.training import DEFAULT, recipe
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.stages.evaluate import out_of_fold
from lenet5.stages.evaluate.inspection import Inspector
from lenet5.stages.validate import classifier
from lenet5.system import settings

ONE_IN = 1000
"""One label of so many is wrong."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument("--images", type=int, help="the number of images; all by default")
    arguments = parser.parse_args()
    paths = Paths.find()
    settings.apply(paths)
    changed = {"train.seed": arguments.seed, **({"train.epochs": 1} if arguments.images else {})}
    params = recipe(paths, DEFAULT, changed)
    raw = dataset.load(paths.raw).splits["train"]
    images, labels = raw.images[: arguments.images], np.array(raw.labels[: arguments.images])
    classes = len(params.ingest.classes)
    wrong = plant(labels, classes, np.random.default_rng(arguments.seed))

    content, rows = trained_file(params, Split(images, labels))
    images, labels = images[rows], labels[rows]
    planted = np.isin(rows, wrong)
    inspector = Inspector(content)
    scores: dict[str, NDArray[np.floating]] = {
        "in_sample": inspector.probabilities(images),
        "out_of_fold": without_the_image(inspector, images, labels, classes),
        "pixels": of_pixels(images, labels),
    }
    found = {name: recall(margins(each, labels), planted) for name, each in scores.items()}
    answer(planted=int(planted.sum()), found=found)


def plant(labels: NDArray[np.uint8], classes: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Give one image in ``ONE_IN`` another label, in place; return their positions."""
    wrong = random.choice(len(labels), len(labels) // ONE_IN, replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return wrong


def without_the_image(
    inspector: Inspector, images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int
) -> NDArray[np.float64]:
    """Return the probabilities (N, C) of a new last layer, out of fold, as `evaluate` does."""
    *_, features, _ = inspector.layers

    def activations(part: slice) -> NDArray[np.float32]:
        return inspector.activations(images[part], [features.name])[features.name]

    parts = list(dataset.chunks(len(images)))
    scored = out_of_fold.probabilities(activations, labels.astype(np.int64), classes, parts)
    return np.concatenate([shares for _, shares in scored])


def of_pixels(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the probabilities (N, C) of the reference classifier of `validate`, out of fold."""
    fold = out_of_fold.folds(labels)
    shares = np.empty((len(images), len(np.unique(labels))))
    for number in range(out_of_fold.FOLDS):
        left_out = fold == number
        model, _ = classifier.fit(images[~left_out], labels[~left_out])
        log_densities, _ = model.scores(images[left_out])
        shares[left_out] = classifier.probabilities(log_densities)
    return shares


def margins(probabilities: NDArray[np.floating], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the normalized margin (N,) of each image, as `reports/label_errors.csv` has it."""
    others = probabilities.astype(np.float64)
    rows = np.arange(len(labels))
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    lead: NDArray[np.float64] = own - others.max(axis=1)
    return lead


def recall(margin: NDArray[np.float64], planted: NDArray[np.bool_]) -> list[float]:
    """Return the share of the planted labels among the first of the ranking: as many, and twice as many."""
    order = np.argsort(margin, kind="stable")
    count = int(planted.sum())
    return [float(planted[order[:first]].sum() / count) for first in (count, 2 * count)]


if __name__ == "__main__":
    main()
