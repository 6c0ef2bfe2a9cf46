"""Images of other sizes and channels are fitted by the declared rule, or rejected."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lenet5.core.errors import DataError
from lenet5.stages.ingest.fit import fitted
from lenet5.stages.ingest.params import Image


def target(**values: Any) -> Image:
    return Image.model_validate({"size": 16, "channels": 1, "fit": "exact", "transpose": False} | values)


bytes_ = st.integers(0, 255)
images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=bytes_)


@given(images, st.sampled_from([1, 3]))
def test_resize_gives_the_size_and_keeps_what_fits(image: Any, channels: Any) -> None:
    result = fitted([image], target(fit="resize", channels=channels), "some.png")
    assert result.shape == ((1, 16, 16) if channels == 1 else (1, 16, 16, 3))
    assert result.dtype == np.uint8
    if image.shape == (16, 16):
        np.testing.assert_array_equal(result[0] if channels == 1 else result[0, ..., 2], image)


def test_pad_centres_a_smaller_image_in_the_colour_of_its_edge() -> None:
    image = np.full((10, 6), 250, np.uint8)
    image[4:6, 2:4] = 7
    [result] = fitted([image], target(fit="pad"), "some.png")
    np.testing.assert_array_equal(result[3:13, 5:11], image)
    assert (np.delete(result.ravel(), np.flatnonzero(result.ravel() == 7)) == 250).all()


def test_resize_keeps_the_proportions() -> None:
    """A bar twice as wide as high stays so; the rest has the colour of the edge."""
    image = np.full((20, 40), 9, np.uint8)
    image[5:15, 10:30] = 200
    [result] = fitted([image], target(fit="resize"), "some.png")
    bright = result > 100
    assert (bright.any(axis=1).sum(), bright.any(axis=0).sum()) == (4, 8)
    assert result[0, 0] == result[-1, -1] == 9


@pytest.mark.parametrize(
    ("fit", "shape", "expected", "fix"),
    [
        ("exact", (15, 16), "expected: 16×16", "`pad` (a border around smaller ones) or `resize`"),
        ("exact", (17, 17), "expected: 16×16", "set ingest.image.size to the size of the images"),
        ("pad", (17, 3), "expected: at most 16×16", "set ingest.image.fit to `resize`"),
    ],
)
def test_size_that_the_rule_does_not_change_is_an_error(
    fit: str, shape: Any, expected: str, fix: str
) -> None:
    for some in ([np.zeros(shape, np.uint8)], np.zeros((2, *shape), np.uint8)):
        with pytest.raises(DataError) as caught:
            fitted(some, target(fit=fit), "some.png")
        message = str(caught.value)
        assert message.startswith("some.png has an image of another size")
        assert expected in message
        assert f"found:    {shape[1]}×{shape[0]} pixels" in message
        assert fix in message


def test_colours_become_grey_by_their_luminance() -> None:
    pure = np.zeros((3, 16, 16, 3), np.uint8)
    for channel in range(3):
        pure[channel, ..., channel] = 255
    levels = fitted(pure, target(), "some.png")[:, 0, 0]
    np.testing.assert_allclose(levels, [0.299 * 255, 0.587 * 255, 0.114 * 255], atol=1)
    one_by_one = fitted(list(pure), target(), "some.png")
    np.testing.assert_array_equal(one_by_one[:, 0, 0], levels)


def test_grey_becomes_three_equal_channels() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    result = fitted(image, target(channels=3), "some.png")
    np.testing.assert_array_equal(result, np.stack([image] * 3, axis=-1))


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_transpose_exchanges_rows_and_columns(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for some in ([image], image[None]):
        [result] = fitted(some, target(transpose=True, channels=3 if len(shape) == 3 else 1), "some.png")
        np.testing.assert_array_equal(result, image.swapaxes(0, 1))
