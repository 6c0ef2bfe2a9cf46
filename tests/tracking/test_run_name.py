"""Names of runs: what a training changes against the default parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lenet5.core.paths import Paths
from lenet5.stages import params, recipes
from lenet5.tracking import run_name
from tests.conftest import REPOSITORY

PATHS = Paths(REPOSITORY)
PARAMS = params.load(PATHS.params)


def test_the_defaults_are_those_of_params_yaml() -> None:
    """Copy a changed default into ``default_params.yaml``: names of runs are written against it."""
    of_file = {
        name: value for name, value in PARAMS.flat().items() if name.startswith(("preprocess.", "train."))
    }
    assert run_name.defaults() == of_file


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "default parameters"),
        ({"preprocess.padding": 2, "train.kernel_size": 5}, "kernel 5, padding 2"),
        ({"train.padding": "same"}, "padding same"),
        ({"train.distortion.shift": 1.0}, "distortion shift 1"),
        ({"register.floors.accuracy": 0.9, "evaluate.mistakes": 3}, "default parameters"),
        (
            {
                "train.seed": 1,
                "train.l2": 0.5,
                "train.optimizer": "adam",
                "train.epochs": 3,
                "train.patience": 1,
            },
            "seed 1, l2 0.5, optimizer adam, epochs 3, 1 more",
        ),
    ],
)
def test_a_name_says_what_shapes_the_model_differently(changed: Mapping[str, Any], name: str) -> None:
    assert run_name.name(PATHS, PARAMS.changed(changed).flat()) == name


@pytest.mark.parametrize("recipe", sorted(file.stem for file in PATHS.recipes.glob("*.yaml")))
def test_a_recipe_is_named_as_such(recipe: str) -> None:
    flat = recipes.load(PATHS.recipes, recipe).apply(PARAMS).flat()
    assert run_name.name(PATHS, flat) == recipe
    assert run_name.name(PATHS, {**flat, "train.seed": 5}) == f"{recipe}, seed 5"


def test_all_changes_are_listed_as_options_of_dvc() -> None:
    changed = PARAMS.changed({"preprocess.padding": 2, "train.kernel_size": 5}).flat()
    assert run_name.summary(changed) == "train.kernel_size=5, preprocess.padding=2"
    assert run_name.summary(PARAMS.flat()) == "none"


def test_a_file_that_is_no_recipe_is_no_obstacle(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.recipes.mkdir()
    (paths.recipes / "broken.yaml").write_text("overrides: [")
    (paths.recipes / "list.yaml").write_text("[1, 2]")
    assert run_name.name(paths, {"train.kernel_size": 5}) == "kernel 5"


def test_parameters_of_preprocess_are_read_from_the_checkout(tmp_path: Path) -> None:
    assert run_name.other_sections(Paths(tmp_path)) == {}
    assert run_name.other_sections(PATHS)["preprocess.padding"] == 0
