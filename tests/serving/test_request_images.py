"""The body of a request becomes exactly the images that it holds, or an error that says why not."""

import io
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lenet5.core.dataset import DIGITS
from lenet5.serving import request_images
from lenet5.serving.errors import RequestError
from lenet5.serving.predictor import Model, Probabilities
from tests.conftest import Arrays


def _never(_: NDArray[np.uint8]) -> Probabilities:
    raise AssertionError("reading a body scores nothing")


GREY = Model(1, DIGITS, (28, 28), _never)
COLOUR = Model(1, DIGITS, (28, 28, 3), _never)


def npy(array: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def refused(call: Any, *arguments: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<u8", "<f4", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_numbers_of_every_dtype_are_read_without_a_loss(digits: Arrays, dtype: str, order: Any) -> None:
    images = digits["test_images"][:5]
    read = request_images.of_npy(npy(np.asarray(images, dtype=dtype, order=order)), GREY)
    assert read.dtype == np.uint8
    assert np.array_equal(read, images)


@pytest.mark.parametrize(
    ("shape", "count"), [((28, 28), 1), ((28, 28, 1), 1), ((4, 28, 28), 4), ((4, 28, 28, 1), 4)]
)
def test_one_image_or_many_with_or_without_a_channel_axis(shape: tuple[int, ...], count: int) -> None:
    assert request_images.checked(np.zeros(shape, np.uint8), GREY).shape == (count, 28, 28)


def test_colour_images_need_three_channels() -> None:
    assert request_images.checked(np.zeros((2, 28, 28, 3), np.uint8), COLOUR).shape == (2, 28, 28, 3)
    assert refused(request_images.checked, np.zeros((2, 28, 28), np.uint8), COLOUR).status == 422


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((28, 28), 0.5), "from 0 to 1"),
        (np.zeros((28, 28)), "from 0 to 1"),
        (np.full((28, 28), 0.5, np.float16), "from 0 to 1"),
        (np.full((28, 28), 12.5), "fractions"),
        (np.full((28, 28), 256), "no grey value"),
        (np.full((28, 28), -1), "no grey value"),
        (np.full((28, 28), np.nan), "no number"),
        (np.full((28, 28), np.inf), "no number"),
        (np.full((28, 28), 300.0), "no grey value"),
        (np.ones((28, 28), bool), "no grey values"),
        (np.zeros((0, 28, 28), np.uint8), "no image"),
        (np.zeros((28, 27), np.uint8), "another shape"),
        (np.zeros((2, 784), np.uint8), "another shape"),
        (np.zeros(28, np.uint8), "another shape"),
        (np.zeros((1, 1, 28, 28), np.uint8), "another shape"),
        (np.zeros((28, 28), complex), "no numbers"),
        (np.zeros((28, 28), "S1"), "no numbers"),
    ],
)
def test_what_would_be_lost_in_a_cast_is_an_error(array: NDArray[Any], says: str) -> None:
    error = refused(request_images.of_npy, npy(array), GREY)
    assert error.status == 422
    assert says in error.message
    assert error.details["expected"]


def test_array_of_objects_is_never_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("the array was unpickled",))

    error = refused(request_images.of_npy, npy(np.array([Trap()], object), allow_pickle=True), GREY)
    assert error.code == "pickle"


def test_npz_and_other_bytes_are_no_npy_file() -> None:
    archive = io.BytesIO()
    np.savez(archive, images=np.zeros((28, 28), np.uint8))
    for content in (archive.getvalue(), b"", b"\x93NUMPY", b"\x89PNG"):
        assert refused(request_images.of_npy, content, GREY).code == "invalid_npy"


@given(cut=st.integers(0, 900), noise=st.binary(max_size=40))
def test_no_damaged_npy_file_is_a_defect(cut: int, noise: bytes) -> None:
    content = npy(np.zeros((28, 28), np.uint8))
    for damaged in (content[:cut], content[: cut // 10] + noise + content[cut // 10 + len(noise) :]):
        with suppress(RequestError):
            assert request_images.of_npy(damaged, GREY).shape[1:] == (28, 28)


def test_header_cannot_claim_a_huge_array() -> None:
    content = npy(np.zeros((28, 28), np.uint8)).replace(b"(28, 28)", b"(9**9, )")
    assert refused(request_images.of_npy, content, GREY).code == "invalid_npy"


@pytest.mark.parametrize("shape", [(0, 10**30), (0, 2**62, 2**62), (1, True, 784), (-1, 28), (1,) * 70])
def test_header_with_an_impossible_shape_is_no_defect(shape: tuple[int, ...]) -> None:
    content = npy(np.zeros((0, 28, 28), np.uint8))
    lengths = str(shape).encode()
    damaged = content.replace(b"(0, 28, 28)", lengths)
    length = int.from_bytes(content[8:10], "little") + len(lengths) - len(b"(0, 28, 28)")
    damaged = damaged[:8] + length.to_bytes(2, "little") + damaged[10:] + b"\0" * 784
    for body in (damaged, damaged[:-784], damaged[:-783]):
        assert refused(request_images.of_npy, body, GREY).status == 422


@pytest.mark.parametrize(
    "shape", [[0, 2**62, 2**62], [2**62] * 400, [1] * 70 + [28, 28], [True, 28, 28], [[[]]], [2**63] * 8]
)
def test_tensor_with_an_impossible_shape_is_no_defect(shape: list[Any]) -> None:
    for data in ([], [0] * 784):
        assert refused(request_images.of_tensor, shape, "FP32", data, GREY).status == 422


def test_text_among_the_numbers_is_refused_before_it_fills_the_memory() -> None:
    """NumPy would make each of the values as wide as the longest text: 4 GB here."""
    values = ["x" * 1_000_000, *(["y"] * 1000)]
    tracemalloc.start()
    assert refused(request_images.of_numbers, values, GREY).status == 422
    assert refused(request_images.of_numbers, [[values]], GREY).status == 422
    assert refused(request_images.of_tensor, [1001], "UINT8", values, GREY).status == 422
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(), st.lists))
def test_no_json_value_is_a_defect(value: Any) -> None:
    error = refused(request_images.of_numbers, value, GREY)
    assert error.status == 422


def test_json_numbers_become_the_same_image(digits: Arrays) -> None:
    images = digits["test_images"][:3]
    read, body = request_images.of_json(orjson.dumps({"images": images.tolist(), "more": 1}), GREY)
    assert np.array_equal(read, images)
    assert body["more"] == 1


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 422, "no_object"),
        (b'{"image": 1}', 422, "no_images"),
        (b'{"images": [[1, 2], [3]]}', 422, "invalid_image"),
        (b'{"images": NaN}', 400, "invalid_json"),
        (b'{"images": [[true]]}', 422, "invalid_image"),
    ],
)
def test_body_that_is_no_images_says_what_it_is(content: bytes, status: int, code: str) -> None:
    error = refused(request_images.of_json, content, GREY)
    assert (error.status, error.code) == (status, code)


def test_tensor_keeps_its_datatype(digits: Arrays) -> None:
    images = digits["test_images"][:2]
    flat = images.ravel().tolist()
    assert np.array_equal(request_images.of_tensor([2, 28, 28], "UINT8", flat, GREY), images)
    assert np.array_equal(request_images.of_tensor([2, 28, 28], "FP32", flat, GREY), images)
    black_and_white = (images > 127).astype(int).ravel().tolist()
    assert "0 to 1" in refused(request_images.of_tensor, [2, 28, 28], "FP32", black_and_white, GREY).message
    for shape, datatype, data in (
        ([2, 28, 28], "BYTES", flat),
        ([2, 28, 29], "UINT8", flat),
        ([-2, 28, 28], "UINT8", flat),
        ([2, 28, 28], "UINT8", [0.5] * len(flat)),
        ([2, 28, 28], "UINT8", ["1"] * len(flat)),
    ):
        assert refused(request_images.of_tensor, shape, datatype, data, GREY).status == 422


def test_picture_in_a_request_is_read_as_the_command_reads_it(digits: Arrays) -> None:
    file = io.BytesIO()
    Image.fromarray(digits["test_images"][0]).save(file, "PNG")
    assert np.array_equal(request_images.of_picture(file, GREY, "a")[0], digits["test_images"][0])
    refusal = refused(request_images.of_picture, io.BytesIO(b"GIF89a"), GREY, "Picture 2")
    assert refusal.code == "invalid_picture"
    assert refusal.message.startswith("Picture 2")
