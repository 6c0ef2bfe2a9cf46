"""The stage scores every image, and only if the model and the data belong together."""

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

from lenet5.core import dataset, files
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError, TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails, SplitInterval
from lenet5.model import metrics, onnx_export, onnx_session
from lenet5.stages.evaluate import robustness, stage
from lenet5.stages.evaluate.params import Evaluate, Robustness
from tests.conftest import flip_a_bit
from tests.stages.evaluate.conftest import PARAMS, Trained, place

pytestmark = pytest.mark.xdist_group("evaluate")  # the tests share one evaluated project

OUTPUTS = (
    *("evaluation", "predictions", "per_class", "confusion", "calibration", "figures"),
    *("slices", "slice_accuracy", "label_errors", "robustness", "robustness_plot", "report"),
    "evaluation_details",
)
ROBUSTNESS = {
    *("robustness/robustness.parquet", "robustness_plot/robustness.csv", "figures/robustness.png"),
    *("evaluation/evaluation.json", "evaluation_details/evaluation_details.json"),
}
"""The outputs that the parameters of the corruptions change."""

EVALUATE = """
import json, sys
from pathlib import Path
from lenet5.core.paths import Paths
from lenet5.stages.evaluate import stage
from lenet5.stages.evaluate.params import Evaluate
print(stage.run(Paths(Path(sys.argv[1])), Evaluate.model_validate_json(sys.argv[2])))
print(json.dumps([name.partition(".")[0] for name in sys.modules]))
"""


def made(paths: Paths) -> dict[str, bytes]:
    """Return the content of every output of the stage."""
    contents = {}
    for name in OUTPUTS:
        path = getattr(paths, name)
        for file in sorted(path.glob("*")) if path.is_dir() else [path]:
            contents[f"{name}/{file.name}"] = file.read_bytes()
    return contents


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, prepared: Paths) -> Paths:
    """A project after the stage. It is shared: read it, or work in a copy."""
    paths = Paths(shutil.copytree(prepared.root, tmp_path_factory.mktemp("evaluated") / "project"))
    stage.run(paths, PARAMS)
    return paths


@pytest.fixture
def broken(trained: Trained) -> keras.Sequential:
    """A model whose answers are NaN for one digit."""
    model = keras.models.clone_model(trained.model)
    weights = trained.model.get_weights()
    weights[-1][3] = np.nan  # the bias of the digit
    model.set_weights(weights)
    return model


def test_every_image_is_scored_including_the_last_partial_batch(
    evaluated: Paths, trained: Trained, test: Split
) -> None:
    frame = pd.read_parquet(evaluated.predictions)
    probabilities = trained.model.predict_on_batch(test.images)
    assert len(frame) == EvaluationDetails.read(evaluated.evaluation_details).images == 250
    np.testing.assert_array_equal(frame["label"], test.labels)
    np.testing.assert_allclose(frame.filter(regex=r"^p\d$"), probabilities, atol=1e-6)
    accuracy = (probabilities.argmax(axis=1) == test.labels).mean()
    assert Evaluation.read(evaluated.evaluation).accuracy == accuracy
    assert 0.6 < accuracy < 1


def test_tables_agree_with_the_metrics(evaluated: Paths) -> None:
    evaluation = Evaluation.read(evaluated.evaluation)
    details = EvaluationDetails.read(evaluated.evaluation_details)
    per_class, confusion = pd.read_csv(evaluated.per_class), pd.read_csv(evaluated.confusion)
    assert details.model == files.sha256(evaluated.model)[:16]
    assert details.onnx_file == files.sha256(evaluated.onnx)
    assert details.predictions == files.sha256(evaluated.predictions)[:16]
    assert details.test_data == dataset.load_manifest(evaluated.raw).splits["test"].digest
    assert per_class["recall"].min() == evaluation.worst_class_recall
    assert per_class["images"].sum() == len(confusion) == 250
    assert (confusion["label"] == confusion["predicted"]).mean() == evaluation.accuracy
    assert pd.read_csv(evaluated.calibration)["images"].sum() == 250


def test_two_runs_give_the_same_bytes(evaluated: Paths, project: Paths) -> None:
    assert len(made(evaluated)) == 20
    stage.run(project, PARAMS)
    assert made(project) == made(evaluated)


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        (  # together: they change different outputs
            {"calibration_bins": 3, "mistakes": 1},
            {
                *("calibration/calibration.csv", "figures/calibration.png", "evaluation/evaluation.json"),
                *("evaluation_details/evaluation_details.json", "figures/mistakes.png"),
            },
        ),
        ({"robustness": PARAMS.robustness.model_copy(update={"seed": 2})}, ROBUSTNESS),
    ],
    ids=["calibration_bins and mistakes", "robustness"],
)
def test_parameters_change_their_outputs(
    evaluated: Paths, tmp_path: Path, values: dict[str, Any], changes: set[str]
) -> None:
    """A second run in the same folder replaces the outputs, and gives the same bytes for all others."""
    assert set(Evaluate.model_fields) == {"calibration_bins", "mistakes", "robustness"}
    again = Paths(tmp_path / "again")
    shutil.copytree(evaluated.root, again.root)
    stage.run(again, PARAMS.model_copy(update=values))
    before, after = made(evaluated), made(again)
    assert before.keys() == after.keys()
    shown = {"report/report.html"}  # the page shows all of them
    assert {output for output in after if after[output] != before[output]} == changes | shown


@pytest.mark.parametrize(
    ("name", "value"), {"corruptions": ["rotate"], "severities": [5], "images": 40, "seed": 2}.items()
)
def test_parameter_decides_the_corrupted_images(evaluated: Paths, test: Split, name: str, value: Any) -> None:
    assert set(Robustness.model_fields) == {"corruptions", "severities", "images", "seed"}
    session = onnx_session.load(evaluated.onnx.read_bytes())
    changed = PARAMS.robustness.model_copy(update={name: value})
    answers = robustness.score(session, test.images, test.labels, changed)
    assert answers.corrupted_images != EvaluationDetails.read(evaluated.evaluation_details).corrupted_images


def test_onnx_file_gives_the_same_answers(evaluated: Paths, trained: Trained, test: Split) -> None:
    probabilities = onnx_session.probabilities(onnx_session.load(evaluated.onnx.read_bytes()), test.images)
    np.testing.assert_allclose(probabilities, trained.model.predict_on_batch(test.images), rtol=0, atol=1e-5)


def test_corrupted_images_are_scored_with_the_onnx_file(evaluated: Paths, test: Split) -> None:
    answers = robustness.score(
        onnx_session.load(evaluated.onnx.read_bytes()), test.images, test.labels, PARAMS.robustness
    )
    frame = pd.read_parquet(evaluated.robustness)
    pd.testing.assert_frame_equal(frame, robustness.table(answers))
    assert len(frame) == 2 * 2 * 50
    evaluation = Evaluation.read(evaluated.evaluation)
    details = EvaluationDetails.read(evaluated.evaluation_details)
    assert details.corrupted_images == answers.corrupted_images
    assert 0 < evaluation.mean_corruption_accuracy < evaluation.accuracy
    correct = (frame["label"] == frame["predicted"]).groupby(frame["corruption"]).mean()
    assert details.corruption_accuracy == pytest.approx(correct.to_dict())
    rows = files.read_csv(evaluated.robustness_plot)
    means = rows.groupby("corruption")["accuracy"].mean()
    assert details.corruption_accuracy == pytest.approx(means.to_dict())


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_every_image_of_each_split_is_scored(
    evaluated: Paths, trained: Trained, test: Split, name: str
) -> None:
    """The processed images are padded and rescaled; the model gets the raw pixels again."""
    split = {"train": trained.train, "validation": trained.validation, "test": test}[name]
    answers = trained.model.predict_on_batch(split.images).argmax(axis=1)
    accuracy = (answers == split.labels).mean()
    low, high = metrics.wilson(accuracy, len(split.labels))
    evaluation = Evaluation.read(evaluated.evaluation)
    details = EvaluationDetails.read(evaluated.evaluation_details)
    assert details.splits[name] == SplitInterval(images=len(split.labels), low=low, high=high)
    of_split = {"train": "train_accuracy", "validation": "val_accuracy", "test": "accuracy"}
    assert getattr(evaluation, of_split[name]) == accuracy
    assert list(details.splits) == ["test", "train", "validation"]  # JSON has sorted keys
    assert 0 < low < accuracy < high < 1


@pytest.mark.integration
def test_stage_imports_neither_tensorflow_nor_keras(evaluated: Paths, tmp_path: Path) -> None:
    """Scoring, metrics and figures included. The backend that Keras would use has no influence."""
    again = Paths(tmp_path / "again")
    shutil.copytree(evaluated.root, again.root)
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(again.root), PARAMS.model_dump_json()],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "640 train images",
        "123 validation images",
        "250 test images",
    ]
    assert not {"tensorflow", "keras", "jax", "torch"} & set(json.loads(modules))
    assert "onnxruntime" in json.loads(modules)
    assert made(again) == made(evaluated)


def test_data_of_another_model_is_an_error(project: Paths, test: Split) -> None:
    dataset.save(project.raw, {"test": Split(test.images, test.labels[::-1])})
    with pytest.raises(DataError, match="differs from the one that the lineage recorded"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_training_data_of_another_model_are_an_error(project: Paths) -> None:
    processed = dataset.load(project.processed)
    dataset.save(project.processed, {"validation": processed.splits["validation"]}, padding=2)
    with pytest.raises(DataError, match="processed data differs from the one that the lineage recorded"):
        stage.run(project, PARAMS)


def test_damaged_data_is_an_error(project: Paths) -> None:
    flip_a_bit(project.raw / "test" / "images.npy", at=-300)
    with pytest.raises(DataError, match=r"test/images\.npy"):
        stage.run(project, PARAMS)


def test_model_file_of_another_training_is_an_error(project: Paths, trained: Trained) -> None:
    other = keras.models.clone_model(trained.model)
    project.onnx.write_bytes(onnx_export.export(other))
    with pytest.raises(DataError, match="differs from the one that the lineage recorded"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_missing_model_is_an_error_that_names_its_path(project: Paths) -> None:
    project.onnx.unlink()
    with pytest.raises(DataError, match=r"no model to evaluate(.|\n)*lenet5\.onnx"):
        stage.run(project, PARAMS)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_invalid_lineage_is_an_error(project: Paths, content: str | None) -> None:
    project.lineage.unlink()
    if content is not None:
        project.lineage.write_text(content)
    with pytest.raises(DataError, match=r"lineage\.json cannot be used"):
        stage.run(project, PARAMS)


def test_answers_that_are_nan_are_an_error(project: Paths, broken: keras.Sequential) -> None:
    place(project, broken)
    with pytest.raises(TrainingError, match="not probabilities"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)
