"""What a trained model answers to images whose right answer follows from how they are made.

Invariance: a digit that moves by one pixel stays the same digit. Minimum functionality: printed digits are
read. Direction: more noise gives less confidence. CheckList (Ribeiro et al., 2020) names these three kinds.
ONNX Runtime answers, as it does in production.

``make test`` asks the model of the small project of the tests, which is trained on 2,700 images.
``pytest -m long tests/model/test_behaviour.py`` asks the model in this checkout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lenet5.core.paths import Paths
from lenet5.model import onnx_session
from lenet5.serving import image_normalization
from tests.conftest import REPOSITORY, Arrays, Project

Images = NDArray[np.uint8]
Answer = Callable[[Images], NDArray[np.float32]]

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "cmr10", "cmb10", "cmss10", "cmtt10"),
    *("STIXGeneral", "STIXGeneralBol"),
)
"""Fonts that matplotlib brings."""
NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
NOISE = (0, 20, 40, 80, 120)
"""Standard deviations, in pixel units."""


@dataclass(frozen=True)
class Model:
    """A trained model, and what is asked of it."""

    answer: Answer
    unmoved: float
    """Least share of the images that get an equal answer after each shift by one pixel."""
    printed: float
    """Least share of the printed digits that are read."""


@pytest.fixture(
    scope="module",
    params=[pytest.param("small", marks=pytest.mark.slow), pytest.param("real", marks=pytest.mark.long)],
)
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "small":
        project: Project = request.getfixturevalue("finished")
        return Model(answers(project.paths), unmoved=0.85, printed=0.75)
    paths = Paths(REPOSITORY)
    if not paths.onnx.exists():
        pytest.skip(f"there is no {paths.onnx}: `dvc repro` writes it")
    return Model(answers(paths), unmoved=0.95, printed=0.98)


def answers(paths: Paths) -> Answer:
    session = onnx_session.load(paths.onnx.read_bytes())
    return lambda images: onnx_session.probabilities(session, images)


@pytest.fixture(scope="module")
def images(digits: Arrays) -> Images:
    return digits["test_images"]


def printed(font: str) -> Images:
    """Print the ten digits, black on white, and normalize them as those of a client."""
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    loaded = ImageFont.truetype(str(file), 80)
    pictures = []
    for digit in range(10):
        picture = Image.new("L", (120, 120), "white")
        ImageDraw.Draw(picture).text((60, 60), str(digit), fill="black", font=loaded, anchor="mm")
        pictures.append(image_normalization.convert(picture, "digit", (28, 28)))
    return np.stack(pictures)


@pytest.mark.parametrize("shift", NEIGHBOURS)
def test_a_shift_by_one_pixel_changes_few_answers(
    model: Model, images: Images, shift: tuple[int, int]
) -> None:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moved = np.roll(padded, shift, axis=(1, 2))[:, 1:-1, 1:-1]
    before, after = (model.answer(each).argmax(axis=1) for each in (images, moved))
    assert (before == after).mean() >= model.unmoved


def test_shifts_of_many_pixels_change_many_answers(model: Model, images: Images) -> None:
    """The test above can fail: answers do follow the pixels."""
    moved = np.roll(images, (9, 9), axis=(1, 2))
    before, after = (model.answer(each).argmax(axis=1) for each in (images, moved))
    assert (before == after).mean() < 0.5


def test_printed_digits_are_read(model: Model) -> None:
    read = {font: model.answer(printed(font)).argmax(axis=1).tolist() for font in FONTS}
    right = np.mean([np.equal(digits, range(10)).mean() for digits in read.values()])
    assert right >= model.printed, read


def test_more_noise_gives_less_confidence(model: Model, images: Images, digits: Arrays) -> None:
    noise = np.random.default_rng(0).normal(size=images.shape)
    labels = digits["test_labels"]
    confidence, right = [], []
    for deviation in NOISE:
        noisy = np.clip(images + deviation * noise, 0, 255).round().astype(np.uint8)
        probabilities = model.answer(noisy)
        confidence.append(probabilities.max(axis=1).mean())
        right.append(probabilities[np.arange(len(labels)), labels].mean())
    assert (np.diff(confidence) < 0).all(), confidence
    assert (np.diff(right) < 0).all(), right
    assert confidence[-1] < confidence[0] - 0.2


def test_a_fainter_digit_is_the_same_digit(model: Model, images: Images) -> None:
    faint = (images * 0.8).round().astype(np.uint8)
    before, after = (model.answer(each).argmax(axis=1) for each in (images, faint))
    assert (before == after).mean() >= model.unmoved


def test_each_answer_is_a_distribution_whatever_the_image(model: Model) -> None:
    extremes = np.stack([np.zeros((28, 28)), np.full((28, 28), 255), np.eye(28) * 255]).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    probabilities = model.answer(np.concatenate([extremes, noise]))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
