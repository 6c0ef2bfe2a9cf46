"""Other values for ``params.yaml`` that go together, by name: a file in ``recipes/`` each.

A recipe says what is different, and why somebody would want it. DVC runs it as an experiment:
``dvc exp run $(lenet5 recipe fast)``.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lenet5.core.errors import UsageError
from lenet5.stages.params import Params


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    about: str
    overrides: dict[str, Any]
    """By dotted name."""

    def apply(self, params: Params) -> Params:
        """Parameters with the recipe's values in their place.

        Raises:
            UsageError: a name or a value is none that ``params.yaml`` could have.
        """
        return params.changed(self.overrides)

    @property
    def options(self) -> str:
        """What `dvc exp run` takes."""
        return options(self.overrides)


def options(values: Mapping[str, Any]) -> str:
    """Values by dotted name, as the options by which `dvc exp run` takes them."""
    return " ".join(f"-S {shlex.quote(f'{name}={value}')}" for name, value in values.items())


def names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def load(folder: Path, name: str) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is none of that name, or the file is not one.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        raise UsageError(
            f"There is no recipe {name!r}.",
            expected=" or ".join(names(folder)),
            fix="`lenet5 recipe` tells of each",
        )
    try:
        return Recipe.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(f"{path} is no recipe.", expected="`about` and `overrides`", found=error) from None
