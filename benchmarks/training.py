"""The product's own training, for the parts and programs that measure it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.core.paths import Paths
from lenet5.stages import params, recipes
from lenet5.stages.params import Params

DEFAULT = "default"
"""The recipe ``params.yaml``."""


def recipe(paths: Paths, name: str, overrides: Mapping[str, Any] | None = None) -> Params:
    """The parameters of a recipe, with further overrides by dotted name.

    Raises:
        UsageError: there is no such recipe, or no such parameter.
    """
    values = params.load(paths.params)
    if name != DEFAULT:
        values = recipes.load(paths.recipes, name).apply(values)
    return values.changed(overrides or {})


def correct(network: Any, padding: int, test: Split) -> NDArray[np.bool_]:
    """The test images that a trained network classifies correctly, bool (N,).

    Like `evaluate`, it scores the network behind its own preprocessing.

    Args:
        network: the trained network of ``fit``.
        padding: rows and columns of zeros around the images that it was trained on.
        test: raw images uint8 (N, 28, 28) and labels (N,).
    """
    from lenet5.model.metrics import probabilities
    from lenet5.model.network import with_preprocessing

    scores = probabilities(with_preprocessing(network, padding), test.images, batch_size=1000)
    right: NDArray[np.bool_] = scores.argmax(axis=1) == test.labels
    return right
