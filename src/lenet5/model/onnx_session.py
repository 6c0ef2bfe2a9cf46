"""Answers from the ONNX file, with ONNX Runtime alone: no TensorFlow, no Keras."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet5.core.errors import DataError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PIXELS = "pixels"
"""The input: raw pixels, uint8 (images, 28, 28)."""
PROBABILITIES = "probabilities"
"""The output: float32 (images, 10)."""
BATCH = 64
"""Images a call, so few that what lies between two layers stays in a core's cache."""


def load(content: bytes) -> "InferenceSession":
    """A session on one core, from the bytes of the file.

    From bytes, since then a digest can be compared with what is loaded, and the file can name no others.

    Raises:
        DataError: they are no model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the model is too small to share
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, with no common parent
        raise DataError(
            "This is no model that ONNX Runtime can load.",
            expected="an ONNX file written by `lenet5 evaluate`",
            found=str(error).strip().splitlines()[0],
        ) from None


def probabilities(
    session: "InferenceSession", images: NDArray[np.uint8], batch_size: int = BATCH
) -> NDArray[np.float32]:
    """Score every image (N, 28, 28), the last, partial batch included: (N, 10)."""
    batches = range(0, len(images), batch_size)
    scored = [
        session.run([PROBABILITIES], {PIXELS: np.asarray(images[i : i + batch_size])})[0] for i in batches
    ]
    return np.concatenate(scored)
