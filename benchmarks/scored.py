"""Which test images a network that was just trained reads right, as a client would ask it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Split


def correct(network: Any, padding: int, test: Split) -> NDArray[np.bool_]:
    """Score a trained network behind its own preprocessing, as `evaluate` does: bool (N,).

    Args:
        network: what ``fit`` gives.
        padding: of the images that it was trained on.
        test: raw images uint8 (N, 28, 28) and labels (N,).
    """
    from lenet5.model.metrics import probabilities
    from lenet5.model.network import with_preprocessing

    answers = probabilities(with_preprocessing(network, padding), test.images, batch_size=1000)
    right: NDArray[np.bool_] = answers.argmax(axis=1) == test.labels
    return right
