"""Registered versions without a training: the tags and files that the gate uses are real."""

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from lenet5.core import files
from lenet5.core.paths import Paths
from lenet5.model import metrics
from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.params import Params, load
from lenet5.stages.register.params import Ceilings, Floors, Gate, Register
from lenet5.tracking import model_package, store, tags
from tests.conftest import REPOSITORY

IMAGES = 1000
LABELS = (np.arange(IMAGES) % 10).astype(np.uint8)
TEST_DATA = "d" * 64
CORRUPTED_IMAGES = "c" * 64
CORRUPTED = 200
"""Images under each corruption and severity."""


def params(name: str, **gate: Any) -> Params:
    """Return the parameters of the project, with limits that suit 1000 images."""
    register = Register(
        model_name=name,
        floors=Floors(accuracy=0.9, worst_class_recall=0.8, mean_corruption_accuracy=0.6),
        ceilings=Ceilings(calibration_error=0.15),
        gate=Gate(
            **{
                "margin": 0.02,
                "corruption_margin": 0.05,
                "slice_margin": 0.1,
                "confidence": 0.95,
                "tie": "keep",
                "max_drop": 0.02,
                "resamples": 1000,
                "seed": 1,
                **gate,
            }
        ),
    )
    return _params_of_project().model_copy(update={"register_": register})


@functools.cache
def _params_of_project() -> Params:
    return load(REPOSITORY / "params.yaml").changed(
        {
            "evaluate.robustness.corruptions": ["thin_strokes", "brightness"],
            "evaluate.robustness.severities": [1, 2],
            "evaluate.robustness.images": 60,
        }
    )


def add(
    client: MlflowClient,
    paths: Paths,
    name: str,
    *,
    wrong: Collection[int] = (),
    wrong_in_fog: Collection[int] = (),
    test_data: str = TEST_DATA,
    extra_tags: dict[str, str] | None = None,
) -> Version:
    """Register a challenger that classifies all test images correctly, except the images ``wrong``.

    Of the corrupted images, it classifies those with the numbers ``wrong_in_fog`` wrongly, in fog.
    """
    predictions = metrics.predictions(LABELS, probabilities(wrong))
    tables = {
        model_versions.ROBUSTNESS: robustness(wrong_in_fog),
        model_versions.SLICES: slices(),
    }
    corrupted = {tags.CORRUPTED_IMAGES: CORRUPTED_IMAGES}
    return add_model(
        client,
        paths,
        name,
        predictions,
        test_data=test_data,
        tables=tables,
        extra_tags=corrupted | (extra_tags or {}),
    )


def robustness(wrong_in_fog: Collection[int] = ()) -> pd.DataFrame:
    """Return answers on two corruptions in two severities."""
    rows = pd.MultiIndex.from_product(
        [["brightness", "fog"], [1, 5], range(CORRUPTED)], names=["corruption", "severity", "index"]
    ).to_frame(index=False)
    label = rows["index"] % 10
    is_wrong = (rows["corruption"] == "fog") & rows["index"].isin(list(wrong_in_fog))
    return rows.assign(label=label, predicted=(label + is_wrong) % 10, confidence=0.9)


def slices() -> pd.DataFrame:
    """Return the class of each image, and four bins of one slice with 250 consecutive images each."""
    index = np.arange(IMAGES)
    return pd.DataFrame(
        {"index": index, "class": LABELS.astype(str), "slant": [f"bin {i}" for i in index // 250]}
    )


def of_data(name: str, *classes: str, shape: str = "28x28") -> dict[str, str]:
    """Return the tags of a version of some data set."""
    return {tags.DATA_NAME: name, tags.CLASSES: json.dumps(classes), tags.IMAGE_SHAPE: shape}


def add_model(
    client: MlflowClient,
    paths: Paths,
    name: str,
    predictions: pd.DataFrame,
    *,
    test_data: str,
    tables: Mapping[str, pd.DataFrame] | None = None,
    model_files: Mapping[str, bytes] | None = None,
    lock: str | None = None,
    extra_tags: dict[str, str] | None = None,
) -> Version:
    """Register a challenger with predictions on its test images.

    Args:
        client: The store.
        paths: The checkout.
        name: Name of the registered model.
        predictions: One row for each test image, as :func:`lenet5.model.metrics.predictions` returns it.
        test_data: Digest of the test images.
        tables: More tables, by their path in the run; None for a version of an earlier release.
        model_files: The files of the model by their path in the model folder; None for files that no library
            can load.
        lock: The ``dvc.lock`` of the version; None for a version without one.
        extra_tags: More tags of the version.
    """
    run = client.create_run(store.experiment(client, paths))
    run_id = run.info.run_id
    with TemporaryDirectory() as folder:
        artifacts = log_evaluation(client, run_id, predictions, lock, tables)
        model = client.create_logged_model(run.info.experiment_id, source_run_id=run_id)
        model_folder = Path(folder) / "model"
        (model_folder / "data").mkdir(parents=True)
        unusable = {tags.KERAS_FILE: run_id.encode(), tags.ONNX_FILE: f"{run_id} for others".encode()}
        for path, content in (model_files or unusable).items():
            (model_folder / path).write_bytes(content)
        (model_folder / "MLmodel").write_text("flavors: {}\n")
        client.log_model_artifacts(model.model_id, str(model_folder))
        client.finalize_logged_model(model.model_id, "READY")
        version_tags = {
            tags.TEST_DATA: test_data,
            tags.MODEL_FILE: files.sha256(model_folder / tags.KERAS_FILE),
            tags.MODEL_FOLDER: json.dumps(model_package.digests(model_folder)),
            tags.ARTIFACTS: artifacts,
        }
    version, is_new = model_versions.register(
        client,
        name,
        run_id=run_id,
        model_id=model.model_id,
        tags=version_tags | (extra_tags or {}),
        description="",
    )
    assert is_new
    model_versions.set_alias(client, name, model_versions.CHALLENGER, version.number)
    return version


def log_evaluation(
    client: MlflowClient,
    run_id: str,
    predictions: pd.DataFrame,
    lock: str | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> str:
    """Log predictions and a ``dvc.lock``; return the digests as the tag ``lenet5.artifacts`` has them."""
    with TemporaryDirectory() as folder:
        logged = {}
        for path, table in {model_versions.PREDICTIONS: predictions, **(tables or {})}.items():
            logged[path] = Path(folder) / Path(path).name
            table.to_parquet(logged[path], index=False)
        if lock is not None:
            logged["code/dvc.lock"] = Path(folder) / "dvc.lock"
            logged["code/dvc.lock"].write_text(lock)
        for path, file in logged.items():
            client.log_artifact(run_id, str(file), path.partition("/")[0])
        return json.dumps({path: files.sha256(file) for path, file in logged.items()})


def probabilities(wrong: Collection[int]) -> Any:
    """Return probabilities (N, 10): each test image is classified correctly, except the images ``wrong``."""
    digits = LABELS.astype(np.int64)
    digits[list(wrong)] = (digits[list(wrong)] + 1) % 10
    scores = np.full((IMAGES, 10), 0.05 / 9, np.float32)
    scores[np.arange(IMAGES), digits] = 0.95
    return scores
