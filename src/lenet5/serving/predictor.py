"""Pictures in, digits out, with a registered version; without TensorFlow or MLflow where that is possible.

    1. ask     the store which version it is now, and for the SHA-256 of its ONNX file
    2. load    that file, from ``.lenet5/models`` or else from the registry
    3. answer  with ONNX Runtime

A version of an earlier release has no ONNX file: Keras answers, seconds later.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.registry import fast_lookup
from lenet5.serving import image_normalization
from lenet5.system import settings
from lenet5.system.state import LocalState

Answers = NDArray[np.float32]


def predict(paths: Paths, model_name: str, version: str, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Read one digit from each picture.

    Raises:
        DataError: a picture cannot be read or holds no digit; or the model file was tampered with.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    pixels = np.stack([_read(image) for image in images])  # uint8 (N, 28, 28)
    number, probabilities = _scores(paths, model_name, version, pixels)  # float32 (N, 10)
    return [_answer(image, row, number) for image, row in zip(images, probabilities, strict=True)]


def _scores(paths: Paths, name: str, wanted: str, pixels: NDArray[np.uint8]) -> tuple[int, Answers]:
    """The number of a version, and what it says: (N, 10) of (N, 28, 28)."""
    found = fast_lookup.find(settings.load(paths), name, wanted)
    if found and (digest := fast_lookup.onnx_digest(found.tags)) and (content := _kept(paths, digest)):
        return found.number, onnx_session.probabilities(onnx_session.load(content), pixels)
    return _scores_by_registry(paths, name, wanted, pixels)


def _scores_by_registry(
    paths: Paths, name: str, wanted: str, pixels: NDArray[np.uint8]
) -> tuple[int, Answers]:
    """The same with MLflow's client; the version's ONNX file is then there for the next time."""
    from lenet5.registry import model_versions
    from lenet5.tracking import store

    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, wanted)
        digest = fast_lookup.onnx_digest(version.tags)
        if digest is None:
            return version.number, _keras(model_versions.download(client, version, Path(folder)), pixels)
        content = _kept(paths, digest)
        if content is None:
            content = model_versions.download_onnx(client, version, Path(folder)).read_bytes()
            with files.replacing(_place(paths, digest)) as aside:
                aside.write_bytes(content)
    return version.number, onnx_session.probabilities(onnx_session.load(content), pixels)


def _keras(file: Path, pixels: NDArray[np.uint8]) -> Answers:
    from lenet5.core.quiet import quiet_libraries
    from lenet5.model import keras_file

    with quiet_libraries():
        answers: Answers = keras_file.load(file).predict_on_batch(pixels)
    return answers


def _kept(paths: Paths, digest: str) -> bytes | None:
    """A downloaded file, its very bytes compared; a damaged one is as good as none."""
    try:
        content = _place(paths, digest).read_bytes()
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _place(paths: Paths, digest: str) -> Path:
    return LocalState(paths.root).models / f"{digest}.onnx"


def _answer(image: Path, probabilities: NDArray[np.float32], version: int) -> dict[str, Any]:
    best, next_best = probabilities.argsort()[::-1][:2]
    return {
        "image": str(image),
        "digit": int(best),
        "probability": float(probabilities[best]),
        "next_digit": int(next_best),
        "next_probability": float(probabilities[next_best]),
        "version": version,
    }


def _read(image: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(image) as picture:
            return image_normalization.from_picture(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{image} cannot be read.", expected="a PNG or JPEG picture of one digit", found=error
        ) from None
    except DataError as error:
        raise DataError(f"{image}: {error}") from None
