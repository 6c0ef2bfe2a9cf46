"""``lenet5 predict`` uses the current version and its registered bytes, and imports no heavy package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from lenet5.core import files
from lenet5.core.errors import DataError, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage
from lenet5.serving import predictor
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.conftest import REPOSITORY, Arrays, Project, flip_a_bit

MODEL = "lenet5-mnist"
HEAVY = ("tensorflow", "keras", "mlflow", "pandas", "sqlalchemy", "onnx")


@pytest.fixture(scope="module")
def pictures(digits: Arrays, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of digits, more than one batch."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number:03}.png" for number in range(150)]
    for path, image in zip(paths, digits["test_images"], strict=False):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def paths(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout with its own registry and no downloaded file."""
    paths = Paths(tmp_path / "checkout")
    shutil.copytree(LocalState(finished.paths.root).mlflow, LocalState(paths.root).mlflow)
    for name, value in settings.embedded(paths).items():
        monkeypatch.setenv(name, value)
    return paths


@pytest.fixture
def client(paths: Paths) -> MlflowClient:
    return MlflowClient(settings.embedded(paths)["MLFLOW_TRACKING_URI"])


def digest(client: MlflowClient) -> str:
    return json.loads(client.get_model_version(MODEL, "1").tags[tags.MODEL_FOLDER])[tags.ONNX_FILE]


def test_version_holds_the_onnx_file_of_the_stage(
    finished: Project, client: MlflowClient, tmp_path: Path
) -> None:
    assert digest(client) == files.sha256(finished.paths.onnx)
    # MLflow loads it with its ONNX flavor
    loaded = mlflow.onnx.load_model(f"models:/{MODEL}/1", dst_path=str(tmp_path))
    assert [value.name for value in loaded.graph.input] == ["pixels"]


def test_downloaded_file_is_reused_and_the_version_is_queried_again(
    paths: Paths, client: MlflowClient, pictures: list[Path], digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predictor.predict(paths, MODEL, "champion", pictures)
    right = np.array([int(answer["class"]) for answer in first]) == digits["test_labels"][: len(pictures)]
    assert np.mean(right) > 0.8
    assert [file.name for file in LocalState(paths.root).models.iterdir()] == [f"{digest(client)}.onnx"]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "lenet5.registry.model_versions", None)  # an import of this module fails
        assert predictor.predict(paths, MODEL, "@champion", pictures) == first
        assert predictor.predict(paths, MODEL, "1", pictures[-1:]) == first[-1:]
    client.delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(UsageError, match=r"has no version 'champion'"):
        predictor.predict(paths, MODEL, "champion", pictures)


def test_damaged_download_is_downloaded_again(
    paths: Paths, client: MlflowClient, pictures: list[Path]
) -> None:
    first = predictor.predict(paths, MODEL, "1", pictures)
    [cached] = LocalState(paths.root).models.iterdir()
    flip_a_bit(cached, at=-1000)
    assert predictor.predict(paths, MODEL, "1", pictures) == first
    assert files.sha256(cached) == digest(client)


def test_file_with_another_digest_than_the_registered_one_is_an_error(
    paths: Paths, client: MlflowClient, pictures: list[Path]
) -> None:
    predictor.predict(paths, MODEL, "1", pictures)
    folder = json.loads(client.get_model_version(MODEL, "1").tags[tags.MODEL_FOLDER])
    folder[tags.ONNX_FILE] = "0" * 64
    client.set_model_version_tag(MODEL, "1", tags.MODEL_FOLDER, json.dumps(folder))
    with pytest.raises(DataError, match=rf"ONNX file .* is not the one that was registered(.|\n)*{'0' * 64}"):
        predictor.predict(paths, MODEL, "1", pictures)
    assert len(list(LocalState(paths.root).models.iterdir())) == 1


def test_version_without_an_onnx_file_is_scored_with_keras(
    paths: Paths, client: MlflowClient, pictures: list[Path]
) -> None:
    expected = predictor.predict(paths, MODEL, "1", pictures)
    shutil.rmtree(LocalState(paths.root).models)
    folder = json.loads(client.get_model_version(MODEL, "1").tags[tags.MODEL_FOLDER])
    del folder[tags.ONNX_FILE]
    client.set_model_version_tag(MODEL, "1", tags.MODEL_FOLDER, json.dumps(folder))
    answers = predictor.predict(paths, MODEL, "1", pictures)
    assert [answer["class"] for answer in answers] == [answer["class"] for answer in expected]
    np.testing.assert_allclose(
        [answer["probability"] for answer in answers],
        [answer["probability"] for answer in expected],
        atol=1e-5,
    )
    assert not LocalState(paths.root).models.exists()


def test_server_that_does_not_answer_is_an_error(
    paths: Paths, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.predict(paths, MODEL, "1", pictures)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match="does not answer"):
        predictor.predict(paths, MODEL, "1", pictures)


@pytest.mark.integration
def test_documented_client_needs_neither_tensorflow_nor_mlflow(
    finished: Project, digits: Arrays, tmp_path: Path
) -> None:
    text = (REPOSITORY / "docs/tracking.md").read_text().partition("Without TensorFlow")[2]
    fetch, use = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)[:2]
    uri = settings.embedded(finished.paths)["MLFLOW_TRACKING_URI"]
    # plain `mlflow` can write to the home folder, so it gets another one
    environment = finished.environment() | {"MLFLOW_TRACKING_URI": uri, "HOME": str(tmp_path)}
    subprocess.run(fetch, shell=True, env=environment, cwd=tmp_path, capture_output=True, check=True)
    np.save(tmp_path / "images.npy", digits["test_images"][:100])
    script = (
        "import sys, numpy\n"
        "sys.modules |= dict.fromkeys(['lenet5', 'tensorflow', 'keras', 'mlflow', 'onnx'])  # no import\n"
        "images = numpy.load('images.npy')\n"
        f"{use}\n"
        "print(*probabilities.argmax(axis=1))\n"
        "print(session.get_modelmeta().custom_metadata_map['lenet5.weights'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *answers, weights = done.stdout.split()
    assert (np.array(answers, int) == digits["test_labels"][:100]).mean() > 0.8
    assert weights == Lineage.read(finished.paths.lineage).weights


def test_command_imports_no_heavy_package(finished: Project, pictures: list[Path]) -> None:
    finished.run("lenet5", "predict", str(pictures[0]))  # this downloads the file
    script = (
        "import sys\n"
        "from lenet5.cli import app\n"
        "app(['predict', *sys.argv[1:]], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = finished.command("python", "-c", script, str(pictures[0]))
    assert "probability" in done.stdout
    assert not set(HEAVY) & set(done.stderr.split())
    assert "onnxruntime" in done.stderr.split()
