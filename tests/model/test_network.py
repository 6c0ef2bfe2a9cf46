"""The network has the layers of the paper, and the saved model adds the preprocessing."""

from pathlib import Path

import keras
import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.model import keras_file
from lenet5.model.network import build, build_mlp, in_float32, with_preprocessing
from lenet5.stages.preprocess.stage import encode
from tests.conftest import Arrays


def test_notebook_has_60074_parameters() -> None:
    assert build(28, 28, kernel_size=3, classes=10).count_params() == 60_074


def test_paper_has_61706_parameters_and_the_sizes_of_its_figure_2() -> None:
    network = build(32, 32, kernel_size=5, classes=10)
    assert network.count_params() == 61_706
    assert {layer.name: layer.output.shape[1:] for layer in network.layers} == {
        "c1": (28, 28, 6),
        "s2": (14, 14, 6),
        "c3": (10, 10, 16),
        "s4": (5, 5, 16),
        "flatten": (400,),
        "c5": (120,),
        "f6": (84,),
        "output": (10,),
    }


def test_same_padding_keeps_the_size_of_the_images() -> None:
    network = build(28, 28, kernel_size=3, classes=10, padding="same")
    assert {layer.name: layer.output.shape[1:] for layer in network.layers[:5]} == {
        "c1": (28, 28, 6),
        "s2": (14, 14, 6),
        "c3": (14, 14, 16),
        "s4": (7, 7, 16),
        "flatten": (784,),
    }
    assert network.count_params() == 60_074 + (784 - 400) * 120


def test_mlp_has_about_as_many_parameters_as_lenet5_and_takes_the_same_pixels(digits: Arrays) -> None:
    mlp = build_mlp(28, 28, classes=10)
    assert mlp.count_params() == 60_026
    model = with_preprocessing(mlp, padding=0)
    assert (model.name, model.input_shape, model.output_shape) == ("mlp", (None, 28, 28), (None, 10))
    answers = model.predict_on_batch(digits["test_images"][:50])
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["lenet5", "mlp"])
def test_l2_adds_the_squared_kernel_weights_to_the_loss(architecture: str) -> None:
    network = (
        build(28, 28, 3, classes=10, l2=0.01)
        if architecture == "lenet5"
        else build_mlp(28, 28, classes=10, l2=0.01)
    )
    kernels = [variable for variable in network.trainable_variables if variable.name == "kernel"]
    expected = 0.01 * sum(float((keras.ops.convert_to_numpy(kernel) ** 2).sum()) for kernel in kernels)
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-4)
    assert len(network.losses) == len(kernels)


def test_answers_are_probabilities(digits: Arrays) -> None:
    model = with_preprocessing(build(28, 28, kernel_size=3, classes=10), padding=0)
    answers = model.predict_on_batch(digits["test_images"][:50])
    assert answers.shape == (50, 10)
    assert answers.dtype == np.float32
    assert answers.min() >= 0
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("padding", [0, 2])
def test_saved_model_gives_the_same_bits_as_the_trained_network(
    digits: Arrays, tmp_path: Path, padding: int
) -> None:
    """Preprocessing inside the saved model equals the stage ``preprocess``."""
    keras.utils.set_random_seed(5)
    side = 28 + 2 * padding
    trained = build(side, side, kernel_size=5 if padding else 3, classes=10)
    keras_file.save(with_preprocessing(trained, padding), tmp_path / "lenet5.keras")
    saved = keras_file.load(tmp_path / "lenet5.keras")
    raw = Split(digits["test_images"], digits["test_labels"])
    encoded = encode(raw, padding, 10)
    np.testing.assert_array_equal(
        saved.predict_on_batch(raw.images), trained.predict_on_batch(encoded.images), strict=True
    )
    preprocessing = keras.Model(saved.inputs, saved.get_layer("pad").output)
    np.testing.assert_array_equal(preprocessing.predict_on_batch(raw.images), encoded.images, strict=True)


def test_mixed_precision_trains_in_16_bits_and_is_saved_in_32() -> None:
    mixed = build(28, 28, 3, "mixed_bfloat16", classes=10, padding="same", pooling="average")
    assert {layer.name: layer.compute_dtype for layer in mixed.layers if layer.weights} == {
        **dict.fromkeys(("c1", "c3", "c5", "f6"), "bfloat16"),
        "output": "float32",
    }
    used = in_float32(mixed)
    assert [type(layer) for layer in used.layers] == [type(layer) for layer in mixed.layers]
    assert {layer.compute_dtype for layer in used.layers} == {"float32"}
    for one, other in zip(mixed.get_weights(), used.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_preprocessing_adds_no_weights_and_shares_the_trained_weights() -> None:
    trained = build(
        28, 28, kernel_size=3, classes=10
    )  # random weights differ from those of any other network
    model = with_preprocessing(trained, padding=0)
    assert model.count_params() == trained.count_params()
    assert keras_file.weights_digest(model) == keras_file.weights_digest(trained)
    assert keras_file.weights_digest(model) != keras_file.weights_digest(
        build(28, 28, kernel_size=3, classes=10)
    )


def test_model_takes_pixels_of_an_idx_file_only(digits: Arrays) -> None:
    model = with_preprocessing(build(32, 32, kernel_size=5, classes=10), padding=2)
    assert model.input_shape == (None, 28, 28)
    assert model.inputs[0].dtype == "uint8"
    with pytest.raises(ValueError, match="32"):
        model.predict_on_batch(np.zeros((1, 32, 32), np.uint8))


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 10), (3, 1000)])
def test_channels_and_classes_change_the_first_and_the_last_layer_only(channels: int, classes: int) -> None:
    mnist, other = build(28, 28, 3, classes=10), build(28, 28, 3, classes=classes, channels=channels)
    first, last = 9 * 6 * (channels - 1), 85 * (classes - 10)
    assert other.count_params() == mnist.count_params() + first + last
    assert other.output_shape == (None, classes)


@pytest.mark.parametrize("padding", [0, 2])
def test_saved_model_of_rgb_images_takes_their_raw_pixels(padding: int) -> None:
    keras.utils.set_random_seed(5)
    side = 16 + 2 * padding
    trained = build(side, side, 3, classes=4, channels=3)
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3)).astype(np.uint8)
    encoded = encode(Split(images, np.zeros(9, np.uint8)), padding, 4)
    saved = with_preprocessing(trained, padding)
    preprocessing = keras.Model(saved.inputs, saved.get_layer("pad").output)
    np.testing.assert_array_equal(preprocessing.predict_on_batch(images), encoded.images, strict=True)
    # TensorFlow adds up in another order where it joins padding and convolution
    expected = trained.predict_on_batch(encoded.images)
    np.testing.assert_allclose(saved.predict_on_batch(images), expected, rtol=0, atol=1e-6, strict=True)
