"""Measures of drawn shapes are those of a ruler; measures of real digits follow what is done to them."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lenet5.core import dataset
from lenet5.images import measures
from tests.conftest import Arrays

Images = NDArray[np.uint8]

FINE = 8
"""Points in each direction that decide how much of a pixel is covered."""


def bar(width: float, length: float, degrees: float) -> Images:
    """Draw a bar through the centre of a 28 × 28 image, with its angle from the vertical to the right."""
    places = (np.arange(28 * FINE) + 0.5) / FINE - 14
    across, down = np.meshgrid(places, places)
    angle = np.deg2rad(degrees)
    along = across * np.sin(angle) - down * np.cos(angle)
    aside = across * np.cos(angle) + down * np.sin(angle)
    inside = (np.abs(along) <= length / 2) & (np.abs(aside) <= width / 2)
    covered = inside.reshape(28, FINE, 28, FINE).mean(axis=(1, 3))
    return np.round(covered * 255).astype(np.uint8)[np.newaxis]


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
def test_stroke_thickness_of_a_bar_is_its_width_less_the_ends(degrees: float) -> None:
    widths = np.array([2, 3, 4, 6])
    measured = np.array([measures.stroke_thickness(bar(width, 20, degrees))[0] for width in widths])
    np.testing.assert_allclose(measured, widths * 20 / (20 + widths), rtol=0.13)


def test_stroke_thickness_does_not_depend_on_the_brightness() -> None:
    dark = bar(3, 20, 30) // 5
    np.testing.assert_allclose(measures.stroke_thickness(dark * 5), measures.stroke_thickness(dark))


def test_thicker_strokes_are_measured_as_thicker(digits: Arrays) -> None:
    images = digits["test_images"][:300]
    thicker = ndimage.grey_dilation(images, (1, 3, 3))
    thinner = ndimage.grey_erosion(images, (1, 2, 2))
    before = measures.stroke_thickness(images)
    assert (measures.stroke_thickness(thicker) > before + 0.5).all()
    assert (measures.stroke_thickness(thinner) < before).all()


@pytest.mark.parametrize("degrees", [-30, -10, 0, 10, 30])
def test_slant_of_a_bar_is_the_tangent_of_its_angle(degrees: float) -> None:
    assert measures.slant(bar(2, 20, degrees))[0] == pytest.approx(np.tan(np.deg2rad(degrees)), abs=0.02)


def test_a_mirror_image_slants_the_other_way(digits: Arrays) -> None:
    images = digits["test_images"][:300]
    slants = measures.slant(images)
    np.testing.assert_array_equal(measures.slant(images[:, :, ::-1]), -slants)
    assert slants.min() < -0.3
    assert slants.max() > 0.3


def test_size_and_foreground_of_a_box() -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 3:10, 2:12] = 255
    image[0, 20, 20] = measures.FOREGROUND - 1  # too dark to count
    assert measures.size(image)[0] == np.sqrt(70)
    assert measures.foreground(image)[0] == 70 / 784
    image[0, 20, 20] += 1
    assert measures.size(image)[0] == np.sqrt(18 * 19)
    assert measures.foreground(image)[0] == 71 / 784


def test_the_place_of_a_digit_does_not_matter(digits: Arrays) -> None:
    images = np.pad(digits["test_images"][:300], ((0, 0), (4, 4), (4, 4)))
    moved = np.roll(images, (2, -3), axis=(1, 2))
    before, after = measures.measure(images), measures.measure(moved)
    for name in measures.MEASURES:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


@pytest.mark.parametrize("shape", [(2, 28, 28), (0, 28, 28), (3, 5, 9)])
def test_blank_images_have_no_strokes(shape: tuple[int, int, int]) -> None:
    measured = measures.measure(np.zeros(shape, np.uint8))
    assert {name: values.tolist() for name, values in measured.items()} == {
        name: [0.0] * shape[0] for name in ("stroke_thickness", "size", "slant", "foreground")
    }


def test_images_in_parts_give_the_same_measures(digits: Arrays, monkeypatch: Any) -> None:
    images = digits["test_images"][:100]
    whole = measures.measure(images)
    monkeypatch.setattr(dataset, "CHUNK", 7)
    for name, values in measures.measure(images).items():
        np.testing.assert_array_equal(values, whole[name])
        assert len(np.unique(values)) > 5


def test_brightness_of_rgb_images_is_measured(digits: Arrays) -> None:
    images = digits["test_images"][:30]
    grey = np.repeat(images[..., np.newaxis], 3, axis=-1)
    np.testing.assert_array_equal(measures.grey(grey), images)
    for name, values in measures.measure(grey).items():
        np.testing.assert_array_equal(values, measures.measure(images)[name])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8).reshape(1, 2, 2, 3)
    assert measures.grey(colours).tolist() == [[[76, 150], [29, 255]]]
