"""The recipes that are measured: ``params.yaml`` as it is, and those of ``recipes/``."""

from collections.abc import Mapping
from typing import Any

from lenet5.core.paths import Paths
from lenet5.stages import params, recipes
from lenet5.stages.params import Params

DEFAULT = "default"
"""``params.yaml`` as it is."""


def recipe(paths: Paths, name: str, overrides: Mapping[str, Any] | None = None) -> Params:
    """The parameters of a recipe, with further overrides by dotted name.

    Raises:
        UsageError: there is no such recipe, or no such parameter.
    """
    values = params.load(paths.params)
    if name != DEFAULT:
        values = recipes.load(paths.recipes, name).apply(values)
    return values.changed(overrides or {})
