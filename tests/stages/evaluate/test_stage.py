"""The stage scores every test image, and only if the model and the data belong together."""

import shutil
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
from lenet5.core.results import Evaluation
from lenet5.model import keras_file, onnx_export, onnx_session
from lenet5.stages.evaluate import stage
from lenet5.stages.evaluate.params import Evaluate
from tests.conftest import flip_a_bit
from tests.stages.evaluate.conftest import PARAMS, Trained, place, prepare

pytestmark = pytest.mark.xdist_group("evaluate")  # the tests share one evaluated project

OUTPUTS = ("onnx", "evaluation", "predictions", "per_class", "confusion", "calibration", "figures", "report")


def made(paths: Paths) -> dict[str, bytes]:
    """Return the content of every output of the stage."""
    contents = {}
    for name in OUTPUTS:
        path = getattr(paths, name)
        for file in sorted(path.glob("*")) if path.is_dir() else [path]:
            contents[f"{name}/{file.name}"] = file.read_bytes()
    return contents


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, trained: Trained, test: Split) -> Paths:
    """A project after the stage. It is shared: read it, or work in a copy."""
    paths = prepare(tmp_path_factory.mktemp("evaluated") / "project", trained, test)
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
    assert len(frame) == Evaluation.read(evaluated.evaluation).images == 250
    np.testing.assert_array_equal(frame["label"], test.labels)
    np.testing.assert_allclose(frame.filter(regex=r"^p\d$"), probabilities, atol=1e-6)
    accuracy = (probabilities.argmax(axis=1) == test.labels).mean()
    assert Evaluation.read(evaluated.evaluation).accuracy == accuracy
    assert 0.6 < accuracy < 1


def test_tables_agree_with_the_metrics(evaluated: Paths) -> None:
    evaluation = Evaluation.read(evaluated.evaluation)
    per_class, confusion = pd.read_csv(evaluated.per_class), pd.read_csv(evaluated.confusion)
    assert evaluation.model == files.sha256(evaluated.model)[:16]
    assert evaluation.onnx_file == files.sha256(evaluated.onnx)
    assert evaluation.predictions == files.sha256(evaluated.predictions)[:16]
    assert evaluation.test_data == dataset.load_manifest(evaluated.raw).splits["test"].digest
    assert per_class["recall"].min() == evaluation.worst_class_recall
    assert per_class["images"].sum() == len(confusion) == 250
    assert (confusion["label"] == confusion["predicted"]).mean() == evaluation.accuracy
    assert pd.read_csv(evaluated.calibration)["images"].sum() == 250


def test_two_runs_give_the_same_bytes(evaluated: Paths, project: Paths) -> None:
    assert len(made(evaluated)) == 11
    stage.run(project, PARAMS)
    assert made(project) == made(evaluated)


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        (
            "calibration_bins",
            3,
            {"calibration/calibration.csv", "figures/calibration.png", "evaluation/evaluation.json"},
        ),
        ("mistakes", 1, {"figures/mistakes.png"}),
    ],
)
def test_parameter_changes_its_output(
    evaluated: Paths, tmp_path: Path, name: str, value: Any, changes: set[str]
) -> None:
    """A second run in the same folder replaces the outputs, and gives the same bytes for all others."""
    assert set(Evaluate.model_fields) == {"batch_size", "calibration_bins", "mistakes"}
    again = Paths(tmp_path / "again")
    shutil.copytree(evaluated.root, again.root)
    stage.run(again, PARAMS.model_copy(update={name: value}))
    before, after = made(evaluated), made(again)
    assert before.keys() == after.keys()
    shown = {"report/report.html"}  # the page shows all of them
    assert {output for output in after if after[output] != before[output]} == changes | shown


@pytest.mark.parametrize(("size", "batches"), [(64, [64, 64, 64, 58]), (125, [125, 125]), (1000, [250])])
def test_batch_size_is_the_number_of_images_in_one_call(
    project: Paths, broken: keras.Sequential, monkeypatch: pytest.MonkeyPatch, size: int, batches: list[int]
) -> None:
    """The answers of this model end the stage after the images are scored, which saves the rest."""
    sizes: list[int] = []
    original = keras.Sequential.predict_on_batch

    def counted(model: keras.Sequential, images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return original(model, images)

    monkeypatch.setattr(keras.Sequential, "predict_on_batch", counted)
    place(project, broken, dataset.load_manifest(project.raw).digest)
    with pytest.raises(TrainingError, match="not probabilities"):
        stage.run(project, PARAMS.model_copy(update={"batch_size": size}))
    assert sizes == batches


def test_onnx_file_gives_the_same_answers(evaluated: Paths, trained: Trained, test: Split) -> None:
    probabilities = onnx_session.probabilities(onnx_session.load(evaluated.onnx.read_bytes()), test.images)
    np.testing.assert_allclose(probabilities, trained.model.predict_on_batch(test.images), rtol=0, atol=1e-5)


def test_onnx_file_with_other_answers_is_an_error(
    project: Paths, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = keras.models.clone_model(trained.model)
    other.set_weights([weights * 1.001 for weights in trained.model.get_weights()])
    exported = onnx_export.export(other)
    monkeypatch.setattr(onnx_export, "export", lambda _: exported)
    with pytest.raises(TrainingError, match=r"does not give the model's answers(.|\n)*images beyond"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_one_different_probability_is_an_error(trained: Trained, test: Split) -> None:
    exported, answers = onnx_export.export(trained.model), trained.model.predict_on_batch(test.images)
    stage.require_same_answers(exported, test.images, answers + np.float32(5e-6))
    for wrong in (2e-5, -2e-5, np.nan):
        others = answers.copy()
        others[-1, 3] += wrong
        with pytest.raises(TrainingError, match="1 images beyond, image 249 by"):
            stage.require_same_answers(exported, test.images, others)


def test_data_of_another_model_is_an_error(project: Paths, test: Split) -> None:
    dataset.save(project.raw, {"test": Split(test.images, test.labels[::-1])})
    with pytest.raises(DataError, match="differs from the one that the lineage recorded"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_damaged_data_is_an_error(project: Paths) -> None:
    flip_a_bit(project.raw / "test" / "images.npy", at=-300)
    with pytest.raises(DataError, match=r"test/images\.npy"):
        stage.run(project, PARAMS)


def test_model_file_of_another_training_is_an_error(project: Paths, trained: Trained) -> None:
    other = keras.models.clone_model(trained.model)
    keras_file.save(other, project.model)
    with pytest.raises(DataError, match="differs from the one that the lineage recorded"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)


def test_missing_model_is_an_error_that_names_its_path(project: Paths) -> None:
    project.model.unlink()
    with pytest.raises(DataError, match=r"lenet5\.keras"):
        stage.run(project, PARAMS)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_invalid_lineage_is_an_error(project: Paths, content: str | None) -> None:
    project.lineage.unlink()
    if content is not None:
        project.lineage.write_text(content)
    with pytest.raises(DataError, match=r"lineage\.json cannot be used"):
        stage.run(project, PARAMS)


def test_answers_that_are_nan_are_an_error(project: Paths, broken: keras.Sequential) -> None:
    place(project, broken, dataset.load_manifest(project.raw).digest)
    with pytest.raises(TrainingError, match="not probabilities"):
        stage.run(project, PARAMS)
    assert not any(getattr(project, name).exists() for name in OUTPUTS)
