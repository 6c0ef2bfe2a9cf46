"""Data sets with other classes, sizes and channels are checked against their own reference."""

from pathlib import Path

import pytest

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import reference, stage
from lenet5.stages.validate.params import Validate
from tests.stages.validate import other_data


def test_data_set_passes_with_the_reference_that_the_update_made(tmp_path: Path, params: Validate) -> None:
    paths, limits = Paths(tmp_path), other_data.params_for(params, 16, 3)
    dataset.save(paths.raw, other_data.shapes(), description=other_data.SHAPES)
    message = reference.update(paths, limits)
    assert "4 classes (circle, square, triangle, cross)" in message
    assert "26 checks passed on 1,200 train and 400 test images" in stage.run(paths, limits)


def test_reference_of_another_data_set_is_refused(tmp_path: Path, params: Validate) -> None:
    paths, limits = Paths(tmp_path), other_data.params_for(params, 16, 3)
    splits = other_data.shapes(200, 100)
    dataset.save(paths.raw, splits, description=other_data.SHAPES)
    reference.update(paths, limits)
    letters = other_data.SHAPES.model_copy(update={"classes": ("a", "b", "c", "d")})
    dataset.save(paths.raw, splits, description=letters)
    with pytest.raises(DataError, match="belongs to another data set") as refusal:
        stage.run(paths, limits)
    assert "4 classes (a, b, c, d)" in str(refusal.value)
    assert "4 classes (circle, square, triangle, cross)" in str(refusal.value)
