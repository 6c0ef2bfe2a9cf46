"""Score images with the ONNX file and ONNX Runtime, without TensorFlow and Keras."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import DIGITS, Description
from lenet5.core.errors import DataError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PIXELS = "pixels"
"""Name of the input: raw pixels, uint8 (N, H, W), or (N, H, W, 3) for RGB."""
PROBABILITIES = "probabilities"
"""Name of the output: float32 (N, classes)."""
DESCRIPTION = "lenet5.description"
"""Metadata key of the ONNX file for what the model was trained on: a ``Description`` as JSON."""
BATCH = 64
"""Images in one call. With so few, the activations between two layers stay in the cache of a core."""


def load(content: bytes) -> "InferenceSession":
    """Load a model from the bytes of an ONNX file, to run on one core.

    The caller can compare the digest of exactly these bytes, and a model in memory cannot refer to other
    files.

    Raises:
        DataError: ONNX Runtime cannot load the bytes as a model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = (
        1  # the model is too small for more than one thread
    )
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no common base class
        raise DataError(
            "ONNX Runtime cannot load this model.",
            expected="an ONNX file written by `lenet5 train`",
            found=str(error).strip().splitlines()[0],
            fix="write the file again: `dvc repro --force train`",
        ) from None


def description(session: "InferenceSession") -> Description:
    """Return the names of the classes, and how pictures are converted, from the metadata of a model.

    Raises:
        DataError: the metadata is damaged.
    """
    text = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
    if text is None:  # a model of an earlier release
        return DIGITS
    try:
        return Description.model_validate_json(text)
    except ValueError as error:
        raise DataError(
            f"The model's metadata {DESCRIPTION} is damaged.",
            expected="the names of the classes, and how pictures are converted",
            found=error,
            fix="write the file again: `dvc repro --force train`",
        ) from None


def probabilities(
    session: "InferenceSession", images: NDArray[np.uint8], batch_size: int = BATCH
) -> NDArray[np.float32]:
    """Score all images, including the last partial batch.

    Args:
        session: the model.
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB.
        batch_size: images in one call.

    Returns:
        float32 (N, classes).
    """
    batches = range(0, len(images), batch_size)
    scored = [
        session.run([PROBABILITIES], {PIXELS: np.asarray(images[i : i + batch_size])})[0] for i in batches
    ]
    return np.concatenate(scored)
