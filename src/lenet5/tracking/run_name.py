"""Names of runs: what a training changes against the default parameters.

``default_params.yaml`` beside this module holds the defaults of the sections that shape a model. A name
depends on the parameters alone, so an empty store gets the same names again.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lenet5.core import files
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths

DEFAULTS = Path(__file__).with_name("default_params.yaml")
SECTIONS = ("train", "preprocess")
"""The sections whose values shape a model, in the order of a name."""
DEFAULT = "default parameters"
_SHOWN = 4
"""Changes in a name; of more, the number is shown."""
_PARAMS_PER_RECIPE = 1
"""How many changes a recipe's name stands for at least, beside itself."""


def name(paths: Paths, params: Mapping[str, Any]) -> str:
    """Return the name of a run: a recipe, changed parameters, or both: ``accuracy, epochs 20``.

    Of all recipes, the name takes the one that leaves the fewest changes to tell.

    Args:
        paths: The checkout, for its recipes.
        params: Every parameter, by dotted name. Missing ones count as unchanged.
    """
    shortest = changes(params, {})
    base = ""
    for recipe, overrides in _recipes(paths).items():
        rest = changes(params, overrides)
        if len(rest) + _PARAMS_PER_RECIPE <= len(shortest):
            shortest, base = rest, recipe
    told = [_words(parameter, value) for parameter, value in shortest.items()]
    if len(told) > _SHOWN:
        told = [*told[:_SHOWN], f"{len(told) - _SHOWN} more"]
    return ", ".join([base] * bool(base) + told) or DEFAULT


def summary(params: Mapping[str, Any]) -> str:
    """Return all changes against the defaults, as ``dvc exp run -S`` takes them, or ``none``."""
    return ", ".join(f"{parameter}={value}" for parameter, value in changes(params, {}).items()) or "none"


def changes(params: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that differ from the defaults with some overrides, by dotted name."""
    base = {**defaults(), **overrides}
    return {
        parameter: params[parameter]
        for section in SECTIONS
        for parameter, value in base.items()
        if parameter.startswith(f"{section}.") and params.get(parameter, value) != value
    }


def other_sections(paths: Paths) -> dict[str, Any]:
    """Return the parameters of ``preprocess`` in ``params.yaml``, by dotted name; empty without the file."""
    if not paths.params.exists():
        return {}
    content = files.read_yaml(paths.params, fix="`git checkout params.yaml`")
    return {f"preprocess.{key}": value for key, value in content.get("preprocess", {}).items()}


@cache
def defaults() -> dict[str, Any]:
    """Return the default of each parameter that shapes a model, by dotted name."""
    return dict(files.read_yaml(DEFAULTS, fix="install the package again"))


def _recipes(paths: Paths) -> dict[str, dict[str, Any]]:
    """Return the overrides of each recipe of the checkout, by its name."""
    found = {}
    for file in sorted(paths.recipes.glob("*.yaml")):
        with suppress(Lenet5Error):  # `lenet5 recipe` reports a file that is no recipe
            content = files.read_yaml(file, fix="correct the file")
            if isinstance(content, dict) and isinstance(content.get("overrides"), dict):
                found[file.stem] = content["overrides"]
    return found


def _words(parameter: str, value: object) -> str:
    """Return a parameter and its value in words: ``kernel 5``."""
    words = parameter.partition(".")[2].replace(".", " ").replace("_", " ").removesuffix(" size")
    return f"{words} {value:.4g}" if isinstance(value, float) else f"{words} {value}"
