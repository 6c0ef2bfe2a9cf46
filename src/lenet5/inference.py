"""Pictures in, digits out, with a registered version."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lenet5 import archive, digits
from lenet5.errors import DataError
from lenet5.paths import Paths
from lenet5.terminal import quiet_libraries
from lenet5.tracking import registry, store


def predict(paths: Paths, model_name: str, version: str, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Read one digit from each picture.

    Raises:
        DataError: a picture cannot be read or holds no digit; or the model file was tampered with.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    pixels = np.stack([_read(image) for image in images])  # uint8 (N, 28, 28)
    with store.reachable(), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        found = registry.find(client, model_name, version)
        file = registry.download(client, found, Path(folder))
        with quiet_libraries():
            probabilities = archive.load(file).predict_on_batch(pixels)  # float32 (N, 10)
    return [_answer(image, row, found.number) for image, row in zip(images, probabilities, strict=True)]


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
