"""The reference profile is made from the train images, has no empty bin, and is checked when it is read."""

import json
from pathlib import Path

import pytest

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.params import load
from lenet5.stages.validate import frames, reference
from tests.stages.validate.conftest import CHECKOUT, Splits


def test_committed_profile_equals_that_of_mnist(mnist: Splits, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    dataset.save(paths.raw, mnist)
    reference.update(paths, load(CHECKOUT.params).validate_)
    assert paths.reference.read_bytes() == CHECKOUT.reference.read_bytes()


def test_empty_bins_and_classes_have_a_weight(splits: Splits) -> None:
    images = frames.images(splits, ink_threshold=0)
    threes = images[(images["label"] == 3) & (images["ink_bin"] == "0.20-0.22")]
    profile = reference.profile(threes, made_from="threes", ink_threshold=0)
    assert min(profile.ink.values()) > 0
    assert min(profile.classes.values()) > 0
    assert sum(profile.ink.values()) == pytest.approx(1)
    assert max(profile.classes, key=profile.classes.__getitem__) == "3"


def test_profile_does_not_use_test_images(splits: Splits) -> None:
    both = frames.images(splits, ink_threshold=0)
    train = frames.images({"train": splits["train"]}, ink_threshold=0)
    profiles = [reference.profile(table, made_from="", ink_threshold=0) for table in (both, train)]
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        ("{", "Invalid JSON"),
        ('{"ink": {}}', "classes"),
    ],
)
def test_invalid_file_is_an_error(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "reference.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=problem) as refusal:
        reference.load(path, ink_threshold=0)
    assert "lenet5 validate --update-reference" in str(refusal.value)


def test_profile_with_other_bins_is_an_error(tmp_path: Path) -> None:
    profile = json.loads(CHECKOUT.reference.read_text())
    profile["ink"]["0.00-0.08"] = profile["ink"].pop("0.00-0.06")
    files.write_json(tmp_path / "reference.json", profile)
    with pytest.raises(DataError, match=r"ink must be shares of 0\.00-0\.06, "):
        reference.load(tmp_path / "reference.json", ink_threshold=0)


def test_profile_of_another_ink_threshold_is_an_error() -> None:
    with pytest.raises(DataError, match="found:    ink_threshold 0"):
        reference.load(CHECKOUT.reference, ink_threshold=20)
