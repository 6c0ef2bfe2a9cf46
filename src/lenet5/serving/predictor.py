"""Classify pictures with a registered version, without importing TensorFlow or MLflow if possible.

    1. query the registry for the current version and the SHA-256 of its ONNX file
    2. load that file from ``.lenet5/models``, or download it
    3. convert the pictures to the size, channels and conversion that the file states
    4. score them with ONNX Runtime, and name the classes as the file does

A version of an earlier release has no ONNX file. Keras scores the pictures then, which takes seconds longer.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core import files
from lenet5.core.dataset import DIGITS, Description
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.registry import fast_lookup
from lenet5.serving import picture
from lenet5.system import settings
from lenet5.system.state import LocalState

Probabilities = NDArray[np.float32]
"""(N, C) for C classes; each row sums to 1."""


@dataclass(frozen=True)
class Model:
    """A registered version that classifies pictures."""

    number: int
    """The version."""
    description: Description
    """The names of its classes, and how it wants pictures to be converted."""
    shape: tuple[int, ...]
    """Of the images that it takes: (H, W), or (H, W, 3) for RGB."""
    probabilities: Callable[[NDArray[np.uint8]], Probabilities]
    """Scores images, uint8 (N, H, W) or (N, H, W, 3)."""

    def read(self, images: Sequence[Path]) -> NDArray[np.uint8]:
        """Return the converted pictures, uint8 (N, H, W) or (N, H, W, 3).

        Raises:
            DataError: a file is no picture, is too large, or shows nothing.
        """
        return np.stack([read(image, self.description, self.shape) for image in images])


def predict(
    paths: Paths,
    model_name: str,
    version: str,
    images: Sequence[Path],
    *,
    on_unusable: Callable[[Path, DataError], None] | None = None,
) -> list[dict[str, Any]]:
    """Classify each picture.

    Args:
        paths: the checkout, for its settings and downloaded files.
        model_name: the name of the registered model.
        version: a number or an alias.
        images: the files of the pictures.
        on_unusable: called with each picture that cannot be read or shows nothing, which then has no answer.
            Without it, the first one is an error.

    Returns:
        A mapping for each usable picture, in their order, with the keys ``image``, ``class``,
        ``probability``, ``next_class``, ``next_probability`` and ``version``.

    Raises:
        DataError: a picture cannot be read or shows nothing, or the model file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    picture.reject_what_pillow_warns_about()
    model = load(paths, model_name, version)
    usable: list[Path] = []
    pixels: list[NDArray[np.uint8]] = []
    for image in images:
        try:
            pixels.append(read(image, model.description, model.shape))
        except DataError as error:
            if on_unusable is None:
                raise
            on_unusable(image, error)
        else:
            usable.append(image)
    return to_json(usable, model.probabilities(np.stack(pixels)), model) if usable else []


def load(paths: Paths, name: str, number_or_alias: str) -> Model:
    """Load a version.

    Raises:
        DataError: the model file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    number, content = onnx_file(paths, name, number_or_alias)
    return of_onnx(number, content) if content is not None else _with_keras(paths, name, number)


def of_onnx(number: int, content: bytes) -> Model:
    """Return the model of an ONNX file.

    Raises:
        DataError: ONNX Runtime cannot load it, or its description is damaged or does not fit its output.
    """
    session = onnx_session.load(content)
    description = onnx_session.description(session)
    outputs = session.get_outputs()[0].shape[-1]
    if outputs != len(description.classes):
        raise DataError(
            f"The ONNX file of version {number} does not name all of its classes.",
            expected=f"{outputs} names",
            found=f"{len(description.classes)}: {', '.join(description.classes[:10])}",
            fix="write the file again: `dvc repro --force train`, then `lenet5 register`",
        )
    shape = tuple(int(length) for length in session.get_inputs()[0].shape[1:])
    return Model(number, description, shape, partial(onnx_session.probabilities, session))


def required_onnx_file(paths: Paths, name: str, number_or_alias: str) -> tuple[int, bytes]:
    """Return the same as :func:`onnx_file`, for a version that must have such a file.

    Raises:
        DataError: the version has no ONNX file, or not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    number, content = onnx_file(paths, name, number_or_alias)
    if content is None:
        raise DataError(
            f"Version {number} of {name} has no ONNX file.",
            expected="a version of this release",
            fix=f"`lenet5 reproduce {number}` trains it again",
        )
    return number, content


def onnx_file(paths: Paths, name: str, number_or_alias: str) -> tuple[int, bytes | None]:
    """Return the number of a version, and its ONNX file; None for a version of an earlier release.

    Raises:
        DataError: the file is not the registered one.
        UsageError: there is no such version.
        Unavailable: the registry does not answer.
    """
    version = fast_lookup.find(settings.load(paths), name, number_or_alias)
    digest = fast_lookup.onnx_digest(version.tags) if version else None
    content = cached_onnx(paths, digest) if digest else None
    if version and content:
        return version.number, content
    return _download(paths, name, number_or_alias)


def _download(paths: Paths, name: str, number_or_alias: str) -> tuple[int, bytes | None]:
    """Return the same as :func:`onnx_file` with MLflow's client, and store the file for the next call."""
    from lenet5.registry import model_versions
    from lenet5.tracking import store

    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, number_or_alias)
        digest = fast_lookup.onnx_digest(version.tags)
        content = cached_onnx(paths, digest) if digest else None
        if digest and content is None:
            content = model_versions.download_onnx(client, version, Path(folder)).read_bytes()
            files.write_bytes(cache_file(paths, digest), content)
    return version.number, content


def _with_keras(paths: Paths, name: str, number: int) -> Model:
    """Load the ``.keras`` file of a version of an earlier release: it knows the ten digits."""
    from lenet5.core.quiet import quiet_libraries
    from lenet5.registry import model_versions
    from lenet5.tracking import store

    with quiet_libraries():
        from lenet5.model import keras_file
    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, str(number))
        with quiet_libraries():
            model = keras_file.load(model_versions.download(client, version, Path(folder)))

    def probabilities(pixels: NDArray[np.uint8]) -> Probabilities:
        with quiet_libraries():
            scored: Probabilities = model.predict_on_batch(pixels)
        return scored

    return Model(number, DIGITS, tuple(model.input_shape[1:]), probabilities)


def cached_onnx(paths: Paths, digest: str) -> bytes | None:
    """Return the content of a downloaded ONNX file, or None if the file is missing or damaged."""
    try:
        content = files.read_bytes(cache_file(paths, digest))
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def cache_file(paths: Paths, digest: str) -> Path:
    """Return where the ONNX file of this digest is stored."""
    return LocalState(paths.root).models / f"{digest}.onnx"


def to_json(images: Sequence[Path], probabilities: NDArray[np.float32], model: Model) -> list[dict[str, Any]]:
    """Return the answers for some pictures: see :func:`predict`.

    Args:
        images: the files of the pictures.
        probabilities: (N, C), one row for each picture.
        model: the model that scored them.
    """
    classes = model.description.classes
    answers = []
    for image, row in zip(images, probabilities, strict=True):
        best, next_best = row.argsort()[::-1][:2]
        answers.append(
            {
                "image": str(image),
                "class": classes[best],
                "probability": float(row[best]),
                "next_class": classes[next_best],
                "next_probability": float(row[next_best]),
                "version": model.number,
            }
        )
    return answers


def read(image: Path, description: Description, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the converted picture, uint8 of the shape (H, W) or (H, W, 3).

    Raises:
        DataError: the file is no picture, is too large, or shows nothing.
    """
    if not image.is_file():  # a directory, a pipe that never answers, a loop of links
        raise picture.unreadable(
            str(image), "no file of this name" if not image.exists() else "something that is not a file"
        )
    return picture.decode(image, str(image), description, shape)
