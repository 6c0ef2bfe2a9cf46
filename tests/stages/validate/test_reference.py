"""The reference profile: made from MNIST's train images, finite everywhere, refused when it does not fit."""

import json
from pathlib import Path

import pytest

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.params import load
from lenet5.stages.validate import frames, reference
from tests.stages.validate.conftest import CHECKOUT, Splits


def test_the_committed_profile_is_that_of_mnist(mnist: Splits, tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    dataset.save(paths.raw, mnist)
    reference.update(paths, load(CHECKOUT.params).validate_)
    assert paths.reference.read_bytes() == CHECKOUT.reference.read_bytes()


def test_bins_and_classes_that_hold_nothing_keep_a_weight(splits: Splits) -> None:
    images = frames.images(splits, ink_threshold=0)
    threes = images[(images["label"] == 3) & (images["ink_bin"] == "0.20-0.22")]
    made = reference.profile(threes, made_from="threes", ink_threshold=0)
    assert min(made.ink.values()) > 0
    assert min(made.classes.values()) > 0
    assert sum(made.ink.values()) == pytest.approx(1)
    assert max(made.classes, key=made.classes.__getitem__) == "3"


def test_test_images_do_not_count(splits: Splits) -> None:
    whole = frames.images(splits, ink_threshold=0)
    alone = frames.images({"train": splits["train"]}, ink_threshold=0)
    made = [reference.profile(table, made_from="", ink_threshold=0) for table in (whole, alone)]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        ("{", "Invalid JSON"),
        ('{"ink": {}}', "classes"),
    ],
)
def test_no_profile(tmp_path: Path, content: str | None, found: str) -> None:
    path = tmp_path / "reference.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=found) as refusal:
        reference.load(path, ink_threshold=0)
    assert "python -m lenet5.stages.validate.reference" in str(refusal.value)


def test_profile_with_other_bins(tmp_path: Path) -> None:
    profile = json.loads(CHECKOUT.reference.read_text())
    profile["ink"]["0.00-0.08"] = profile["ink"].pop("0.00-0.06")
    files.write_json(tmp_path / "reference.json", profile)
    with pytest.raises(DataError, match=r"ink must be shares of 0\.00-0\.06, "):
        reference.load(tmp_path / "reference.json", ink_threshold=0)


def test_profile_made_with_another_ink_threshold() -> None:
    with pytest.raises(DataError, match="found:    ink_threshold 0"):
        reference.load(CHECKOUT.reference, ink_threshold=20)
