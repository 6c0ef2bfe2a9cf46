"""Images of any classes, size and channels go through the stages under the names of their classes.

The data is synthetic: each class has a random picture, and its images are that picture with noise.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset, files
from lenet5.core.dataset import Description, Split
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, Training, Validation
from lenet5.model import keras_file, network, onnx_session
from lenet5.stages import params
from lenet5.stages.evaluate import stage as evaluate
from lenet5.stages.preprocess import stage as preprocess
from lenet5.stages.train import stage as train
from lenet5.stages.train.fit import untrained_network
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("other classes")]

CARD = """\
name: Shapes & <Co>
subject: noisy pictures
description: Random pictures with noise.
limits: [They show nothing.]
"""


@dataclass(frozen=True)
class Data:
    """A data set, and the parameters that fit its size."""

    classes: tuple[str, ...]
    side: int
    channels: int
    per_class: int
    """Train images of each class; there are half as many test images."""
    validation: int
    padding: int = 0
    calibration: str = "temperature"
    epochs: int = 2
    learning_rate: float = 0.008
    convolutions: str = "valid"
    """``train.padding``."""

    def draw(self, random: np.random.Generator, each: int, pictures: np.ndarray) -> Split:
        codes = np.repeat(np.arange(len(self.classes)), each)[random.permutation(len(self.classes) * each)]
        noise = random.integers(0, 256, (len(codes), *pictures.shape[1:]))
        images = (0.7 * pictures[codes] + 0.3 * noise).astype(np.uint8)
        return Split(images, codes.astype(np.uint8 if len(self.classes) <= 256 else np.uint16))

    def splits(self) -> dict[str, Split]:
        random = np.random.default_rng(7)
        shape = (self.side, self.side) if self.channels == 1 else (self.side, self.side, 3)
        pictures = random.integers(0, 256, (len(self.classes), *shape))
        train_, test = (self.draw(random, each, pictures) for each in (self.per_class, self.per_class // 2))
        return {"train": train_, "test": test}


SETS = {
    # names that a reader of tables or a formula would change
    "rgb": Data(("007", "NA", "$x$ <b>boot</b>"), 16, 3, 60, validation=30, calibration="none", epochs=3),
    "many": Data(
        tuple(f"character {i}" for i in range(300)),
        8,
        1,
        8,
        validation=600,
        padding=4,
        epochs=8,
        learning_rate=0.003,
        convolutions="same",
    ),
    "two": Data(("no defect", "defect"), 33, 1, 100, validation=100),
}


def prepare(root: Path, data: Data) -> Paths:
    """Write raw data that was validated, the card, and what the stages read of the checkout."""
    paths = Paths(root)
    root.mkdir()
    for name in ("dvc.yaml", "requirements.lock"):
        shutil.copyfile(REPOSITORY / name, root / name)
    (root / "src").symlink_to(REPOSITORY / "src")
    files.write_text(paths.data_card, CARD)
    description = Description(classes=data.classes, pictures="whole")
    raw = dataset.save(paths.raw, data.splits(), description=description)
    Validation(
        success=True,
        data_digest=raw.digest,
        images={"train": data.per_class * len(data.classes)},
        drift={},
        unexpected_images={},
        checks=[],
    ).write(paths.validation)
    return paths


def run_stages(paths: Paths, data: Data) -> None:
    real = params.load(REPOSITORY / "params.yaml")
    split = {"validation_images": data.validation, "padding": data.padding}
    preprocess.run(paths, real.preprocess.model_copy(update=split))
    settings: dict[str, object] = {"epochs": data.epochs, "batch_size": 16, "calibration": data.calibration}
    settings |= {"learning_rate": data.learning_rate, "padding": data.convolutions}
    train.run(paths, real.train.model_copy(update=settings))
    corrupted = real.evaluate.robustness.model_copy(update={"images": 30, "severities": [1, 5]})
    evaluate.run(paths, real.evaluate.model_copy(update={"robustness": corrupted}))


@pytest.fixture(scope="module")
def finished_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Paths]:
    """Run the stages on a data set once. The result is shared: read it, or work in a copy."""
    done: dict[str, Paths] = {}

    def get(name: str) -> Paths:
        if name not in done:
            done[name] = prepare(tmp_path_factory.mktemp("other") / name, SETS[name])
            run_stages(done[name], SETS[name])
        return done[name]

    return get


Get = Callable[[str], Paths]
every_set = pytest.mark.parametrize("name", SETS)


@every_set
def test_model_learns_the_classes_and_both_files_take_raw_pixels(finished_set: Get, name: str) -> None:
    paths, data = finished_set(name), SETS[name]
    evaluation = Evaluation.read(paths.evaluation)
    assert evaluation.accuracy > 0.6
    assert evaluation.train_accuracy > 0.6
    test = dataset.load(paths.raw).splits["test"]
    session = onnx_session.load(paths.onnx.read_bytes())
    assert session.get_inputs()[0].shape == ["images", *test.images.shape[1:]]
    assert onnx_session.description(session) == Description(classes=data.classes, pictures="whole")
    answers = onnx_session.probabilities(session, test.images[:20])
    assert answers.shape == (20, len(data.classes))
    loaded = keras_file.load(paths.model)
    assert Training.read(paths.training).parameters == loaded.count_params()
    np.testing.assert_allclose(answers, loaded.predict_on_batch(test.images[:20]), rtol=0, atol=1e-5)


@every_set
def test_tables_have_the_names_of_the_classes(finished_set: Get, name: str) -> None:
    paths, classes = finished_set(name), SETS[name].classes
    per_class = files.read_csv(paths.per_class, names=["class"])
    assert per_class["class"].tolist() == list(classes)
    assert per_class["images"].tolist() == [SETS[name].per_class // 2] * len(classes)
    predictions = pd.read_parquet(paths.predictions)
    assert predictions.columns[4:].tolist() == [f"p{position}" for position in range(len(classes))]
    confusion = files.read_csv(paths.confusion, names=["label", "predicted"])
    for column in ("label", "predicted"):
        assert confusion[column].tolist() == [classes[code] for code in predictions[column]]
    bins = files.read_csv(paths.slice_accuracy, names=["bin"])
    assert bins.loc[bins["slice"] == "class", "bin"].tolist() == list(classes)
    assert set(pd.read_parquet(paths.slices)["class"]) == set(classes)
    doubted = files.read_csv(paths.label_errors, names=["label", "likely"])
    assert set(doubted["label"]) | set(doubted["likely"]) <= set(classes)


@every_set
def test_label_errors_name_raw_images_with_their_class(finished_set: Get, name: str) -> None:
    paths, classes = finished_set(name), SETS[name].classes
    raw = dataset.load(paths.raw).splits
    doubted = files.read_csv(paths.label_errors, names=["label", "likely"])
    for split, part in doubted.groupby("split"):
        labels = raw["test" if split == "test" else "train"].labels[part["index"]]
        assert [classes[code] for code in labels] == part["label"].tolist()


@every_set
def test_page_is_small_names_the_data_and_knows_no_digit(finished_set: Get, name: str) -> None:
    paths, data = finished_set(name), SETS[name]
    page = paths.report.read_text(encoding="utf-8")
    assert len(page.encode()) < 3_000_000
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "LeNet-5 for noisy pictures (Shapes &amp; &lt;Co&gt;)" in text
    assert "not stated" in text  # the licence
    for word in ("digit", "handwrit", "mnist", "28x28"):
        assert word not in text.lower(), word
    assert f"{data.side}x{data.side}" + (" RGB" if data.channels == 3 else "") in text
    for shown in data.classes[:3]:
        assert shown.replace("<", "&lt;").replace(">", "&gt;") in text
    assert "<b>boot" not in page


def test_a_model_of_other_classes_is_an_error(finished_set: Get, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "copy")
    shutil.copytree(finished_set("two").root, paths.root, symlinks=True)
    raw = dataset.load(paths.raw)
    renamed = Description(classes=("good", "bad"), pictures="whole")
    splits = {name: Split(np.array(s.images), np.array(s.labels)) for name, s in raw.splits.items()}
    dataset.save(paths.raw, splits, description=renamed)  # the digest of the arrays stays
    with pytest.raises(
        DataError, match=r"trained on other classes(.|\n)*good(.|\n)*no defect(.|\n)*dvc repro"
    ):
        evaluate.run(paths, params.load(REPOSITORY / "params.yaml").evaluate)


def test_images_that_are_too_small_for_the_network_are_an_error_with_a_remedy(
    finished_set: Get, tmp_path: Path
) -> None:
    paths = prepare(tmp_path / "small", SETS["many"])
    real = params.load(REPOSITORY / "params.yaml")
    preprocess.run(paths, real.preprocess.model_copy(update={"validation_images": 600}))
    with pytest.raises(UsageError, match=r"too small(.|\n)*at least 10 rows(.|\n)*8x8(.|\n)*train\.padding"):
        train.run(paths, real.train)
    assert not paths.model.exists()


@pytest.mark.parametrize(
    ("update", "smallest"),
    [
        ({}, 10),
        ({"kernel_size": 5}, 16),
        ({"padding": "same"}, 4),
        ({"kernel_size": 5, "padding": "same"}, 4),
        ({"architecture": "mlp"}, 1),
    ],
)
def test_smallest_side_is_the_smallest_one_that_keras_accepts(
    update: dict[str, object], smallest: int
) -> None:
    settings = params.load(REPOSITORY / "params.yaml").train.model_copy(update=update)
    assert settings.smallest_side == smallest
    assert untrained_network((smallest, smallest, 3), 2, settings).output_shape == (None, 2)
    if settings.architecture == "lenet5":
        small = smallest - 1
        with pytest.raises(UsageError, match="too small"):
            untrained_network((small, small, 3), 2, settings)
        with pytest.raises(ValueError, match="Exception encountered|negative dimension|non-positive"):
            network.build(small, small, settings.kernel_size, classes=2, padding=settings.padding)


def test_two_runs_give_the_same_bytes(finished_set: Get, tmp_path: Path) -> None:
    first, again = finished_set("rgb"), prepare(tmp_path / "again", SETS["rgb"])
    run_stages(again, SETS["rgb"])
    for name in (
        "model",
        "onnx",
        "evaluation",
        "predictions",
        "robustness",
        "slices",
        "label_errors",
        "report",
    ):
        assert getattr(first, name).read_bytes() == getattr(again, name).read_bytes(), name
