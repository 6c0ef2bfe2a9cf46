"""Equal models give equal ONNX bytes, and ONNX Runtime gives the answers of Keras.

``test_keras_file.py`` compares the bytes across processes.
"""

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from lenet5.core.dataset import DIGITS, Description
from lenet5.core.errors import DataError
from lenet5.model import backend, keras_file, onnx_export, onnx_session
from lenet5.model.network import build, build_mlp, with_preprocessing
from tests.conftest import Arrays

backend.configure(1)  # the stages do the same; this must come before the first operation of the process


def lenet(seed: int = 3, padding: int = 0) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    side = 28 + 2 * padding
    return with_preprocessing(build(side, side, 3, classes=10), padding)


@pytest.fixture(scope="module")
def exported() -> bytes:
    return onnx_export.export(lenet())


def test_saved_and_loaded_model_gives_the_same_bytes(exported: bytes, tmp_path: Path) -> None:
    keras_file.save(lenet(), tmp_path / "model.keras")
    loaded = keras_file.load(tmp_path / "model.keras")
    loaded.predict_on_batch(np.zeros((2, 28, 28), np.uint8))
    assert onnx_export.export(loaded) == exported


def test_other_weights_give_other_bytes(exported: bytes) -> None:
    assert onnx_export.export(lenet(seed=4)) != exported


def test_nodes_are_named_after_the_layers(exported: bytes) -> None:
    graph = onnx.load_from_string(exported).graph
    layers = [layer.name for layer in lenet().layers]
    assert list(dict.fromkeys(node.name.partition(".")[0] for node in graph.node)) == layers
    assert len({node.name for node in graph.node}) == len(graph.node)


@pytest.mark.parametrize("padding", [0, 2])
def test_answers_are_those_of_keras_for_any_number_of_images(digits: Arrays, padding: int) -> None:
    model = lenet(padding=padding)
    session = onnx_session.load(onnx_export.export(model))
    for images in (digits["test_images"][:200], digits["test_images"][:1]):
        expected = model.predict_on_batch(images)
        probabilities = onnx_session.probabilities(session, images)
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("pooling", [keras.layers.MaxPooling2D, keras.layers.AveragePooling2D])
def test_other_layers_of_a_network_give_the_answers_of_keras(
    digits: Arrays, pooling: type[keras.Layer], padding: str
) -> None:
    """Strides, odd sizes and no activation included."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Reshape((28, 28, 1)),
            layers.ZeroPadding2D(((0, 1), (2, 0))),
            layers.Conv2D(
                4, (3, 5), strides=2, padding=padding, activation="tanh", bias_initializer="normal"
            ),
            pooling(3, 2, padding=padding),
            layers.Conv2D(3, 2, padding=padding, bias_initializer="normal"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", bias_initializer="normal"),
        ]
    )
    images = digits["test_images"][:70]
    answers = onnx_session.probabilities(onnx_session.load(onnx_export.export(model)), images)
    np.testing.assert_allclose(answers, model.predict_on_batch(images), rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(2, 3, dilation_rate=2),
        keras.layers.Conv2D(2, 3, activation="elu"),
        keras.layers.Dropout(0.5),
        keras.layers.Rescaling(1.0, offset=1.0),
    ],
    ids=["dilation", "activation", "dropout", "offset"],
)
def test_layer_without_a_known_operator_is_an_error(layer: keras.Layer) -> None:
    reshape = keras.layers.Reshape((28, 28, 1))
    model = keras.Sequential([keras.Input((28, 28), dtype="uint8"), reshape, layer])
    with pytest.raises(ValueError, match="no known ONNX operator"):
        onnx_export.export(model)


def test_file_describes_its_input_and_its_weights(exported: bytes) -> None:
    session = onnx_session.load(exported)
    [pixels], [probabilities] = session.get_inputs(), session.get_outputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["images", 28, 28])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["images", 10])
    assert session.get_modelmeta().custom_metadata_map == {
        "lenet5.weights": keras_file.weights_digest(lenet()),
        "lenet5.description": DIGITS.model_dump_json(),
    }


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_content_that_is_not_a_model_is_an_error(content: bytes) -> None:
    with pytest.raises(DataError, match=r"ONNX Runtime cannot load this model(.|\n)*found: +\S"):
        onnx_session.load(content)


def test_truncated_model_is_an_error(exported: bytes) -> None:
    with pytest.raises(DataError, match="ONNX Runtime cannot load this model"):
        onnx_session.load(exported[: len(exported) // 2])


def test_model_that_refers_to_other_files_is_an_error(exported: bytes, tmp_path: Path) -> None:
    model = onnx.load_from_string(exported)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10_000_000))
    weights = max(model.graph.initializer, key=lambda constant: len(constant.raw_data))
    onnx.external_data_helper.set_external_data(weights, str(secret))
    weights.ClearField("raw_data")
    with pytest.raises(DataError, match="ONNX Runtime cannot load this model"):
        onnx_session.load(model.SerializeToString())


@pytest.mark.parametrize("network", ["same", "average", "mlp"])
def test_answers_of_each_network_are_those_of_keras(digits: Arrays, network: str) -> None:
    made = {
        "same": lambda: build(32, 32, 5, classes=10, padding="same", l2=0.01),
        "average": lambda: build(32, 32, 5, classes=10, pooling="average"),
        "mlp": lambda: build_mlp(32, 32, classes=10),
    }[network]()
    model = with_preprocessing(made, padding=2)
    images = digits["test_images"][:20]
    probabilities = onnx_session.probabilities(onnx_session.load(onnx_export.export(model)), images)
    np.testing.assert_allclose(probabilities, model.predict_on_batch(images), rtol=0, atol=1e-6, strict=True)


@pytest.mark.parametrize(
    ("network", "side", "channels", "classes"),
    [("lenet5", 16, 3, 3), ("lenet5", 64, 3, 2), ("lenet5", 10, 1, 1000), ("mlp", 8, 3, 300)],
)
def test_answers_for_any_images_and_classes_are_those_of_keras(
    network: str, side: int, channels: int, classes: int
) -> None:
    keras.utils.set_random_seed(4)
    made = (
        build(side + 2, side + 2, 3, classes=classes, channels=channels)
        if network == "lenet5"
        else build_mlp(side + 2, side + 2, classes=classes, channels=channels)
    )
    model = with_preprocessing(made, padding=1)
    shape = (70, side, side) if channels == 1 else (70, side, side, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    description = Description(classes=tuple(f"class {i}" for i in range(classes)), pictures="object")
    session = onnx_session.load(onnx_export.export(model, description))
    probabilities = onnx_session.probabilities(session, images)
    assert probabilities.shape == (70, classes)
    np.testing.assert_allclose(probabilities, model.predict_on_batch(images), rtol=0, atol=1e-6, strict=True)
    assert onnx_session.description(session) == description


def test_damaged_description_is_an_error(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    onnx.helper.set_model_props(model, {onnx_session.DESCRIPTION: '{"classes": 3}'})
    with pytest.raises(DataError, match=r"lenet5\.description is damaged"):
        onnx_session.description(onnx_session.load(model.SerializeToString()))


def test_model_of_an_earlier_release_has_the_digits(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    onnx.helper.set_model_props(model, {})
    assert onnx_session.description(onnx_session.load(model.SerializeToString())) == DIGITS
