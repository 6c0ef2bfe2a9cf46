"""Train a recipe with the product's own code, and score the model on clean and on corrupted test images.

The answers are those of ONNX Runtime, as in the stage `evaluate`. ``--keep`` writes, for each corruption and
image, how many severities the model answers correctly.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants.program import answer
from benchmarks.training import DEFAULT, recipe
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.images.corruptions import MNIST_C, SEVERITIES, scoring
from lenet5.model import engine, onnx_session
from lenet5.stages.evaluate.params import CorruptionName, Robustness
from lenet5.stages.params import Params
from lenet5.stages.preprocess import stage as preprocess
from lenet5.system import settings

CORRUPTION_SEED = 1998
"""All models see the same corrupted images; the seed of the benchmark is that of the training."""


def main() -> None:
    arguments = _arguments()
    paths = Paths.find()
    settings.apply(paths)
    changed = {"train.seed": arguments.seed, **({"train.epochs": 1} if arguments.images else {})}
    params = recipe(paths, arguments.recipe, changed)
    raw = dataset.load(paths.raw).splits
    train = Split(raw["train"].images[: arguments.images], raw["train"].labels[: arguments.images])
    scorer = trained(params, train)
    if arguments.keep:
        _keep(arguments.keep, scorer, raw["test"])
    clean = (scorer(raw["test"].images).argmax(axis=1) == raw["test"].labels).mean()
    answer(clean=float(clean), mnist_c=on_mnist_c(scorer, raw["test"]))


def trained(params: Params, train: Split) -> scoring.Scorer:
    """Train on raw images, and return what scores images with the ONNX model."""
    content, _ = trained_file(params, train)
    session = onnx_session.load(content)
    return lambda images: onnx_session.probabilities(session, images)


def trained_file(params: Params, train: Split) -> tuple[bytes, NDArray[np.int64]]:
    """Train on raw images.

    Args:
        params: for the split, the padding and the training.
        train: raw images uint8 (N, 28, 28) and labels; validation images are taken from them.

    Returns:
        The ONNX file, and the positions (T,) of the images that were trained on.
    """
    with quiet_libraries(), engine.lean_keras():
        from lenet5.model import backend, onnx_export
        from lenet5.model.network import with_preprocessing
        from lenet5.stages.train.fit import fit
    backend.configure(params.train.threads)
    split = params.preprocess
    rows = preprocess.hold_out(
        train.labels, min(split.validation_images, len(train.labels) // 10), split.seed
    )
    classes = len(params.ingest.classes)
    parts = [
        preprocess.encode(Split(train.images[some], train.labels[some]), split.padding, classes)
        for some in rows
    ]
    network, _ = fit(parts[0], parts[1], params.train, on_epoch=lambda epoch, metrics: None)
    return onnx_export.export(with_preprocessing(network, split.padding)), rows[0]


def correct(
    scorer: scoring.Scorer, test: Split, names: Sequence[CorruptionName], severities: Sequence[int]
) -> NDArray[np.bool_]:
    """Which answers are correct, bool (corruptions, severities, images), on every test image."""
    choice = Robustness(
        corruptions=list(names), severities=list(severities), images=len(test.labels), seed=CORRUPTION_SEED
    )
    return scoring.score(scorer, test.images, test.labels, choice).correct


def on_mnist_c(scorer: scoring.Scorer, test: Split) -> dict[str, float]:
    """The accuracy on each corruption of MNIST-C, with the amounts of MNIST-C."""
    names = cast("list[CorruptionName]", list(MNIST_C))
    shares = correct(scorer, test, names, [3]).mean(axis=(1, 2))
    return dict(zip(names, shares.tolist(), strict=True))


def _keep(path: Path, scorer: scoring.Scorer, test: Split) -> None:
    """Write the number of correct severities of each image, uint8 (N,), by corruption."""
    names = [name for name in get_args(CorruptionName) if name != "identity"]
    answers = correct(scorer, test, names, SEVERITIES)
    counts: dict[str, Any] = dict(zip(names, answers.sum(axis=1, dtype=np.uint8), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **counts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=DEFAULT)
    parser.add_argument("--seed", type=int, default=1998)
    parser.add_argument(
        "--images", type=int, help="the number of images to train on, for one epoch; all by default"
    )
    parser.add_argument("--keep", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
