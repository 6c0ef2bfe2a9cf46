"""The recipes that are measured: ``params.yaml``, and what differs from it."""

from collections.abc import Mapping
from typing import Any

from lenet5 import params
from lenet5.errors import UsageError
from lenet5.params import Params
from lenet5.paths import Paths

DEFAULT = "default"
"""``params.yaml`` as it is."""

_OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    "fast": {"train.epochs": 1, "train.batch_size": 64, "train.learning_rate": 0.006},
    "accuracy": {"train.epochs": 12},
    "notebook": {
        "train.batch_size": 64,
        "train.beta_2": 0.999,
        "train.epochs": 10,
        "train.label_smoothing": 0.0,
        "train.learning_rate": 0.001,
        "train.optimizer": "adam",
        "train.schedule": "constant",
    },
}


def recipe(paths: Paths, name: str, overrides: Mapping[str, Any] | None = None) -> Params:
    """The parameters of a recipe, checked, with further overrides by dotted name.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in _OVERRIDES:
        raise UsageError(f"There is no recipe {name!r}.", expected=", ".join(_OVERRIDES), found=name)
    tree = params.load(paths.params).model_dump(by_alias=True)
    for dotted, value in {**_OVERRIDES[name], **(overrides or {})}.items():
        *sections, key = dotted.split(".")
        inner = tree
        for section in sections:
            inner = inner[section]
        inner[key] = value
    return Params.model_validate(tree)
