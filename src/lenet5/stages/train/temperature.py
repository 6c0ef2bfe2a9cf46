"""Calibrate a network by temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017).

A temperature divides the logits before the softmax. It changes the confidence of an answer and never the
order of the probabilities. Label smoothing makes a network less confident than it is accurate; a long
training makes it more confident.
"""

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from lenet5.core.dataset import Split
from lenet5.core.errors import UsageError

MIN_IMAGES = 100
"""Validation images that a temperature needs. Ten images, as the notebook has, give one at random."""
LIMITS = (0.1, 10.0)
"""Limits of the temperature. Without a single mistake on the validation images, the lower one is the best."""
_DECIMALS = 4  # the search is more precise, so the last bits of a sum do not change the rounded value
_BATCH = 1000


def require_images(validation: Split) -> None:
    """Check that there are enough validation images.

    Raises:
        UsageError: there are fewer than ``MIN_IMAGES``.
    """
    if len(validation.images) < MIN_IMAGES:
        raise UsageError(
            "There are too few validation images to calibrate the model.",
            expected=f"preprocess.validation_images of at least {MIN_IMAGES}, or train.calibration none",
            found=len(validation.images),
            fix="change one of the two",
        )


def logits(network: keras.Sequential, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the softmax of the last layer gets, float64 (N, classes).

    Args:
        network: a network whose last layer is dense, with softmax.
        images: float32 (N, H, W, channels) in 0 to 1.
    """
    *layers, last = network.layers
    kernel, bias = (np.asarray(array, np.float64) for array in last.get_weights())
    parts = []
    for start in range(0, len(images), _BATCH):
        features = keras.ops.convert_to_tensor(images[start : start + _BATCH])
        for layer in layers:
            features = layer(features)
        # einsum, not @: the sums then do not depend on the processor's kernels for matrices
        exact = np.asarray(keras.ops.convert_to_numpy(features), np.float64)
        parts.append(np.einsum("nf,fc->nc", exact, kernel) + bias)
    return np.concatenate(parts)


def fit(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Return the temperature with the lowest cross-entropy, rounded to four decimals and within ``LIMITS``.

    Args:
        logits: float64 (N, classes).
        labels: positions of the classes, integers (N,).
    """
    rows = np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[rows, labels]).mean())

    found = minimize_scalar(cross_entropy, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8})
    return round(float(np.exp(found.x)), _DECIMALS)


def fold(network: keras.Sequential, temperature: float) -> None:
    """Divide kernel and bias of the last layer by the temperature."""
    last = network.layers[-1]
    last.set_weights([np.asarray(array) / np.float32(temperature) for array in last.get_weights()])
