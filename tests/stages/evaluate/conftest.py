"""Fixtures: a model that was trained for a few seconds, and a project in which to evaluate it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset, files
from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.core.results import Environment, Lineage, Training, Validation
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
PADDING = 2


class Trained(NamedTuple):
    model: "keras.Sequential"
    history: pd.DataFrame
    train: Split
    """Raw images and labels, as ``validation``."""
    validation: Split


@pytest.fixture(scope="session")
def trained(digits: Arrays) -> Trained:
    """A model that is mostly right and makes some mistakes."""
    from lenet5.model.network import with_preprocessing
    from lenet5.stages.preprocess.stage import encode
    from lenet5.stages.train.fit import fit

    real = params.load(REPOSITORY / "params.yaml").train
    settings = real.model_copy(update={"epochs": 2, "batch_size": 32, "steps_per_execution": 1})
    train, validation = (
        Split(digits["train_images"][rows], digits["train_labels"][rows])
        for rows in (slice(640), slice(640, 763))
    )
    encoded = encode(train, PADDING, 10)
    network, history = fit(encoded, encoded, settings, on_epoch=lambda *_: None)
    return Trained(with_preprocessing(network, PADDING), history, train, validation)


@pytest.fixture(scope="session")
def test(digits: Arrays) -> Split:
    """250 images: three batches of 64 and a partial one."""
    return Split(digits["test_images"][:250], digits["test_labels"][:250])


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, trained: Trained, test: Split) -> Paths:
    """The outputs of the earlier stages: raw and processed data, a model, its lineage and history.

    The project is shared: read it, or work in a copy.
    """
    from lenet5.stages.preprocess.stage import encode

    paths = Paths(tmp_path_factory.mktemp("prepared") / "project")
    splits = {"train": trained.train, "validation": trained.validation}
    raw_train = Split(
        np.concatenate([split.images for split in splits.values()]),
        np.concatenate([split.labels for split in splits.values()]),
    )
    raw = dataset.save(paths.raw, {"test": test, "train": raw_train})
    dataset.save(
        paths.processed, {name: encode(split, PADDING, 10) for name, split in splits.items()}, padding=PADDING
    )
    shutil.copyfile(REPOSITORY / "data/card.yaml", paths.data_card)
    files.write_csv(paths.history, trained.history)
    Validation(
        success=True,
        data_digest=raw.digest,
        images={"test": len(test.labels)},
        drift={},
        unexpected_images={},
        checks=[],
    ).write(paths.validation)
    last = trained.history.iloc[-1]
    Training(
        epochs=len(trained.history),
        best_epoch=len(trained.history),
        parameters=trained.model.count_params(),
        temperature=1.0,
        val_loss=float(last["val_loss"]),
    ).write(paths.training)
    place(paths, trained.model)
    return paths


@pytest.fixture
def project(tmp_path: Path, prepared: Paths) -> Paths:
    """A copy of ``prepared``: the ONNX file takes a second to make."""
    return Paths(shutil.copytree(prepared.root, tmp_path / "project", symlinks=True))


def place(paths: Paths, model: "keras.Model") -> None:
    """Write a model as Keras and ONNX file, and its lineage."""
    from lenet5.model import keras_file, onnx_export

    keras_file.save(model, paths.model)
    paths.onnx.write_bytes(onnx_export.export(model))
    Lineage(
        training="t" * 64,
        raw_data=dataset.load_manifest(paths.raw).digest,
        processed_data=dataset.load_manifest(paths.processed).digest,
        weights=keras_file.weights_digest(model),
        model_file=files.sha256(paths.model),
        onnx_file=files.sha256(paths.onnx),
        environment=Environment(requirements="q" * 64, packages={}, switches=[], device="CPU"),
    ).write(paths.lineage)
