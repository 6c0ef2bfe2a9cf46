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

from lenet5 import digits, files, onnx_model
from lenet5.errors import DataError
from lenet5.paths import Paths
from lenet5.tracking import lookup

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
    found = lookup.find(name, wanted)
    if found and (digest := lookup.onnx_digest(found.tags)) and (content := _kept(paths, digest)):
        return found.number, onnx_model.probabilities(onnx_model.load(content), pixels)
    return _scores_by_registry(paths, name, wanted, pixels)


def _scores_by_registry(
    paths: Paths, name: str, wanted: str, pixels: NDArray[np.uint8]
) -> tuple[int, Answers]:
    """The same with MLflow's client; the version's ONNX file is then there for the next time."""
    from lenet5.tracking import registry, store

    with store.reachable(), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = registry.find(client, name, wanted)
        digest = lookup.onnx_digest(version.tags)
        if digest is None:
            return version.number, _keras(registry.download(client, version, Path(folder)), pixels)
        content = _kept(paths, digest)
        if content is None:
            content = registry.download_onnx(client, version, Path(folder)).read_bytes()
            with files.replacing(_place(paths, digest)) as aside:
                aside.write_bytes(content)
    return version.number, onnx_model.probabilities(onnx_model.load(content), pixels)


def _keras(file: Path, pixels: NDArray[np.uint8]) -> Answers:
    from lenet5 import archive
    from lenet5.terminal import quiet_libraries

    with quiet_libraries():
        answers: Answers = archive.load(file).predict_on_batch(pixels)
    return answers


def _kept(paths: Paths, digest: str) -> bytes | None:
    """A downloaded file, its very bytes compared; a damaged one is as good as none."""
    try:
        content = _place(paths, digest).read_bytes()
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _place(paths: Paths, digest: str) -> Path:
    return paths.downloaded / f"{digest}.onnx"


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
            return digits.from_picture(picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{image} cannot be read.", expected="a PNG or JPEG picture of one digit", found=error
        ) from None
    except DataError as error:
        raise DataError(f"{image}: {error}") from None
