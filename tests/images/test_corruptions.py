"""The corruptions change images more with each severity, and one seed always gives the same bytes."""

import hashlib
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.images import corruptions
from lenet5.images.corruptions import CORRUPTIONS, MNIST_C, linear, overlay
from tests.conftest import Arrays

Images = NDArray[np.uint8]
IMAGES = 40
RANDOM = {
    *("shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "rotate", "translate", "fog"),
    *("spatter", "dotted_line", "zigzag", "occlusion"),
}


@pytest.fixture(scope="module")
def images(digits: Arrays) -> Images:
    return digits["test_images"][:IMAGES]


def corrupted(name: str, images: Images, severity: int = 3, seed: int = 1998, block: int = 0) -> Images:
    return corruptions.corrupt(name, images, severity, seed, block)


def change(changed: Images, images: Images) -> float:
    return float(np.abs(changed.astype(int) - images).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_and_type_stay_and_the_input_too(name: str, images: Images) -> None:
    before = images.copy()
    for severity in corruptions.SEVERITIES:
        changed = corrupted(name, images, severity)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert changed.flags.c_contiguous
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"identity", "fog"}))
def test_each_severity_changes_more_than_the_last(name: str, images: Images) -> None:
    changes = [change(corrupted(name, images, severity), images) for severity in corruptions.SEVERITIES]
    assert changes[0] > 0
    assert changes == sorted(set(changes))


def test_denser_fog_leaves_less_contrast(images: Images) -> None:
    lit = images > 200
    contrasts = []
    for severity in corruptions.SEVERITIES:
        foggy = corrupted("fog", images, severity)
        contrasts.append(foggy[lit].mean() - foggy[images == 0].mean())
    assert contrasts == sorted(set(contrasts), reverse=True)


def test_the_identity_changes_nothing(images: Images) -> None:
    for severity in corruptions.SEVERITIES:
        np.testing.assert_array_equal(corrupted("identity", images, severity), images)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_another_severity_is_an_error(severity: int, images: Images) -> None:
    with pytest.raises(ValueError, match=f"severity must be 1 to 5, found {severity}"):
        corrupted("rotate", images, severity)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_seed_and_block_decide_the_random_ones(name: str, images: Images) -> None:
    first = corrupted(name, images)
    np.testing.assert_array_equal(corrupted(name, images), first)
    for other in (corrupted(name, images, seed=1999), corrupted(name, images, block=1)):
        assert (change(other, first) > 0) == (name in RANDOM)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_any_form_of_image_will_do(name: str, images: Images) -> None:
    for wanted in (images[:0], images[:1], images[:, 2:-1, 1:-4]):
        assert corrupted(name, wanted).shape == wanted.shape


def test_threads_change_no_byte(images: Images) -> None:
    alone = {name: corrupted(name, images) for name in CORRUPTIONS}
    together: dict[str, Images] = {}
    threads = [
        threading.Thread(target=lambda name=name: together.update({name: corrupted(name, images)}))
        for name in CORRUPTIONS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, expected in alone.items():
        np.testing.assert_array_equal(together[name], expected, err_msg=name)


def test_bytes_are_those_of_every_processor() -> None:
    rows, columns = np.indices((28, 28))
    images = np.stack([(rows * columns * k + 7 * rows) % 256 for k in range(1, 9)]).astype(np.uint8)
    found = hashlib.sha256()
    for name in CORRUPTIONS:
        for severity in corruptions.SEVERITIES:
            found.update(corrupted(name, images, severity).tobytes())
    expected = "1f9cb1c1cda6ca27e46f8a7aa62de87613bf34d7f56cdc7d61b6bd5106ddc190"  # pragma: allowlist secret
    assert found.hexdigest() == expected


def test_mnist_c_has_its_fifteen() -> None:
    assert len(MNIST_C) == 15
    assert MNIST_C.items() <= CORRUPTIONS.items()


def test_shot_noise_keeps_the_mean_and_has_the_variance_of_photons() -> None:
    grey = np.full((400, 28, 28), 51, np.uint8)
    noisy = corrupted("shot_noise", grey, 1) / 255 * 12  # photons
    assert noisy.mean() == pytest.approx(0.2 * 12, rel=0.01)
    assert noisy.var() == pytest.approx(0.2 * 12, rel=0.03)


def test_impulse_noise_hits_its_share_of_the_pixels() -> None:
    grey = np.full((100, 28, 28), 51, np.uint8)
    noisy = corrupted("impulse_noise", grey)
    assert (noisy == 0).mean() == pytest.approx(0.085, abs=0.005)
    assert (noisy == 255).mean() == pytest.approx(0.085, abs=0.005)
    assert set(np.unique(noisy)) == {0, 51, 255}


def test_translation_moves_pixels_and_changes_none(images: Images) -> None:
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3)))
    corners = [(0, 0), (0, 6), (6, 0), (6, 6)]
    possible = np.stack([padded[:, top : top + 28, left : left + 28] for top, left in corners])
    equal = (possible == corrupted("translate", images)).all(axis=(2, 3))
    assert equal.any(axis=0).all()
    assert (equal.argmax(axis=0)[:, np.newaxis] == range(4)).any(axis=0).all()


def test_rotation_moves_a_point_by_its_angle() -> None:
    point = np.zeros((50, 29, 29), np.uint8)
    point[:, 14, 24] = 255  # 10 pixels to the right of the centre
    rows, columns = np.indices((29, 29))
    turned = corrupted("rotate", point).astype(float)
    down = (turned * (rows - 14)).sum(axis=(1, 2)) / turned.sum(axis=(1, 2))
    right = (turned * (columns - 14)).sum(axis=(1, 2)) / turned.sum(axis=(1, 2))
    np.testing.assert_allclose(np.abs(np.arctan2(down, right)), 0.4, atol=0.03)
    assert {-1.0, 1.0} == set(np.sign(down))


def test_scaling_shrinks_the_picture() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[:, 4:24, 4:24] = 200
    for severity, size in ((1, 18), (3, 14), (5, 10)):
        assert corrupted("scale", square, severity).sum() / 200 == pytest.approx(size**2, rel=0.03)


def test_occlusion_blackens_one_square() -> None:
    white = np.full((20, 28, 28), 255, np.uint8)
    for image in corrupted("occlusion", white):
        assert (image == 0).any(axis=0).sum() == (image == 0).any(axis=1).sum() == 9
        assert (image == 0).sum() == 81


def test_dilation_and_erosion_keep_order(images: Images) -> None:
    assert (corrupted("thick_strokes", images) >= images).all()
    assert (corrupted("thin_strokes", images) <= images).all()


def test_inversion_is_complete_at_severity_5(images: Images) -> None:
    np.testing.assert_array_equal(corrupted("inversion", images, 5), 255 - images)


def test_canny_draws_the_outline_of_a_square() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[:, 8:20, 8:20] = 255
    edges = corrupted("canny_edges", square)[0] == 255
    outline = np.zeros((28, 28), bool)
    outline[7:21, 7:21] = True
    outline[9:19, 9:19] = False
    assert edges[outline].mean() > 0.4
    assert not edges[~outline].any()


@pytest.mark.parametrize("patterns", [overlay._dotted_lines, overlay._zigzags])
def test_lines_are_drawn_from_side_to_side(patterns: object) -> None:
    drawn = patterns((28, 28))  # type: ignore[operator]
    assert drawn.max() == 255
    middle = drawn[len(drawn) // 2]
    assert (middle.max(axis=0) > 0).sum() >= 12


def test_linear_operations_keep_grey_images() -> None:
    grey = np.full((3, 28, 28), 77, np.uint8)
    np.testing.assert_array_equal(linear.apply(linear.gaussian(1.5, (28, 28)), grey), grey)
    for name in ("glass_blur", "motion_blur"):
        np.testing.assert_array_equal(corrupted(name, grey), grey)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_channels_of_rgb_images_are_corrupted_with_the_same_random_numbers(name: str, images: Images) -> None:
    colours = np.stack([images, images[::-1], 255 - images], axis=-1)
    changed = corrupted(name, colours)
    assert changed.shape == colours.shape
    assert changed.dtype == np.uint8
    assert changed.flags.c_contiguous
    for channel in range(3):
        np.testing.assert_array_equal(changed[..., channel], corrupted(name, colours[..., channel]))
    grey = np.repeat(images[..., np.newaxis], 3, axis=-1)  # a grey picture stays grey
    found = corrupted(name, grey)
    np.testing.assert_array_equal(found, np.repeat(found[..., :1], 3, axis=-1))


@pytest.mark.parametrize("side", [8, 9, 64])
@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"identity"}))
def test_every_severity_changes_a_part_of_small_and_of_large_images(name: str, side: int) -> None:
    images = np.random.default_rng(3).integers(0, 256, (6, side, side)).astype(np.uint8)
    for severity in corruptions.SEVERITIES:
        changed = corrupted(name, images, severity)
        assert changed.shape == images.shape
        assert (changed != images).mean() > 0
    if name in ("stripe", "occlusion", "inversion"):  # they leave the rest as it is
        assert (corrupted(name, images, 1) != images).mean() < 0.3
