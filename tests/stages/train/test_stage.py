"""The stage writes a model, its lineage and its history, even if the tracking store does not answer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.dataset import Description, Split
from lenet5.core.errors import DataError, TrainingError, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage, Training
from lenet5.model import keras_file, network, onnx_export, onnx_session
from lenet5.stages.train import stage, temperature
from lenet5.stages.train.params import Train
from tests.conftest import REPOSITORY
from tests.training_fixtures import Fitted

OUTPUTS = ("model", "onnx", "lineage", "training", "history")

LAUNCH = """
import sys
from pathlib import Path
from lenet5.core.paths import Paths
from lenet5.stages.train.params import Train
from lenet5.system import logs
from lenet5.training import launcher
logs.configure()
launcher.run(Paths(Path(sys.argv[1])), Train.model_validate_json(sys.argv[2]))
"""
"""Runs a training with its observers, as ``lenet5 train`` does."""

THREADS = f"""{LAUNCH}
import tensorflow
print("threads:", tensorflow.config.threading.get_intra_op_parallelism_threads())
"""

NO_STORE = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # no server listens on this port
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tracking store not answer; the outputs must not depend on it."""
    for name, value in NO_STORE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def project(tmp_path: Path, train: Split, validation: Split) -> Paths:
    return prepare(tmp_path / "one", train, validation)


def prepare(root: Path, train: Split, validation: Split) -> Paths:
    paths = Paths(root)
    files.write_text(paths.requirements, "keras==3\n")
    shutil.copyfile(REPOSITORY / "dvc.yaml", paths.graph)  # it lists the code of the training
    (root / "src").symlink_to(REPOSITORY / "src")
    dataset.save(paths.processed, {"train": train, "validation": validation}, made_from="r" * 64)
    return paths


def test_outputs_agree_and_are_the_same_in_another_folder(
    project: Paths, tmp_path: Path, train: Split, validation: Split, settings: Train
) -> None:
    stage.run(project, settings)
    lineage, training = Lineage.read(project.lineage), Training.read(project.training)
    history = pd.read_csv(project.history)
    assert lineage.model_file == files.sha256(project.model)
    assert lineage.onnx_file == files.sha256(project.onnx)
    assert lineage.weights == keras_file.weights_digest(keras_file.load(project.model))
    assert lineage.raw_data == "r" * 64
    assert lineage.processed_data == dataset.load_manifest(project.processed).digest
    assert (training.epochs, training.parameters) == (len(history), 60_074) == (2, 60_074)
    best = history.iloc[training.best_epoch - 1]
    assert training.val_loss == best["val_loss"] == history["val_loss"].min()

    # both files hold the calibrated model
    pixels = dataset.raw_pixels(validation.images, 0)
    answers = onnx_session.probabilities(onnx_session.load(project.onnx.read_bytes()), pixels)
    loaded = keras_file.load(project.model)
    np.testing.assert_allclose(loaded.predict_on_batch(pixels), answers, rtol=0, atol=1e-6)
    assert temperature.fit(np.log(answers.astype(np.float64)), validation.labels.argmax(axis=1)) == 1
    assert training.temperature != 1

    other = prepare(tmp_path / "two", train, validation)
    stage.run(other, settings)
    for name in OUTPUTS:
        assert getattr(project, name).read_bytes() == getattr(other, name).read_bytes()


def test_without_calibration_the_weights_are_the_trained_ones(
    project: Paths, settings: Train, once: Fitted, validation: Split
) -> None:
    stage.run(project, settings.model_copy(update={"calibration": "none"}))
    assert Training.read(project.training).temperature == 1
    saved = keras_file.load(project.model)
    for trained, written in zip(once.model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(written, trained)


def test_calibration_refuses_few_validation_images_before_it_trains(
    tmp_path: Path, train: Split, validation: Split, settings: Train
) -> None:
    few = prepare(tmp_path / "few", train, Split(validation.images[:10], validation.labels[:10]))
    with pytest.raises(UsageError, match="too few validation images"):
        stage.run(few, settings, observe=lambda _: pytest.fail("the training began"))
    assert not any(getattr(few, name).exists() for name in OUTPUTS)


def test_onnx_file_with_other_answers_is_an_error(
    project: Paths, settings: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = onnx_export.export

    def export_others(model: keras.Sequential, description: Description) -> bytes:
        other = keras.models.clone_model(model)
        other.set_weights([weights * 1.01 for weights in model.get_weights()])
        return export(other, description)

    monkeypatch.setattr(onnx_export, "export", export_others)
    with pytest.raises(TrainingError, match=r"does not give the model's answers(.|\n)*images beyond"):
        stage.run(project, settings.model_copy(update={"epochs": 1}))
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_one_different_probability_is_an_error(
    once: Fitted, validation: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network.with_preprocessing(once.model, padding=0)
    onnx_file = onnx_export.export(model)
    score = onnx_session.probabilities

    def answer(change: float) -> None:
        def changed(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            answers = score(session, images) + np.float32(5e-6)
            answers[-1, 3] += change
            return answers

        monkeypatch.setattr(onnx_session, "probabilities", changed)

    answer(0)
    stage.require_same_answers(model, onnx_file, validation, 0)
    for wrong in (2e-5, -2e-5, np.nan):
        answer(wrong)
        with pytest.raises(TrainingError, match="1 images beyond, image 199 by"):
            stage.require_same_answers(model, onnx_file, validation, 0)


@pytest.mark.integration
def test_threads_are_set_from_the_parameters(project: Paths, settings: Train) -> None:
    two = settings.model_copy(update={"threads": 2, "epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(project.root), two.model_dump_json()],
        env=os.environ | NO_STORE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "threads: 2"
    assert "The tracking store does not answer" in done.stderr


def test_mixed_precision_on_a_cpu_is_an_error_with_tensorflow(project: Paths, settings: Train) -> None:
    with pytest.raises(UsageError, match="needs a GPU"):
        stage.run(project, settings.model_copy(update={"precision": "mixed_bfloat16"}))
    assert not project.model.exists()


@pytest.mark.long
def test_jax_trains_the_same_network_in_mixed_precision(project: Paths, settings: Train) -> None:
    """JAX has 16-bit kernels on every device. The saved model has float32 layers, which TensorFlow loads."""
    mixed = settings.model_copy(update={"precision": "mixed_bfloat16", "epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, str(project.root), mixed.model_dump_json()],
        env=os.environ | NO_STORE | {"KERAS_BACKEND": "jax"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    # Keras imports TensorFlow to write event files for TensorBoard, and the import prints a text about oneDNN
    assert "oneDNN" not in done.stderr
    assert Lineage.read(project.lineage).environment.packages.keys() == {"jax", "keras", "numpy"}
    model = keras_file.load(project.model)
    assert model.count_params() == 60_074
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}
    # the ONNX file needs no exporter of JAX, and gives the answers of TensorFlow
    pixels = dataset.raw_pixels(dataset.load(project.processed).splits["validation"].images, 0)
    answers = onnx_session.probabilities(onnx_session.load(project.onnx.read_bytes()), pixels)
    np.testing.assert_allclose(model.predict_on_batch(pixels), answers, rtol=0, atol=1e-6)


def test_training_that_diverges_writes_no_output(project: Paths, settings: Train) -> None:
    with pytest.raises(TrainingError, match="diverged at epoch 1"):
        stage.run(project, settings.model_copy(update={"learning_rate": 1e30, "schedule": "constant"}))
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_damaged_data_is_an_error(project: Paths, settings: Train) -> None:
    path = project.processed / dataset.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["labels"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"train/labels\.npy"):
        stage.run(project, settings)
    assert not project.model.exists()
