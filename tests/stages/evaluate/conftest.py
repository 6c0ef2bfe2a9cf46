"""Fixtures: a model that was trained for a few seconds, and a project in which to evaluate it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import pytest

from lenet5.core import dataset, files
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.results import Environment, Lineage
from lenet5.stages import params
from lenet5.stages.evaluate.params import Evaluate, Robustness
from tests.conftest import REPOSITORY, Arrays

if TYPE_CHECKING:  # `make test-fast` reads this file without TensorFlow
    import keras

PARAMS = Evaluate(
    calibration_bins=10,
    mistakes=5,
    robustness=Robustness(corruptions=["rotate", "fog"], severities=[1, 5], images=50, seed=1),
)


class Trained(NamedTuple):
    model: "keras.Sequential"
    history: pd.DataFrame


@pytest.fixture(scope="session")
def trained(digits: Arrays) -> Trained:
    """A model that is mostly right and makes some mistakes."""
    from lenet5.model.network import with_preprocessing
    from lenet5.stages.preprocess.transform import encode
    from lenet5.stages.train.fit import fit

    real = params.load(REPOSITORY / "params.yaml").train
    settings = real.model_copy(update={"epochs": 2, "batch_size": 32, "steps_per_execution": 1})
    train = encode(Split(digits["train_images"][:640], digits["train_labels"][:640]), padding=0)
    network, history = fit(train, train, settings, on_epoch=lambda *_: None)
    return Trained(with_preprocessing(network, padding=0), history)


@pytest.fixture(scope="session")
def test(digits: Arrays) -> Split:
    """250 images: three batches of 64 and a partial one."""
    return Split(digits["test_images"][:250], digits["test_labels"][:250])


@pytest.fixture
def project(tmp_path: Path, trained: Trained, test: Split) -> Paths:
    return prepare(tmp_path / "project", trained, test)


def prepare(root: Path, trained: Trained, test: Split) -> Paths:
    """Write the outputs of the earlier stages: raw data, a model, its lineage and history."""
    paths = Paths(root)
    raw = dataset.save(paths.raw, {"test": test})
    files.write_csv(paths.history, trained.history)
    place(paths, trained.model, raw.digest)
    return paths


def place(paths: Paths, model: "keras.Model", raw_data: str) -> None:
    from lenet5.model import keras_file

    keras_file.save(model, paths.model)
    Lineage(
        training="t" * 64,
        raw_data=raw_data,
        processed_data="p" * 64,
        weights=keras_file.weights_digest(model),
        model_file=files.sha256(paths.model),
        environment=Environment(requirements="q" * 64, packages={}, switches=[], device="CPU"),
    ).write(paths.lineage)
