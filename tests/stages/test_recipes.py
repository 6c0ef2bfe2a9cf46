"""Recipes name existing parameters, change each of them, and are valid options for DVC."""

import shlex
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from lenet5.core.errors import UsageError
from lenet5.stages import params, recipes
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "recipes"


@pytest.mark.parametrize("name", recipes.names(FOLDER))
def test_recipe_changes_every_parameter_that_it_names(name: str) -> None:
    default = params.load(REPOSITORY / "params.yaml")
    recipe = recipes.load(FOLDER, name)
    before, after = default.flat(), recipe.apply(default).flat()
    assert {key: after[key] for key in after if after[key] != before[key]} == recipe.overrides


def test_dvc_writes_the_values_of_the_recipe(tmp_path: Path) -> None:
    """``dvc exp run -S`` calls this function."""
    for name in recipes.names(FOLDER):
        recipe = recipes.load(FOLDER, name)
        path = Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / f"{name}.yaml"))
        flags, values = shlex.split(recipe.options)[::2], shlex.split(recipe.options)[1::2]
        assert set(flags) == {"-S"}
        apply_overrides(path, values)
        assert params.load(path) == recipe.apply(params.load(REPOSITORY / "params.yaml"))


def test_unknown_recipe_is_an_error_that_lists_the_existing_ones() -> None:
    with pytest.raises(UsageError, match="accuracy or fast or mlp or notebook or robust"):
        recipes.load(FOLDER, "slow")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a recipe"),
        ("about: x", "overrides"),
        ("about: x\noverrides: {train.epoch: 3}", "train.epoch: there is no 'epoch' here"),
        ("about: x\noverrides: {train.epochs: 0, train.seed: -1}", "train.epochs: Input should be greater"),
        ("about: x\noverrides: {train.seed.low: 1}", "train.seed"),
    ],
)
def test_invalid_recipe_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        recipes.load(tmp_path, "mine").apply(params.load(REPOSITORY / "params.yaml"))
    assert message in str(refused.value)
