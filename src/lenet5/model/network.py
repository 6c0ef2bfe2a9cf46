"""Build LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, figure 2).

ReLU, max pooling and softmax replace tanh, trainable sub-sampling and Gaussian connections, as in the
notebook that this project started from. A network of dense layers alone is the baseline.
"""

from functools import partial
from typing import Literal

import keras

from lenet5.core.dataset import PIXEL_SCALE


def build(
    height: int,
    width: int,
    kernel_size: int,
    precision: str = "float32",
    *,
    classes: int,
    channels: int = 1,
    padding: Literal["valid", "same"] = "valid",
    pooling: Literal["max", "average"] = "max",
    l2: float = 0.0,
) -> keras.Sequential:
    """Build LeNet-5 for rescaled images: float32 (B, height, width, channels) → float32 (B, classes).

    The shapes in the comments are those of the paper: grey 32x32 images, 5x5 kernels and 10 classes, which
    give 61,706 parameters. 28x28 images and 3x3 kernels give 60,074.

    Args:
        height: rows of an image, padding included.
        width: columns of an image, padding included.
        kernel_size: side of both convolution kernels.
        precision: Keras' dtype policy of all layers except the last one, whose probabilities stay float32.
        classes: number of classes.
        channels: of an image; 1 for grey, 3 for RGB.
        padding: of both convolutions; ``same`` keeps the size of their input.
        pooling: what replaces each 2x2 window.
        l2: factor of the sum of all squared kernel weights in the loss; 0 adds nothing.
    """
    regularizer = _regularizer(l2)
    conv = partial(
        keras.layers.Conv2D,
        kernel_size=kernel_size,
        padding=padding,
        activation="relu",
        kernel_regularizer=regularizer,
        dtype=precision,
    )
    pooled = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[pooling]
    pool = partial(pooled, 2, dtype=precision)
    dense = partial(keras.layers.Dense, activation="relu", kernel_regularizer=regularizer, dtype=precision)
    return keras.Sequential(
        [
            keras.Input((height, width, channels)),  # (B, 32, 32, 1)
            conv(6, name="c1"),  # (B, 28, 28, 6)
            pool(name="s2"),  # (B, 14, 14, 6)
            conv(16, name="c3"),  # (B, 10, 10, 16)
            pool(name="s4"),  # (B, 5, 5, 16)
            keras.layers.Flatten(dtype=precision, name="flatten"),  # (B, 400)
            dense(120, name="c5"),
            dense(84, name="f6"),
            dense(classes, activation="softmax", dtype="float32", name="output"),
        ],
        name="lenet5",
    )


def build_mlp(
    height: int,
    width: int,
    precision: str = "float32",
    *,
    classes: int,
    channels: int = 1,
    l2: float = 0.0,
) -> keras.Sequential:
    """Build a network without convolutions, with about as many parameters as LeNet-5.

    Grey 28x28 images and 10 classes give 60,026 parameters, 48 fewer than those of LeNet-5 with 3x3 kernels.
    The last two layers are those of LeNet-5. See :func:`build` for the arguments, the input and the output.
    """
    dense = partial(
        keras.layers.Dense, activation="relu", kernel_regularizer=_regularizer(l2), dtype=precision
    )
    return keras.Sequential(
        [
            keras.Input((height, width, channels)),
            keras.layers.Flatten(dtype=precision, name="flatten"),  # (B, 784)
            dense(68, name="hidden"),
            dense(84, name="f6"),
            dense(classes, activation="softmax", dtype="float32", name="output"),
        ],
        name="mlp",
    )


def _regularizer(l2: float) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(l2) if l2 else None


def in_float32(trained: keras.Sequential) -> keras.Sequential:
    """Return the trained network with float32 layers. Its weights are float32 under every dtype policy."""
    if {layer.compute_dtype for layer in trained.layers} == {"float32"}:
        return trained
    return copy(trained)


def copy(trained: keras.Sequential) -> keras.Sequential:
    """Return a network with the same weights in new float32 layers, on the current device."""
    network = keras.models.clone_model(
        trained,
        clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "float32"}),
    )
    network.set_weights(trained.get_weights())
    return network


def with_preprocessing(trained: keras.Sequential, padding: int) -> keras.Sequential:
    """Return a model that takes raw pixels: uint8 (B, H, W), or (B, H, W, 3) for RGB → float32 (B, classes).

    It rescales, reshapes and pads the images and then applies the trained layers, which it shares with
    ``trained``.

    Args:
        trained: the network of :func:`build` or :func:`build_mlp`.
        padding: rows and columns of zeros on each side, as in the images that it was trained on.
    """
    height, width = (side - 2 * padding for side in trained.input_shape[1:3])
    grey = trained.input_shape[3] == 1
    return keras.Sequential(
        [
            keras.Input((height, width) if grey else (height, width, 3), dtype="uint8", name="pixels"),
            keras.layers.Rescaling(PIXEL_SCALE, name="rescale"),
            *([keras.layers.Reshape((height, width, 1), name="nhwc")] if grey else []),
            keras.layers.ZeroPadding2D(padding, name="pad"),
            *trained.layers,
        ],
        name=trained.name,
    )
