"""Read digits from pictures with a registered version, without importing TensorFlow or MLflow if possible.

    1. query the registry for the current version and the SHA-256 of its ONNX file
    2. load that file from ``.lenet5/models``, or download it
    3. score the pictures with ONNX Runtime

A version of an earlier release has no ONNX file. Keras scores the pictures then, which takes seconds longer.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.registry import fast_lookup
from lenet5.serving import image_normalization
from lenet5.system import settings
from lenet5.system.state import LocalState

_FORMATS = ("PNG", "JPEG")
"""Of all formats of Pillow: others start programs such as Ghostscript, or nobody needs them."""
MAX_PIXELS = 16_000_000
"""Of one picture. A small file can hold many more, and they would fill the memory."""
Probabilities = NDArray[np.float32]
"""(N, 10), each row sums to 1."""


def predict(paths: Paths, model_name: str, version: str, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Read one digit from each picture.

    Args:
        paths: the checkout, for its settings and downloaded files.
        model_name: the name of the registered model.
        version: a number or an alias.
        images: the files of the pictures.

    Returns:
        A mapping for each picture, with the keys ``image``, ``digit``, ``probability``, ``next_digit``,
        ``next_probability`` and ``version``.

    Raises:
        DataError: a picture cannot be read or holds no digit, or the model file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    pixels = np.stack([read(image) for image in images])  # uint8 (N, 28, 28)
    number, probabilities = _score(paths, model_name, version, pixels)  # float32 (N, 10)
    return [to_json(image, row, number) for image, row in zip(images, probabilities, strict=True)]


def onnx_file(paths: Paths, name: str, number_or_alias: str) -> tuple[int, bytes | None]:
    """Return the number of a version, and its ONNX file; None for a version of an earlier release.

    Raises:
        DataError: the file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    version = fast_lookup.find(settings.load(paths), name, number_or_alias)
    digest = fast_lookup.onnx_digest(version.tags) if version else None
    content = _cached(paths, digest) if digest else None
    if version and content:
        return version.number, content
    return _download(paths, name, number_or_alias)


def _score(
    paths: Paths, name: str, number_or_alias: str, pixels: NDArray[np.uint8]
) -> tuple[int, Probabilities]:
    """Return the number of a version and its probabilities for the pixels (N, 28, 28)."""
    number, content = onnx_file(paths, name, number_or_alias)
    if content is None:
        return number, _score_with_keras(paths, name, number, pixels)
    return number, onnx_session.probabilities(onnx_session.load(content), pixels)


def _download(paths: Paths, name: str, number_or_alias: str) -> tuple[int, bytes | None]:
    """Return the same as :func:`onnx_file` with MLflow's client, and store the file for the next call."""
    from lenet5.registry import model_versions
    from lenet5.tracking import store

    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, number_or_alias)
        digest = fast_lookup.onnx_digest(version.tags)
        content = _cached(paths, digest) if digest else None
        if digest and content is None:
            content = model_versions.download_onnx(client, version, Path(folder)).read_bytes()
            files.write_bytes(_cache_file(paths, digest), content)
    return version.number, content


def _score_with_keras(paths: Paths, name: str, number: int, pixels: NDArray[np.uint8]) -> Probabilities:
    from lenet5.core.quiet import quiet_libraries
    from lenet5.registry import model_versions
    from lenet5.tracking import store

    with quiet_libraries():
        from lenet5.model import keras_file
    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, str(number))
        file = model_versions.download(client, version, Path(folder))
        with quiet_libraries():
            probabilities: Probabilities = keras_file.load(file).predict_on_batch(pixels)
    return probabilities


def _cached(paths: Paths, digest: str) -> bytes | None:
    """Return the content of a downloaded ONNX file, or None if the file is missing or damaged."""
    try:
        content = files.read_bytes(_cache_file(paths, digest))
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _cache_file(paths: Paths, digest: str) -> Path:
    return LocalState(paths.root).models / f"{digest}.onnx"


def to_json(image: Path, probabilities: NDArray[np.float32], version: int) -> dict[str, Any]:
    """Return the answer for one picture from its ten probabilities: see :func:`predict`."""
    best, next_best = probabilities.argsort()[::-1][:2]
    return {
        "image": str(image),
        "digit": int(best),
        "probability": float(probabilities[best]),
        "next_digit": int(next_best),
        "next_probability": float(probabilities[next_best]),
        "version": version,
    }


def read(image: Path) -> NDArray[np.uint8]:
    """Return the normalized picture, uint8 (28, 28).

    Raises:
        DataError: the file is no picture, too large, or holds no digit.
    """
    found: object
    try:
        if not image.is_file():  # a directory, a pipe that never answers, a loop of links
            found = "no file of this name" if not image.exists() else "something that is not a file"
        else:
            with warnings.catch_warnings(action="error"), Image.open(image, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height <= MAX_PIXELS:  # before anything is decoded
                    return image_normalization.from_picture(picture)
                found = f"{width:,}x{height:,} pixels"
    except DataError as error:
        raise DataError(f"{image}: {error}") from None
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        found = str(error) or type(error).__name__
    raise DataError(
        f"{image} cannot be read.",
        expected=f"a PNG or JPEG picture of one digit, at most {MAX_PIXELS:,} pixels",
        found=found,
        fix="check the path, the format and the size of the file",
    )
