"""Turn the body of a request into the images of a model: checked, never narrowed.

A number that is no grey value from 0 to 255 is an error. Images with values from 0 to 1, which look valid to
a cast and become black, are an error that says so.
"""

import io
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from lenet5.core.errors import DataError
from lenet5.serving import picture
from lenet5.serving.errors import RequestError, brief, of_data_error, unprocessable
from lenet5.serving.predictor import Model

Images = NDArray[np.uint8]
"""(N, H, W), or (N, H, W, 3) for RGB."""

_THE_PICTURE = "The picture"
_NPY = b"\x93NUMPY"
_MAX_HEADER = 1000
"""Size limit in bytes of the header of an NPY file, which states dtype, order and shape."""
_MAX_AXES = 8
"""Limit of the axes of a tensor or of nested lists. Images of a model have 4 at most."""
DATATYPES = {
    "UINT8": np.uint8,
    "INT8": np.int8,
    "UINT16": np.uint16,
    "INT16": np.int16,
    "UINT32": np.uint32,
    "INT32": np.int32,
    "UINT64": np.uint64,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatypes of the Open Inference Protocol that can hold grey values."""
_NUMBERS = {int, float, list}
"""Types of values that NumPy makes numbers of; lists are ragged or nested too deep, which NumPy says."""
_NO_NUMBERS = "something else than numbers"


def of_picture(file: BinaryIO, model: Model, name: str = _THE_PICTURE) -> Images:
    """Return one image, (1, ...), from a PNG or JPEG file.

    Args:
        file: an open file.
        model: the model.
        name: of the picture, for messages.

    Raises:
        RequestError: it is no such picture, has too many pixels, or shows nothing.
    """
    return of_opened(open_picture(file, name), model, name)


def open_picture(file: BinaryIO, name: str = _THE_PICTURE) -> Image.Image:
    """Return a picture of which only the header is read, so that its size is known before it is decoded.

    Raises:
        RequestError: it is no PNG or JPEG picture, or has too many pixels.
    """
    try:
        return picture.open_header(file, name)
    except DataError as error:
        raise of_data_error(error) from None


def of_opened(opened: Image.Image, model: Model, name: str = _THE_PICTURE) -> Images:
    """Return one image, (1, ...), from a picture of :func:`open_picture`.

    Raises:
        RequestError: it is damaged, or shows nothing.
    """
    try:
        return picture.convert(opened, name, model.description, model.shape)[None]
    except DataError as error:
        raise of_data_error(error) from None


def of_npy(content: bytes, model: Model) -> Images:
    """Return the images of an NPY file. A file that needs pickle is refused.

    Raises:
        RequestError: it is no NPY file, or its array holds no images of the model.
    """
    if not content.startswith(_NPY):
        raise RequestError(
            422,
            "invalid_npy",
            "The body is no NPY file.",
            expected=r"a file that begins with \x93NUMPY",
            found=f"{len(content):,} other bytes",
            fix="write it with numpy.save",
        )
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # the header is a Python literal, and its parsers raise many kinds
        raise RequestError(
            422,
            "invalid_npy",
            "The header of the NPY file is damaged.",
            found=error,
            fix="write it with numpy.save",
        ) from None
    if dtype.hasobject:
        raise RequestError(
            422,
            "pickle",
            "The NPY file holds Python objects, which are never loaded.",
            expected="an array of uint8",
            found=f"dtype {dtype}",
            fix="convert the array: images.astype(numpy.uint8)",
        )
    if dtype.kind not in "buif":
        raise unprocessable("The array holds no numbers.", "uint8", f"dtype {dtype}")
    if not _are_lengths(shape):
        raise unprocessable(
            "The shape in the header is no list of lengths.", _shapes(model), f"shape {shape}"
        )
    data = memoryview(content)[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise RequestError(
            422,
            "invalid_npy",
            "The NPY file is not complete.",
            expected=f"{math.prod(shape) * dtype.itemsize:,} bytes for the shape {shape}",
            found=f"{len(data):,} bytes",
        )
    try:
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError):  # no value, and another axis that is too long for NumPy
        raise unprocessable("The images have another shape.", _shapes(model), f"shape {shape}") from None
    return checked(array, model)


def of_json(content: bytes, model: Model) -> tuple[Images, Any]:
    """Return the images of a JSON body ``{"images": …}``, and the whole object.

    ``images`` is one image or a list of images: numbers from 0 to 255, nested as the shape of the model says.

    Raises:
        RequestError: the body is no such object.
    """
    body = json_object(content)
    if "images" not in body:
        raise RequestError(
            422,
            "no_images",
            "The object has no key `images`.",
            expected='{"images": [[[0, …], …], …]}',
            found=first_keys(body),
        )
    return of_numbers(body["images"], model), body


def json_object(content: bytes) -> dict[str, Any]:
    """Return the object of a JSON body.

    Raises:
        RequestError: the body is not JSON, or no object.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "invalid_json", "The body is no JSON.", found=error) from None
    if not isinstance(value, dict):
        raise RequestError(
            422, "no_object", "The body is no JSON object.", expected="{…}", found=type(value).__name__
        )
    return value


def of_numbers(value: Any, model: Model) -> Images:
    """Return images from nested lists of numbers.

    Raises:
        RequestError: the lists are ragged, hold something else than numbers, or have another shape.
    """
    if not isinstance(value, list) or (kinds := _kinds(value)) - _NUMBERS:
        found = "lists with true or false" if isinstance(value, list) and bool in kinds else _NO_NUMBERS
        raise unprocessable("The images are no lists of numbers.", "numbers from 0 to 255", found)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise unprocessable("The lists do not form an array.", _shapes(model), error) from None
    if array.dtype.kind not in "uif":
        raise unprocessable("The images are no lists of numbers.", "numbers from 0 to 255", _NO_NUMBERS)
    return checked(array, model)


def of_tensor(shape: Sequence[Any], datatype: str, data: Any, model: Model) -> Images:
    """Return the images of a tensor of the Open Inference Protocol.

    Args:
        shape: as the request states it.
        datatype: as the request states it, such as ``UINT8``.
        data: the numbers, flat or nested.
        model: the model.

    Raises:
        RequestError: the tensor is not what it states, or holds no images of the model.
    """
    if datatype not in DATATYPES:
        raise unprocessable("This datatype holds no grey values.", "UINT8", datatype)
    if not _are_lengths(shape):
        raise unprocessable("The shape of the tensor is no list of lengths.", _shapes(model), brief(shape))
    if _kinds(data) - _NUMBERS:
        raise unprocessable("The data of the tensor are no numbers.", "numbers", _NO_NUMBERS)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise unprocessable("The data of the tensor does not form an array.", "numbers", error) from None
    if array.dtype.kind not in "uif" or array.size != math.prod(shape):
        raise unprocessable(
            "The data of the tensor does not fit its shape.",
            f"{math.prod(shape):,} numbers",
            f"{array.size:,} values of type {array.dtype}",
        )
    if array.dtype.kind == "f" and not datatype.startswith("FP"):
        raise unprocessable("The data of the tensor does not fit its datatype.", datatype, "fractions")
    # a tensor of floats keeps its kind: 0 and 1 in it can be black and white of images from 0 to 1
    array = array.astype(np.float64) if datatype.startswith("FP") else array
    try:
        return checked(array.reshape(shape), model)
    except (ValueError, OverflowError):  # no value, and another axis that is too long for NumPy
        raise unprocessable("The images have another shape.", _shapes(model), brief(shape)) from None


def _are_lengths(shape: Sequence[Any]) -> bool:
    return len(shape) <= _MAX_AXES and all(type(length) is int and length >= 0 for length in shape)


def _kinds(value: Iterable[Any]) -> set[type]:
    """Return the types of the values in nested lists; of ragged lists, those of the first uneven level.

    NumPy makes each value of an array as wide as its longest text, so one long text in a list of a few
    megabytes would fill the memory. Text must be found before NumPy sees it.
    """
    kinds: set[type] = set()
    for depth in range(_MAX_AXES):
        level = value
        for _ in range(depth):
            level = chain.from_iterable(level)
        kinds = set(map(type, level))
        if kinds != {list}:
            break
    return kinds


def checked(array: NDArray[Any], model: Model) -> Images:
    """Return an array as images of the model, without a loss.

    Args:
        array: one image or several, of any dtype of numbers; a last axis of one channel is accepted.
        model: the model.

    Raises:
        RequestError: it has another shape, no image, or a value that is no grey value.
    """
    sides = len(model.shape)
    if array.ndim >= sides + 1 and sides == 2 and array.shape[-1] == 1 and array.shape[-3:-1] == model.shape:
        array = array[..., 0]
    if array.ndim == sides:
        array = array[None]
    if array.shape[1:] != model.shape:
        raise unprocessable("The images have another shape.", _shapes(model), f"shape {tuple(array.shape)}")
    if not len(array):
        raise unprocessable("The request holds no image.", "one image or more", "none")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return _as_bytes(array)


def _as_bytes(array: NDArray[Any]) -> Images:
    if array.dtype.kind == "b":
        raise unprocessable("The images are no grey values.", "uint8, from 0 to 255", "true and false")
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise unprocessable("A value is no number.", "grey values from 0 to 255", "NaN or infinity")
    if array.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        raise unprocessable(
            "The grey values go from 0 to 1, and the model takes 0 to 255.",
            "grey values from 0 to 255",
            f"{array.dtype}, from {lowest:g} to {highest:g}",
            fix="multiply by 255 and round: (images * 255).round().astype(numpy.uint8)",
        )
    if lowest < 0 or highest > 255:
        raise unprocessable(
            "A value is no grey value.", "0 to 255", f"{array.dtype}, from {lowest:g} to {highest:g}"
        )
    narrow = array.astype(np.uint8)
    if array.dtype.kind == "f" and not np.array_equal(narrow, array):
        raise unprocessable(
            "The grey values have fractions, which would be lost.",
            "whole numbers from 0 to 255",
            f"{array.dtype}, from {lowest:g} to {highest:g}",
            fix="round them: images.round().astype(numpy.uint8)",
        )
    return np.ascontiguousarray(narrow)


def _shapes(model: Model) -> str:
    one = " x ".join(map(str, model.shape))
    return f"one image, {one}, or N images, N x {one}"


def first_keys(body: dict[str, Any]) -> str:
    """Return the first keys of a JSON object, for the message of an error."""
    return ", ".join(list(body)[:5]) or "no key"


def json_body(properties: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """Return the description of a JSON body in OpenAPI.

    Args:
        properties: the schema of each key.
        required: the keys that must be there.
    """
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
