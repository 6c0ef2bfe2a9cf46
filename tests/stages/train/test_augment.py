"""Distortions change images within their limits."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, grey_dilation, map_coordinates

from lenet5.core.dataset import Split
from lenet5.stages.train.augment import augment, disturb, draw_amounts, draw_disturbance, draw_fields
from lenet5.stages.train.params import Distortion

NONE = Distortion(shift=0, rotation=0, scale=0)
ALL = {"blur": 1.0, "background": 3.0, "noise": 0.5, "outline": 1.0, "lines": 12, "invert": 0.8}


def distorted(images: np.ndarray, limits: Distortion) -> np.ndarray:
    return augment(images, draw_amounts(limits, len(images), np.random.default_rng(5)))


@pytest.fixture
def bar() -> np.ndarray:
    """200 images of the same upright bar of 21 rows and 3 columns in the middle: float32 (200, 41, 41, 1)."""
    image = np.zeros((41, 41, 1), np.float32)
    image[10:31, 19:22] = 1
    return np.repeat(image[np.newaxis], 200, axis=0)


def test_limits_of_0_return_the_same_array(train: Split) -> None:
    assert distorted(train.images, NONE) is train.images


def test_distorted_images_keep_shape_dtype_range_and_mean(train: Split) -> None:
    done = distorted(train.images, Distortion(shift=1, rotation=10, scale=0.1))
    assert (done.shape, done.dtype) == (train.images.shape, train.images.dtype)
    assert 0 <= done.min() <= done.max() <= 1
    assert done.mean() == pytest.approx(train.images.mean(), rel=0.05)


def test_shift_moves_by_up_to_the_limit(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"shift": 3}))
    moved = np.array([center_of_mass(image[..., 0]) for image in done]) - 20
    assert np.abs(moved).max() == pytest.approx(3, abs=0.1)
    assert np.abs(moved.mean(axis=0)).max() < 0.5
    np.testing.assert_allclose(done.sum(axis=(1, 2, 3)), 63, rtol=1e-4)


def test_rotation_is_around_the_centre_and_up_to_the_limit(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"rotation": 30}))
    rows, columns = np.indices((41, 41)) - 20
    weight = done[..., 0] / done.sum(axis=(1, 2, 3))[:, None, None]
    slant = np.degrees(np.arctan2((weight * rows * columns).sum((1, 2)), (weight * rows**2).sum((1, 2))))
    assert np.abs(slant).max() == pytest.approx(30, abs=1)
    assert np.abs((weight * rows).sum((1, 2))).max() < 1e-3


def test_scale_changes_height_and_width_independently(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"scale": 0.2}))[..., 0]
    height, width = done.max(axis=2).sum(axis=1), done.max(axis=1).sum(axis=1)
    assert height.min() == pytest.approx(21 / 1.2, abs=0.7)
    assert height.max() == pytest.approx(21 / 0.8, abs=0.7)
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.2


def test_pixels_are_interpolated_bilinearly_with_0_outside() -> None:
    images = np.random.default_rng(0).random((9, 12, 17, 1), np.float32)
    random = np.random.default_rng(5)
    fields = 3 * random.standard_normal((2, 9, 12, 17)).astype(np.float32)
    done = augment(images, np.zeros((5, 9)), fields)
    for image, result, field in zip(images[..., 0], done[..., 0], fields.swapaxes(0, 1), strict=True):
        sources = np.indices(image.shape) + field
        expected = map_coordinates(image, sources, order=1, mode="grid-constant")
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_fields_are_smooth_and_have_the_standard_deviation_of_the_limit() -> None:
    limits = NONE.model_copy(update={"elastic": 1.5, "undistorted": 0.25})
    fields = draw_fields(limits, 400, (28, 20), np.random.default_rng(5))
    assert fields is not None
    assert fields.shape == (2, 400, 28, 20)
    assert fields.dtype == np.float32
    assert not fields[:, :100].any()
    moved = fields[:, 100:]
    assert moved.std(axis=(0, 1)) == pytest.approx(1.5, rel=0.2)  # at each pixel, also at the edges
    assert moved.mean() == pytest.approx(0, abs=0.1)
    for axis in (2, 3):
        assert np.diff(moved, axis=axis).std() == pytest.approx(1.5 / 7, rel=0.2)
    other = draw_fields(limits, 400, (28, 20), np.random.default_rng(6))
    assert other is not None
    assert not np.array_equal(fields, other)


def test_elastic_limit_of_0_draws_no_random_number() -> None:
    random = np.random.default_rng(5)
    assert draw_fields(NONE, 7, (28, 28), random) is None
    assert random.random() == np.random.default_rng(5).random()


def test_field_bends_only_the_images_that_it_moves(train: Split) -> None:
    limits = NONE.model_copy(update={"elastic": 1.0, "undistorted": 0.5})
    images = train.images[:40]
    fields = draw_fields(limits, 40, images.shape[1:3], np.random.default_rng(5))
    done = augment(images, np.zeros((5, 40)), fields)
    np.testing.assert_array_equal(done[:20], images[:20])
    assert (done[20:] != images[20:]).any(axis=(1, 2, 3)).all()
    assert 0 <= done.min() <= done.max() <= 1


def disturbed(images: np.ndarray, limits: Distortion, seed: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    return disturb(images, draw_disturbance(limits, len(images), images.shape[1:3], random))


def test_limits_of_0_disturb_nothing_and_draw_no_random_number(train: Split) -> None:
    random = np.random.default_rng(5)
    drawn = draw_disturbance(NONE, len(train.images), train.images.shape[1:3], random)
    assert disturb(train.images, drawn) is train.images
    assert random.random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    "limits",
    [{"blur": 1.0}, {"background": 3.0}, {"noise": 0.5}, {"outline": 1.0}, {"lines": 20}, {"invert": 1.0}],
)
def test_disturbed_images_keep_shape_dtype_and_range_and_half_of_them_their_pixels(
    train: Split, limits: dict[str, float]
) -> None:
    before = train.images.copy()
    done = disturbed(train.images, NONE.model_copy(update=limits))
    assert done.shape == train.images.shape
    assert done.dtype == train.images.dtype
    assert 0 <= done.min() <= done.max() <= 1
    same = (done == train.images).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_array_equal(train.images, before)


def test_blur_keeps_the_brightness_and_softens_edges(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"blur": 1.0}))
    np.testing.assert_allclose(done.sum(axis=(1, 2, 3)), bar.sum(axis=(1, 2, 3)), rtol=1e-4)
    steps = np.abs(np.diff(done[:, 20, :, 0])).max(axis=1)
    assert steps.min() < 0.4
    assert steps.max() == 1


def test_background_adds_light_and_reduces_the_contrast(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"background": 3.0}))
    dark = done[:, :5].mean(axis=(1, 2, 3))
    assert dark.max() > 0.4
    contrast = done[:, 20, 20, 0] - done[:, 20, 16, 0]
    assert contrast.min() < 0.4
    assert contrast.max() == 1


def test_noise_reaches_up_to_its_share_of_the_pixels(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"noise": 0.4}))
    # a quarter of the new values are those that the pixel had
    changed = (done != bar).mean(axis=(1, 2, 3))
    assert changed.max() == pytest.approx(0.3, abs=0.04)
    assert np.median(changed) < 0.02


def test_processes_that_share_a_batch_disturb_it_alike(train: Split) -> None:
    limits = NONE.model_copy(update=ALL)
    drawn = draw_disturbance(limits, 64, train.images.shape[1:3], np.random.default_rng(3))
    whole = disturb(train.images[:64], drawn)
    for rows in (np.arange(0, 64, 2), np.arange(1, 64, 2)):
        np.testing.assert_array_equal(disturb(train.images[rows], drawn.of(rows)), whole[rows])


def test_outline_is_what_a_dilation_adds(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"outline": 1.0}))[..., 0]
    image = bar[0, ..., 0]
    outline = grey_dilation(image, (3, 3)) - image
    share = done[:, 9, 20]  # above the bar, where only the outline is bright
    assert share.max() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(done, image + share[:, None, None] * (outline - image), atol=1e-6)


def test_lines_only_add_light_and_reach_all_parts_of_the_image(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"lines": 12}))
    assert (done >= bar).all()
    added = (done - bar)[..., 0]
    beside = added[..., :18]  # of the bar
    assert (beside.max(axis=0) > 0.1).mean() > 0.8
    lit = (added > 0).mean(axis=(1, 2))[added.any(axis=(1, 2))]
    assert 0.002 < np.median(lit) < 0.2


def test_the_limit_of_lines_is_the_number_of_segments(bar: np.ndarray) -> None:
    one, many = ((disturbed(bar, NONE.model_copy(update={"lines": limit})) - bar).mean() for limit in (1, 20))
    assert many > 2 * one


def test_inverted_bands_cover_whole_rows_or_whole_columns(bar: np.ndarray) -> None:
    done = disturbed(bar, NONE.model_copy(update={"invert": 0.5}))
    inverted = (done != bar)[..., 0]
    np.testing.assert_array_equal(done[..., 0][inverted], 1 - bar[..., 0][inverted])
    rows = (inverted == inverted[:, :, :1]).all(axis=(1, 2))
    columns = (inverted == inverted[:, :1, :]).all(axis=(1, 2))
    assert (rows | columns).all()
    assert 10 < (columns & ~rows).sum() < 90
    assert 10 < (rows & ~columns).sum() < 90
    assert inverted.mean(axis=(1, 2)).max() <= 1


def test_combined_limits_the_changes_of_one_image(train: Split) -> None:
    changes = {}
    for most in (0, 1, 2, 6):
        limits = NONE.model_copy(update={**ALL, "combined": most})
        drawn = draw_disturbance(limits, 1000, train.images.shape[1:3], np.random.default_rng(3))
        assert drawn.blur is not None
        assert drawn.density is not None
        assert drawn.noise is not None
        assert drawn.outline is not None
        assert drawn.lines is not None
        assert drawn.invert is not None
        present = [
            drawn.blur > 0,
            drawn.density > 0,
            ~np.isnan(drawn.noise),
            drawn.outline > 0,
            drawn.lines > 0,
            drawn.invert > 0,
        ]
        changes[most] = np.sum([each.any(axis=(1, 2)) for each in present], axis=0)
    assert changes[1].max() == 1
    assert changes[2].max() == 2
    assert changes[6].max() > 3
    np.testing.assert_array_equal(changes[0], changes[6])
    assert 0.15 < (changes[2] == 0).mean() < 0.4


def test_a_share_of_the_batch_stays_as_it_is(train: Split) -> None:
    limits = NONE.model_copy(update={**ALL, "shift": 3, "rotation": 20, "scale": 0.2, "undistorted": 0.25})
    images = train.images[:200]
    random = np.random.default_rng(3)
    moved = augment(images, draw_amounts(limits, 200, random))
    done = disturb(moved, draw_disturbance(limits, 200, images.shape[1:3], random))
    np.testing.assert_array_equal(done[:50], images[:50])
    assert (done[50:] != images[50:]).any(axis=(1, 2, 3)).all()
    alone = augment(images[50:], draw_amounts(limits, 200, np.random.default_rng(3))[:, 50:])
    np.testing.assert_array_equal(moved[50:], alone)


def test_channels_of_an_image_are_distorted_and_disturbed_alike() -> None:
    images = np.random.default_rng(0).random((12, 16, 16, 3), np.float32)
    limits = Distortion.model_validate({"shift": 2, "rotation": 20, "scale": 0.2, **ALL})
    random = np.random.default_rng(5)
    amounts, drawn = draw_amounts(limits, 12, random), draw_disturbance(limits, 12, (16, 16), random)
    whole = disturb(augment(images, amounts), drawn)
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    assert (whole != images).any(axis=(1, 2)).all()
    for channel in range(3):
        alone = disturb(augment(images[..., channel : channel + 1], amounts), drawn)
        np.testing.assert_array_equal(whole[..., channel : channel + 1], alone)
