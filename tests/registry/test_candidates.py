"""The gate with real candidates: all of MNIST, with the recipe and the limits in params.yaml."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.model import metrics
from lenet5.model.network import with_preprocessing
from lenet5.registry import gate, paired_tests
from lenet5.stages import params
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.preprocess.stage import encode, hold_out
from lenet5.stages.train.fit import fit
from lenet5.stages.train.params import Train
from lenet5.stages.train.stage import calibrate
from tests.conftest import REPOSITORY, decode

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("candidates")]  # trainings of all of MNIST

PARAMS = params.load(REPOSITORY / "params.yaml")
FLIPPED = 0.05

Arrays = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def mnist() -> Arrays:
    return {item.key: decode(item) for item in MNIST_FILES}


def predictions(mnist: Arrays, labels: NDArray[np.uint8], recipe: Train) -> pd.DataFrame:
    """Train a model with these labels and return its predictions, one row for each test image."""
    train, validation = (
        encode(Split(mnist["train_images"][rows], labels[rows]), padding=0, classes=10)
        for rows in hold_out(labels, PARAMS.preprocess.validation_images, PARAMS.preprocess.seed)
    )
    network, _ = fit(train, validation, recipe, on_epoch=lambda *_: None)
    calibrate(network, validation)
    model = with_preprocessing(network, padding=0)
    return metrics.predictions(
        mnist["test_labels"], metrics.probabilities(model, mnist["test_images"], batch_size=1000)
    )


@pytest.fixture(scope="module")
def champion(mnist: Arrays) -> pd.DataFrame:
    return predictions(mnist, mnist["train_labels"], PARAMS.train)


def judge(candidate: pd.DataFrame, champion: pd.DataFrame) -> gate.Verdict:
    register = PARAMS.register_
    correct = [(frame["label"] == frame["predicted"]).to_numpy() for frame in (candidate, champion)]
    test = register.gate
    comparison = paired_tests.compare(
        *correct, confidence=test.confidence, resamples=test.resamples, seed=test.seed
    )
    return gate.judge(register, metrics.summarize(candidate, PARAMS.evaluate.calibration_bins), comparison)


def test_a_candidate_trained_on_5_percent_flipped_labels_is_rejected(
    mnist: Arrays, champion: pd.DataFrame
) -> None:
    rng = np.random.default_rng(1)
    labels = mnist["train_labels"].copy()
    some = rng.choice(len(labels), int(FLIPPED * len(labels)), replace=False)
    labels[some] = (labels[some] + rng.integers(1, 10, len(some))) % 10
    verdict = judge(predictions(mnist, labels, PARAMS.train), champion)
    assert verdict.decision == "reject", verdict
    assert "ceiling of calibration_error" in verdict.why  # accuracy alone may not show it


@pytest.mark.long  # one more training of all of MNIST
def test_a_candidate_with_another_seed_is_a_tie(mnist: Arrays, champion: pd.DataFrame) -> None:
    recipe = PARAMS.train.model_copy(update={"seed": PARAMS.train.seed + 1})
    verdict = judge(predictions(mnist, mnist["train_labels"], recipe), champion)
    assert verdict.decision == "keep", verdict
    assert "a tie" in verdict.why
