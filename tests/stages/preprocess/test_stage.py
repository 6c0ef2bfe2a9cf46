"""The stage requires validated data, and its outputs depend on the data and the parameters only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.preprocess import stage
from lenet5.stages.preprocess.params import Preprocess
from tests.conftest import Arrays, flip_a_bit

RESULT: dict[str, Any] = {"images": {}, "drift": {}, "unexpected_images": {}, "checks": []}
PARAMS = Preprocess(seed=1998, validation_images=100, padding=0)


@pytest.fixture
def paths(tmp_path: Path, digits: Arrays) -> Paths:
    """Raw data that passed validation."""
    paths = Paths(tmp_path)
    raw = {
        "train": Split(digits["train_images"][:500], digits["train_labels"][:500]),
        "test": Split(digits["test_images"][:100], digits["test_labels"][:100]),
    }
    validated(paths, dataset.save(paths.raw, raw).digest)
    return paths


def validated(paths: Paths, digest: object, success: object = True) -> None:
    """Write the result of a validation."""
    paths.validation.parent.mkdir(exist_ok=True)
    paths.validation.write_text(json.dumps(RESULT | {"success": success, "data_digest": digest}))


def test_stage_writes_train_and_validation_only(paths: Paths) -> None:
    stage.run(paths, PARAMS)
    made = dataset.load(paths.processed)
    assert {name: split.images.shape for name, split in made.splits.items()} == {
        "train": (400, 28, 28, 1),
        "validation": (100, 28, 28, 1),
    }
    assert made.manifest.made_from == dataset.load_manifest(paths.raw).digest
    together = np.concatenate([split.images.sum(axis=(1, 2, 3)) for split in made.splits.values()])
    ink = dataset.load(paths.raw).splits["train"].images.sum(axis=(1, 2)) / 255
    np.testing.assert_allclose(np.sort(together), np.sort(ink), rtol=1e-4)


def test_same_inputs_give_the_same_bytes(paths: Paths) -> None:
    made = []
    for _ in range(2):
        stage.run(paths, PARAMS)
        made.append({path: path.read_bytes() for path in paths.processed.rglob("*") if path.is_file()})
    assert made[0] == made[1]


@pytest.mark.parametrize(("name", "value"), [("seed", 3), ("validation_images", 99), ("padding", 2)])
def test_every_parameter_changes_the_data(paths: Paths, name: str, value: Any) -> None:
    assert set(Preprocess.model_fields) == {"seed", "validation_images", "padding"}
    stage.run(paths, PARAMS)
    before = dataset.load_manifest(paths.processed).digest
    stage.run(paths, PARAMS.model_copy(update={name: value}))
    after = dataset.load_manifest(paths.processed)
    assert after.digest != before
    assert after.padding == (2 if name == "padding" else 0)


@pytest.mark.parametrize("changes", [{"success": False}, {"data_digest": "another"}])
def test_data_that_has_not_passed_validation_is_an_error(paths: Paths, changes: dict[str, Any]) -> None:
    result = json.loads(paths.validation.read_text())
    paths.validation.write_text(json.dumps(result | changes))
    with pytest.raises(DataError, match="has not passed validation"):
        stage.run(paths, PARAMS)
    assert not paths.processed.exists()


@pytest.mark.parametrize("content", [None, "", "{", "null", "[1]", "{}", '{"success": true}'])
def test_missing_validation_result_is_an_error(paths: Paths, content: str | None) -> None:
    paths.validation.unlink()
    if content is not None:
        paths.validation.write_text(content)
    with pytest.raises(DataError, match=r"reports/validation\.json cannot be used"):
        stage.run(paths, PARAMS)
    assert not paths.processed.exists()


def test_damaged_data_is_an_error(paths: Paths) -> None:
    flip_a_bit(paths.raw / "train" / "images.npy", at=-100)
    with pytest.raises(DataError, match=r"train/images\.npy"):
        stage.run(paths, PARAMS)
    assert not paths.processed.exists()
