"""Pictures for models of other data: objects and whole pictures, grey and RGB, of any size."""

from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lenet5.core.dataset import Description, Pictures
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.model import backend, keras_file, metrics, network, onnx_export
from lenet5.serving import predictor
from lenet5.serving.image_normalization import convert
from lenet5.stages.ingest import fit
from lenet5.stages.ingest.params import Image as ImageParams
from lenet5.tracking import tags
from tests.data_sets import SHOES
from tests.registry.conftest import client, embedded_store, model_name, paths
from tests.registry.factory import add_model

__all__ = ["client", "embedded_store", "model_name", "paths"]

Pixels = NDArray[np.uint8]
CONVERSIONS: tuple[Pictures, ...] = ("object", "digit", "whole")
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 40), (40, 60, 230)

backend.configure(1)  # before the first operation of the process


def shape_on(
    background: str, colour: str | tuple[int, int, int], size: tuple[int, int] = (120, 80)
) -> Image.Image:
    """Draw a shape that is wider than high, away from the centre."""
    picture = Image.new("RGB", size, background)
    ImageDraw.Draw(picture).ellipse((10, 20, 70, 50), fill=colour)
    return picture


@pytest.mark.parametrize("side", [8, 28, 64])
@pytest.mark.parametrize(("background", "ink"), [("white", "black"), ("black", "white"), ("#ccc", "#222")])
def test_object_fills_the_side_on_black(side: int, background: str, ink: str) -> None:
    image = convert(shape_on(background, ink).convert("L"), "object", (side, side))
    assert image.shape == (side, side)
    rows, columns = np.nonzero(image > 100)
    assert np.ptp(columns) + 1 >= side - 2
    assert abs(np.ptp(rows) + 1 - side / 2) <= 2
    assert abs(rows.mean() - (side - 1) / 2) < 1, "centred"
    assert image[0].max() == image[-1].max() == 0, "on black"


def test_object_on_white_is_inverted_and_keeps_its_shades() -> None:
    grey = np.full((90, 90), 255, np.uint8)
    grey[20:70, 20:70] = 200
    grey[40:50, 40:50] = 10
    image = convert(Image.fromarray(grey), "object", (28, 28))
    assert abs(int(image[5, 5]) - 55) <= 3
    assert abs(int(image[14, 14]) - 245) <= 6


def test_object_in_colour_keeps_its_colour() -> None:
    image = convert(shape_on("white", RED), "object", (16, 16, 3))
    assert image.shape == (16, 16, 3)
    np.testing.assert_allclose(image[8, 8], RED, atol=3)
    assert image[0].max() == 0


def test_image_of_the_data_set_is_not_changed() -> None:
    random = np.random.default_rng(0)
    grey = np.zeros((28, 28), np.uint8)
    grey[4:24, 4:24] = random.integers(1, 256, (20, 20))
    np.testing.assert_array_equal(convert(Image.fromarray(grey), "object", (28, 28)), grey)
    colour = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(convert(Image.fromarray(colour), "whole", (16, 16, 3)), colour)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3), (64, 64, 3)])
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (16, 16), (9, 5), (1, 1)])
def test_whole_picture_is_resized_as_the_stage_ingest_does(
    shape: tuple[int, ...], size: tuple[int, int]
) -> None:
    picture = shape_on("white", RED, size)
    image = convert(picture, "whole", shape)
    channels = 3 if len(shape) > 2 else 1
    target = ImageParams(size=shape[0], channels=channels, fit="resize", transpose=False)  # type: ignore[arg-type]
    np.testing.assert_array_equal(image, fit.fitted([np.asarray(picture)], target, "a test")[0])


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16"])
def test_pictures_of_any_mode_become_rgb(mode: str) -> None:
    drawn = shape_on("white", "black").convert("L")
    wide = Image.fromarray(np.asarray(drawn).astype(np.uint16) * 257)
    picture = wide if mode == "I;16" else drawn.convert(mode)
    for pictures in CONVERSIONS[1:]:
        image = convert(picture, pictures, (20, 20, 3))
        assert image.shape == (20, 20, 3)
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        assert np.ptp(image) > 150


def test_black_object_is_no_object_in_colour() -> None:
    with pytest.raises(DataError, match="black object"):
        convert(shape_on("white", "black"), "object", (20, 20, 3))
    assert convert(shape_on("white", "black"), "object", (20, 20)).max() == 255


def test_transparent_background_of_a_colour_picture_is_paper() -> None:
    picture = Image.new("RGBA", (40, 40), (255, 0, 255, 0))
    ImageDraw.Draw(picture).rectangle((10, 10, 30, 30), fill=(*BLUE, 255))
    image = convert(picture, "whole", (20, 20, 3))
    np.testing.assert_array_equal(image[0, 0], (255, 255, 255))
    np.testing.assert_allclose(image[10, 10], BLUE, atol=3)


@pytest.mark.parametrize("pictures", CONVERSIONS[:2])
@pytest.mark.parametrize("shape", [(28, 28), (16, 16, 3)])
def test_picture_of_background_alone_is_refused(pictures: Pictures, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"shows only background(.|\n)*expected: (.|\n)*fix: "):
        convert(Image.new("RGB", (100, 100), "white"), pictures, shape)


def colours(seed: int, count: int) -> tuple[Pixels, Pixels]:
    """Return RGB images of 16 pixels in which the colour decides the class."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 3).astype(np.uint8)
    images = random.integers(0, 60, (count, 16, 16, 3))
    images[:, 4:12, 4:12] += np.array([RED, GREEN, BLUE])[labels][:, None, None] - 60
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained() -> keras.Sequential:
    keras.utils.set_random_seed(1)
    images, labels = colours(0, 600)
    model = network.build(16, 16, 3, classes=3, channels=3)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    model.fit(images / np.float32(255), np.eye(3, dtype=np.float32)[labels], epochs=4, verbose=0)
    return network.with_preprocessing(model, padding=0)


def register(
    client: MlflowClient,
    paths: Paths,
    name: str,
    trained: keras.Sequential,
    description: Description,
    tmp: Path,
) -> None:
    images, labels = colours(1, 30)
    keras_file.save(trained, tmp / "model.keras")
    add_model(
        client,
        paths,
        name,
        metrics.predictions(labels, metrics.probabilities(trained, images, 30)),
        test_data="d" * 64,
        model_files={
            tags.KERAS_FILE: (tmp / "model.keras").read_bytes(),
            tags.ONNX_FILE: onnx_export.export(trained, description),
        },
    )


def test_predict_names_the_classes_of_the_model(
    client: MlflowClient, paths: Paths, model_name: str, trained: keras.Sequential, tmp_path: Path
) -> None:
    register(client, paths, model_name, trained, SHOES.manifest.description, tmp_path)
    images, labels = colours(2, 6)
    pictures = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(pictures, images, strict=True):
        Image.fromarray(image).resize((160, 160), Image.Resampling.NEAREST).save(path)
    answers = predictor.predict(paths, model_name, "1", pictures)
    names = SHOES.classes
    assert [answer["class"] for answer in answers] == [names[label] for label in labels]
    assert all(answer["next_class"] in set(names) - {answer["class"]} for answer in answers)
    assert set(answers[0]) == {
        "image", "class", "probability", "next_class", "next_probability", "version"
    }  # fmt: skip


def test_model_that_names_too_few_classes_is_refused(
    client: MlflowClient, paths: Paths, model_name: str, trained: keras.Sequential, tmp_path: Path
) -> None:
    register(client, paths, model_name, trained, Description(classes=("a", "b"), pictures="whole"), tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    with pytest.raises(
        DataError, match=r"does not name all of its classes(.|\n)*expected: 3(.|\n)*found: +2: a, b"
    ):
        predictor.predict(paths, model_name, "1", [tmp_path / "picture.png"])
