"""The reference profile is made from the train images, has no empty bin, and is checked when it is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from lenet5.core import dataset, files
from lenet5.core.dataset import Array
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import classifier, frames, reference
from lenet5.stages.validate.params import Validate
from tests.stages.validate.conftest import CHECKOUT, Splits


def profile(images: pd.DataFrame, params: Validate) -> reference.Profile:
    known = reference.load(CHECKOUT.reference, params).profile
    return reference.profile(
        images,
        known.statistics,
        made_from="",
        names=known.names,
        shape=known.shape,
        ink_threshold=0,
        ink_edges=known.ink_edges,
        classifier_sha256="",
    )


def described(splits: Splits, params: Validate) -> pd.DataFrame:
    edges = reference.load(CHECKOUT.reference, params).profile.ink_edges
    return frames.images(splits, ink_threshold=0, ink_edges=edges)


@pytest.mark.long
def test_committed_reference_is_that_of_mnist(mnist: Splits, params: Validate, tmp_path: Path) -> None:
    """Another processor may change the last bits of the classifier, and with them its checksum."""
    paths = Paths(tmp_path)
    dataset.save(paths.raw, mnist)
    reference.update(paths, params)
    made, committed = (reference.load(file, params) for file in (paths.reference, CHECKOUT.reference))
    ignored = {"classifier_sha256": "", "statistics": committed.profile.statistics}
    assert made.profile.model_copy(update=ignored) == committed.profile.model_copy(update=ignored)
    for name, value in made.profile.statistics:
        assert value == pytest.approx(getattr(committed.profile.statistics, name), rel=1e-3)
    images = mnist["test"].images[:1000]
    for mine, theirs in zip(made.classifier.scores(images), committed.classifier.scores(images), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
    before = {file.name: file.read_bytes() for file in paths.reference.parent.glob("reference.*")}
    reference.update(paths, params)
    assert before == {file.name: file.read_bytes() for file in paths.reference.parent.glob("reference.*")}


def test_empty_bins_and_classes_have_a_weight(splits: Splits, params: Validate) -> None:
    images = described(splits, params)
    threes = images[(images["label"] == 3) & (images["ink_bin"] == "0.20-0.22")]
    made = profile(threes, params)
    assert min(made.ink.values()) > 0
    assert min(made.classes.values()) > 0
    assert sum(made.ink.values()) == pytest.approx(1)
    assert max(made.classes, key=made.classes.__getitem__) == "3"


def test_profile_does_not_use_test_images(splits: Splits, params: Validate) -> None:
    both = described(splits, params)
    train = described({"train": splits["train"]}, params)
    profiles = [profile(table, params).model_copy(update={"totals": {}}) for table in (both, train)]
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        ("{", "Invalid JSON"),
        ('{"ink": {}}', "classes"),
    ],
)
def test_invalid_file_is_an_error(
    tmp_path: Path, params: Validate, content: str | None, problem: str
) -> None:
    path = tmp_path / "reference.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=problem) as refusal:
        reference.load(path, params)
    assert "lenet5 validate --update-reference" in str(refusal.value)


def test_profile_with_other_bins_is_an_error(tmp_path: Path, params: Validate) -> None:
    profile = json.loads(CHECKOUT.reference.read_text())
    profile["ink"]["0.00-0.08"] = profile["ink"].pop("0.00-0.06")
    files.write_json(tmp_path / "reference.json", profile)
    with pytest.raises(DataError, match=r"ink must be shares of 0\.00-0\.06, "):
        reference.load(tmp_path / "reference.json", params)


def test_profile_of_another_ink_threshold_is_an_error(params: Validate) -> None:
    with pytest.raises(DataError, match="found:    ink_threshold 0"):
        reference.load(CHECKOUT.reference, params.model_copy(update={"ink_threshold": 20}))


@pytest.mark.parametrize("damage", ["missing", "cut off", "of another profile"])
def test_classifier_that_does_not_belong_to_the_profile_is_an_error(
    tmp_path: Path, params: Validate, damage: str
) -> None:
    path = Path(shutil.copy(CHECKOUT.reference, tmp_path))
    content = reference.classifier_path(CHECKOUT.reference).read_bytes()
    if damage != "missing":
        changed = content[:-100] if damage == "cut off" else content[:5000] + b"x" + content[5001:]
        reference.classifier_path(path).write_bytes(changed)
    with pytest.raises(DataError, match=r"reference\.npz cannot be used") as refusal:
        reference.load(path, params)
    assert "lenet5 validate --update-reference" in str(refusal.value)


def test_reference_of_images_of_another_size_is_an_error(params: Validate) -> None:
    with pytest.raises(DataError, match="found:    28x28 images"):
        reference.load(CHECKOUT.reference, params.model_copy(update={"height": 32}))


@pytest.mark.slow
def test_classifier_is_the_one_of_scikit_learn(splits: Splits) -> None:
    """The stored arrays give the same scores as the estimators that they come from."""
    train, test = splits["train"], splits["test"]
    fitted, statistics = classifier.fit(train.images, train.labels)
    agreeing = fitted.scores(test.images)[0].argmax(axis=1) == test.labels
    assert agreeing.mean() == pytest.approx(statistics.mean_agreement, abs=0.02)
    halves = train.images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255
    estimator = make_pipeline(
        PCA(classifier.COMPONENTS, svd_solver="covariance_eigh"),
        QuadraticDiscriminantAnalysis(reg_param=0.005, priors=np.full(10, 0.1)),
    ).fit(halves, train.labels)
    tested = test.images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255
    assert (estimator.predict(tested) == fitted.scores(test.images)[0].argmax(axis=1)).mean() > 0.999


@pytest.mark.parametrize("labels", [np.zeros(200, np.uint8), np.repeat([0, 1], [199, 1])])
def test_too_few_images_for_a_classifier_are_an_error(labels: Array) -> None:
    with pytest.raises(DataError, match="two classes or more with at least 2"):
        classifier.fit(np.zeros((200, 28, 28), np.uint8), labels)
