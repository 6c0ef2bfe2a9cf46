"""The door: processed data in, a model file, its lineage and its history out; the store may be away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lenet5.core import dataset, files
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError, TrainingError, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage, Training
from lenet5.model import keras_file
from lenet5.stages.train import stage
from lenet5.stages.train.params import Train
from tests.conftest import REPOSITORY

OUTPUTS = ("model", "lineage", "training", "history")

LAUNCH = """
import sys
from pathlib import Path
from lenet5.core.paths import Paths
from lenet5.stages.train.params import Train
from tests.conftest import REPOSITORY
from lenet5.system import logs
from lenet5.training import launcher
logs.configure()
launcher.run(Paths(Path(sys.argv[1])), Train.model_validate_json(sys.argv[2]))
"""
"""A training as `lenet5 train` runs it, with everything that follows it."""

THREADS = f"""{LAUNCH}
import tensorflow
print("threads:", tensorflow.config.threading.get_intra_op_parallelism_threads())
"""

AWAY = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody listens there
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@pytest.fixture(autouse=True)
def store_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracking store has its own tests; here the files must come out right without it."""
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def project(tmp_path: Path, train: Split, validation: Split) -> Paths:
    return prepare(tmp_path / "one", train, validation)


def prepare(root: Path, train: Split, validation: Split) -> Paths:
    paths = Paths(root)
    files.write_text(paths.requirements, "keras==3\n")
    shutil.copyfile(REPOSITORY / "dvc.yaml", paths.graph)  # which names the code of the training
    (root / "src").symlink_to(REPOSITORY / "src")
    dataset.save(paths.processed, {"train": train, "validation": validation}, made_from="r" * 64)
    return paths


def test_files_belong_together_and_are_the_same_in_another_folder(
    project: Paths, tmp_path: Path, train: Split, validation: Split, settings: Train
) -> None:
    stage.run(project, settings)
    lineage, training = Lineage.read(project.lineage), Training.read(project.training)
    history = pd.read_csv(project.history)
    assert lineage.model_file == files.sha256(project.model)
    assert lineage.weights == keras_file.weights_digest(keras_file.load(project.model))
    assert lineage.raw_data == "r" * 64
    assert lineage.processed_data == dataset.load_manifest(project.processed).digest
    assert (training.epochs, training.parameters) == (len(history), 60_074) == (2, 60_074)
    best = history.iloc[training.best_epoch - 1]
    assert training.val_loss == best["val_loss"] == history["val_loss"].min()
    assert (training.loss, training.accuracy, training.val_accuracy) == (
        best["loss"],
        best["accuracy"],
        best["val_accuracy"],
    )

    elsewhere = prepare(tmp_path / "two", train, validation)
    stage.run(elsewhere, settings)
    for name in OUTPUTS:
        assert getattr(project, name).read_bytes() == getattr(elsewhere, name).read_bytes()


def test_threads_are_those_of_the_parameters(project: Paths, settings: Train) -> None:
    two = settings.model_copy(update={"threads": 2, "epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(project.root), two.model_dump_json()],
        env=os.environ | AWAY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "threads: 2"
    assert "The tracking store does not answer" in done.stderr


def test_a_precision_without_kernels_here_is_refused(project: Paths, settings: Train) -> None:
    with pytest.raises(UsageError, match="needs a GPU"):
        stage.run(project, settings.model_copy(update={"precision": "mixed_bfloat16"}))
    assert not project.model.exists()


def test_another_engine_trains_the_same_model_in_mixed_precision(project: Paths, settings: Train) -> None:
    """JAX has 16-bit kernels everywhere; what it leaves are float32 layers, which TensorFlow reads."""
    mixed = settings.model_copy(update={"precision": "mixed_bfloat16", "epochs": 1})
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, str(project.root), mixed.model_dump_json()],
        env=os.environ | AWAY | {"KERAS_BACKEND": "jax"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "oneDNN" not in done.stderr  # TensorFlow's greeting; it writes the events for TensorBoard
    assert Lineage.read(project.lineage).environment.packages.keys() == {"jax", "keras", "numpy"}
    model = keras_file.load(project.model)
    assert model.count_params() == 60_074
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}


def test_nothing_is_saved_of_a_training_that_diverged(project: Paths, settings: Train) -> None:
    with pytest.raises(TrainingError, match="diverged at epoch 1"):
        stage.run(project, settings.model_copy(update={"learning_rate": 1e30, "schedule": "constant"}))
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_damaged_data_is_not_trained_on(project: Paths, settings: Train) -> None:
    path = project.processed / dataset.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["labels"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"train/labels\.npy"):
        stage.run(project, settings)
    assert not project.model.exists()
