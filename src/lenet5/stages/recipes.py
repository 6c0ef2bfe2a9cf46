"""Read recipes: named sets of values for ``params.yaml``, one file each in ``recipes/``.

DVC runs a recipe as an experiment: ``dvc exp run $(lenet5 recipe fast)``.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.text import did_you_mean
from lenet5.stages.params import Params


class Recipe(BaseModel):
    """The purpose of a recipe and the values that it changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    about: str
    overrides: dict[str, Any]
    """Values by dotted name."""

    def apply(self, params: Params) -> Params:
        """Return the parameters with the values of the recipe.

        Raises:
            UsageError: a name is unknown, or a value is out of range.
        """
        return params.changed(self.overrides)

    @property
    def options(self) -> str:
        """Return the options for ``dvc exp run``."""
        return options(self.overrides)


def options(values: Mapping[str, Any]) -> str:
    """Return values by dotted name as options for ``dvc exp run``."""
    return " ".join(f"-S {shlex.quote(f'{name}={value}')}" for name, value in values.items())


def names(folder: Path) -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def load(folder: Path, name: str) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is no recipe of that name, or the file is not a recipe.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        raise UsageError(
            f"There is no recipe {name!r}.",
            expected=" or ".join(names(folder)),
            found=name,
            fix=did_you_mean(name, names(folder)) or "`lenet5 recipe` describes each one",
        )
    try:
        return Recipe.model_validate(YAML(typ="safe").load(files.read_text(path)))
    except (YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(
            f"{path} is not a recipe.",
            expected="the keys `about` and `overrides`",
            found=error,
            fix="correct the file",
        ) from None
