"""Pictures of any size, mode and polarity become images like those of MNIST."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lenet5.core.errors import DataError
from lenet5.serving import image_normalization
from tests.conftest import Arrays

Pixels = NDArray[np.uint8]


def from_picture(picture: Image.Image) -> Pixels:
    return image_normalization.convert(picture, "digit", (28, 28))


def seven(size: tuple[int, int], ink: int = 0, background: int = 255, *, at: float = 0.5) -> Image.Image:
    """Draw a seven, half as high as the shorter side; ``at`` is its centre as a share of both sides."""
    scale = max(1, 1000 // min(size))  # Pillow draws a line of few pixels too coarsely
    width, height = (scale * length for length in size)
    side = min(width, height) / 2
    left, top = width * at - side / 3, height * at - side / 2
    points = [(left, top), (left + side * 2 / 3, top), (left + side / 4, top + side)]
    picture = Image.new("L", (width, height), background)
    ImageDraw.Draw(picture).line(points, fill=ink, width=round(side / 8))
    return picture.resize(size, Image.Resampling.BOX)


def correlation(one: Pixels, other: Pixels) -> float:
    """Return the correlation of two images: 1 for equal images, 0 for unrelated ones."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def expected() -> Pixels:
    return from_picture(seven((200, 200)))


def test_result_has_the_format_of_mnist(expected: Pixels) -> None:
    assert expected.shape == (28, 28)
    assert expected.dtype == np.uint8
    assert expected.max() > 200
    rows, columns = np.nonzero(expected)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    weight = expected.sum()
    centre = [float((expected.sum(axis=1 - axis) * np.arange(28)).sum() / weight) for axis in (0, 1)]
    assert centre == pytest.approx([14, 14], abs=0.6)


@pytest.mark.parametrize("size", [(24, 24), (50, 90), (90, 50), (300, 200), (1500, 2000)])
def test_pictures_of_any_size(expected: Pixels, size: tuple[int, int]) -> None:
    assert correlation(from_picture(seven(size)), expected) > 0.85


@pytest.mark.parametrize(("ink", "background"), [(255, 0), (200, 30), (0, 180), (60, 220)])
def test_either_polarity_and_grey_paper(expected: Pixels, ink: int, background: int) -> None:
    assert correlation(from_picture(seven((200, 200), ink, background)), expected) > 0.85


@pytest.mark.parametrize("at", [0.3, 0.7])
def test_digit_anywhere_in_the_picture(expected: Pixels, at: float) -> None:
    assert correlation(from_picture(seven((200, 200), at=at)), expected) > 0.85


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_pictures_of_any_mode(expected: Pixels, mode: str) -> None:
    assert correlation(from_picture(seven((200, 200)).convert(mode)), expected) > 0.85


def test_transparent_background_is_paper(expected: Pixels) -> None:
    drawn = seven((200, 200))
    picture = Image.new("RGBA", drawn.size, (0, 0, 0, 0))  # black and fully transparent
    picture.paste("black", mask=drawn.point(lambda value: 255 - value))
    assert correlation(from_picture(picture), expected) > 0.85


def test_exif_orientation_is_applied(expected: Pixels) -> None:
    picture = seven((200, 200)).transpose(Image.Transpose.ROTATE_90)
    picture.getexif()[0x0112] = 6  # EXIF orientation 6: rotate by 90 degrees clockwise
    assert correlation(from_picture(picture), expected) > 0.85


def test_enlarged_digit_on_white_paper_is_recovered(digits: Arrays) -> None:
    """Resizing causes the difference. A shift by one pixel would halve the correlation."""
    correlations = []
    for digit in digits["test_images"][:100]:
        paper = Image.new("L", (700, 500), 255)
        big = Image.fromarray(255 - digit).resize((28 * 9, 28 * 9), Image.Resampling.BICUBIC)
        paper.paste(big, (400, 30))
        correlations.append(correlation(from_picture(paper), digit))
    assert np.median(correlations) > 0.85
    assert min(correlations) > 0.5


def test_28x28_on_a_dark_background_is_unchanged(digits: Arrays) -> None:
    for digit in digits["test_images"][:100]:
        np.testing.assert_array_equal(from_picture(Image.fromarray(digit)), digit)


def test_28x28_on_a_light_background_is_inverted(digits: Arrays) -> None:
    digit = digits["test_images"][0]
    assert correlation(from_picture(Image.fromarray(255 - digit)), digit) > 0.5


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (300, 200)])
@pytest.mark.parametrize("background", [0, 100, 150, 255])
def test_blank_picture_is_an_error(size: tuple[int, int], background: int) -> None:
    with pytest.raises(DataError, match="shows only background"):
        from_picture(Image.new("L", size, background))


def test_transparent_picture_is_an_error() -> None:
    with pytest.raises(DataError, match="shows only background"):
        from_picture(Image.new("RGBA", (100, 100), (0, 0, 0, 0)))


def test_picture_with_small_spots_is_an_error() -> None:
    picture = Image.new("L", (4000, 4000), 255)
    picture.putpixel((5, 5), 0)
    picture.putpixel((3990, 3990), 0)
    with pytest.raises(DataError, match="shows only background"):
        from_picture(picture)


def test_16_bit_picture_equals_the_8_bit_one(digits: Arrays) -> None:
    for digit in digits["test_images"][:20]:
        big = Image.fromarray(255 - digit).resize((280, 280))
        wide = Image.fromarray(np.asarray(big).astype(np.uint16) * 257)
        assert wide.mode == "I;16"
        assert np.abs(from_picture(wide).astype(int) - from_picture(big)).max() <= 1


@pytest.mark.parametrize(("paper", "ink"), [(240, 185), (135, 255), (120, 250), (250, 20)])
def test_faint_ink_of_either_polarity(digits: Arrays, paper: int, ink: int) -> None:
    digit = digits["test_images"][0]
    grey = (paper + (digit / 255.0) * (ink - paper)).round().astype(np.uint8)
    framed = Image.fromarray(np.pad(grey, 20, constant_values=paper))
    strong = Image.fromarray(np.pad(255 - digit, 20, constant_values=255))
    assert correlation(from_picture(framed), from_picture(strong)) > 0.95


def test_light_ink_on_a_transparent_background(digits: Arrays) -> None:
    alpha = np.asarray(Image.fromarray(digits["test_images"][0]).resize((140, 140)))
    white = np.full_like(alpha, 255)
    picture = Image.fromarray(np.stack([white, white, white, alpha], axis=-1))
    assert from_picture(picture).max() > 200
