"""The operations on images give what SciPy gives, and what the layers of Keras give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import correlate, maximum_filter, uniform_filter

from lenet5.images.kernels import KERNELS
from lenet5.images.operations import (
    Padding,
    convolve,
    convolve_channels,
    output_size,
    pad,
    pad_widths,
    pool,
    windows,
)

SIDES = st.integers(1, 9)
STRIDES = st.integers(1, 4)
PADDINGS = st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 4))
PIXELS = st.integers(-8, 8).map(float)
"""Whole numbers, whose sums are exact: results are equal, not only close."""

fast = settings(max_examples=40, deadline=None)


def images(channels: int = 0) -> st.SearchStrategy[Any]:
    shape = st.tuples(st.integers(1, 3), SIDES, SIDES)
    return shape.flatmap(lambda s: arrays(np.float64, s + (channels,) * bool(channels), elements=PIXELS))


@given(SIDES, st.integers(1, 5), STRIDES, PADDINGS)
def test_output_size_counts_the_positions_of_the_kernel(
    size: int, kernel: int, stride: int, padding: Padding
) -> None:
    padded = size + sum(pad_widths(size, kernel, stride, padding))
    positions = len(range(0, padded - kernel + 1, stride))
    if positions:
        assert output_size(size, kernel, stride, padding) == positions
    else:
        with pytest.raises(ValueError, match=f"a kernel of {kernel} does not fit into {padded} pixels"):
            output_size(size, kernel, stride, padding)


@given(SIDES, st.integers(1, 5), STRIDES)
def test_same_keeps_the_size_and_divides_it_by_the_stride(size: int, kernel: int, stride: int) -> None:
    assert output_size(size, kernel, 1, "same") == size
    assert output_size(size, kernel, stride, "same") == -(-size // stride)
    before, after = pad_widths(size, kernel, stride, "same")
    assert after - before in (0, 1)


def test_sizes_of_the_network() -> None:
    assert [output_size(28, 3), output_size(26, 2, 2), output_size(13, 3), output_size(11, 2, 2)] == [
        26,
        13,
        11,
        5,
    ]
    assert [output_size(32, 5), output_size(28, 2, 2), output_size(14, 5), output_size(10, 2, 2)] == [
        28,
        14,
        10,
        5,
    ]


@fast
@given(images(), st.integers(0, 3), st.integers(0, 3), PIXELS)
def test_pad_surrounds_with_the_value(x: Any, rows: int, columns: int, value: float) -> None:
    padded = pad(x, rows, (columns, 0), value)
    assert padded.shape == (len(x), x.shape[1] + 2 * rows, x.shape[2] + columns)
    np.testing.assert_array_equal(padded[:, rows : rows + x.shape[1], columns:], x)
    assert (
        np.delete(padded.sum((0, 2)), range(rows, rows + x.shape[1])) == value * len(x) * padded.shape[2]
    ).all()


@fast
@given(images(), st.sampled_from([1, 3, 5]), STRIDES, st.data())
def test_convolution_is_scipys_correlation(x: Any, side: int, stride: int, data: Any) -> None:
    kernel = data.draw(arrays(np.float64, (side, side), elements=PIXELS))
    everywhere = correlate(x, kernel[None], mode="constant")
    margin = side // 2
    np.testing.assert_array_equal(convolve(x, kernel, padding="same"), everywhere)
    np.testing.assert_array_equal(convolve(x, kernel, stride, margin), everywhere[:, ::stride, ::stride])
    if side <= min(x.shape[1:]):
        inside = everywhere[:, margin : x.shape[1] - margin, margin : x.shape[2] - margin]
        np.testing.assert_array_equal(convolve(x, kernel, stride), inside[:, ::stride, ::stride])


@fast
@given(images(channels=2), st.integers(1, 3), STRIDES, PADDINGS, st.data())
def test_each_channel_is_convolved_with_its_own_weights(
    x: Any, side: int, stride: int, padding: Padding, data: Any
) -> None:
    kernels = data.draw(arrays(np.float64, (side, side, 2, 3), elements=PIXELS))
    if padding != "same" and side > min(x.shape[1:3]) + 2 * (0 if padding == "valid" else int(padding)):
        with pytest.raises(ValueError, match="does not fit"):
            convolve_channels(x, kernels, 0, stride, padding)
        return
    answer = convolve_channels(x, kernels, np.arange(3), stride, padding)
    for output in range(3):
        one = sum(convolve(x[..., c], kernels[..., c, output], stride, padding) for c in range(2)) + output
        np.testing.assert_array_equal(answer[..., output], one)


@fast
@given(images(), st.integers(1, 3), STRIDES)
def test_pooling_is_scipys_filter_at_every_position(x: Any, size: int, stride: int) -> None:
    if size > min(x.shape[1:]):
        return
    last = [side - size + 1 for side in x.shape[1:]]
    # origin: SciPy's window lies around its pixel, this one begins there
    for kind, filtered in (
        ("max", maximum_filter(x, (1, size, size), origin=(0, -(size // 2), -(size // 2)))),
        ("average", uniform_filter(x, (1, size, size), origin=(0, -(size // 2), -(size // 2)))),
    ):
        expected = filtered[:, : last[0] : stride, : last[1] : stride]
        np.testing.assert_allclose(pool(x, size, stride, kind), expected, atol=1e-12)  # type: ignore[arg-type]


def test_pooling_drops_rows_that_fill_no_window() -> None:
    x = np.arange(25, dtype=np.uint8).reshape(1, 5, 5)
    assert pool(x).tolist() == [[[6, 8], [16, 18]]]
    assert pool(x).dtype == np.uint8
    assert pool(x, kind="average").tolist() == [[[3, 5], [13, 15]]]  # no overflow of uint8


def test_windows_copy_nothing() -> None:
    x = np.zeros((2, 5, 5))
    assert windows(x, 3, 3, 2).shape == (2, 2, 2, 3, 3)
    assert np.shares_memory(x, windows(x, 3, 3, 2))


def test_a_kernel_larger_than_the_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="a kernel of 5 does not fit into 4 pixels"):
        convolve(np.zeros((1, 4, 4)), np.zeros((5, 5)))


def test_kernels_do_what_their_names_say() -> None:
    noisy = np.random.default_rng(1998).integers(0, 256, (2, 9, 9)).astype(np.uint8)
    even = np.full((1, 5, 5), 200, np.uint8)
    bright = {name: convolve(even, kernel).max() for name, kernel in KERNELS.items()}
    assert bright == {name: 0 if name.startswith("edges") else 200 for name in KERNELS}
    np.testing.assert_array_equal(convolve(noisy, KERNELS["identity"], padding="same"), noisy)
    assert (
        convolve(noisy, KERNELS["gaussian_blur"]).std()
        < noisy.std()
        < convolve(noisy, KERNELS["sharpen"]).std()
    )
    for kernel in KERNELS.values():
        np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
        assert kernel.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (5, 2), (4, 3)])
def test_layers_of_keras_give_the_same(padding: Padding, side: int, stride: int) -> None:
    import keras

    random = np.random.default_rng(1998)
    x = random.normal(size=(3, 11, 12, 2)).astype(np.float32)
    conv = keras.layers.Conv2D(4, side, stride, padding)
    expected = conv(x)
    weights, _ = conv.get_weights()
    bias = random.normal(size=4).astype(np.float32)
    conv.set_weights([weights, bias])
    expected = keras.ops.convert_to_numpy(conv(x))
    np.testing.assert_allclose(convolve_channels(x, weights, bias, stride, padding), expected, atol=1e-5)
    for layer, kind in ((keras.layers.MaxPooling2D, "max"), (keras.layers.AveragePooling2D, "average")):
        pooled = keras.ops.convert_to_numpy(layer(side, stride)(x))
        np.testing.assert_allclose(pool(x, side, stride, kind), pooled, atol=1e-6)  # type: ignore[arg-type]
