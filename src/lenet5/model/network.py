"""Build LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, figure 2).

ReLU, max pooling and softmax replace tanh, trainable sub-sampling and Gaussian connections, as in the
notebook that this project started from.
"""

from functools import partial

import keras

from lenet5.core.dataset import CLASSES, PIXEL_SCALE


def build(height: int, width: int, kernel_size: int, precision: str = "float32") -> keras.Sequential:
    """Build LeNet-5 for rescaled images: float32 (B, height, width, 1) → probabilities float32 (B, 10).

    The shapes in the comments are those of the paper: 32x32 images and 5x5 kernels, which give 61,706
    parameters. 28x28 images and 3x3 kernels give 60,074.

    Args:
        height: rows of an image, padding included.
        width: columns of an image, padding included.
        kernel_size: side of both convolution kernels.
        precision: Keras' dtype policy of all layers except the last one, whose probabilities stay float32.
    """
    conv = partial(keras.layers.Conv2D, kernel_size=kernel_size, activation="relu", dtype=precision)
    pool = partial(keras.layers.MaxPooling2D, 2, dtype=precision)
    dense = partial(keras.layers.Dense, activation="relu", dtype=precision)
    return keras.Sequential(
        [
            keras.Input((height, width, 1)),  # (B, 32, 32, 1)
            conv(6, name="c1"),  # (B, 28, 28, 6)
            pool(name="s2"),  # (B, 14, 14, 6)
            conv(16, name="c3"),  # (B, 10, 10, 16)
            pool(name="s4"),  # (B, 5, 5, 16)
            keras.layers.Flatten(dtype=precision, name="flatten"),  # (B, 400)
            dense(120, name="c5"),
            dense(84, name="f6"),
            keras.layers.Dense(CLASSES, activation="softmax", dtype="float32", name="output"),
        ],
        name="lenet5",
    )


def in_float32(trained: keras.Sequential) -> keras.Sequential:
    """Return the trained network with float32 layers. Its weights are float32 under every dtype policy."""
    if {layer.compute_dtype for layer in trained.layers} == {"float32"}:
        return trained
    return copy(trained)


def copy(trained: keras.Sequential) -> keras.Sequential:
    """Return a network with the same weights in new float32 layers, on the current device."""
    _, height, width, _ = trained.input_shape
    network = build(height, width, trained.get_layer("c1").kernel_size[0])
    network.set_weights(trained.get_weights())
    return network


def with_preprocessing(trained: keras.Sequential, padding: int) -> keras.Sequential:
    """Return a model that takes the pixels of an IDX file: uint8 (B, 28, 28) → float32 (B, 10).

    It rescales, reshapes and pads the images and then applies the trained layers, which it shares with
    ``trained``.

    Args:
        trained: the network of :func:`build`.
        padding: rows and columns of zeros on each side, as in the images that it was trained on.
    """
    height, width = (side - 2 * padding for side in trained.input_shape[1:3])
    return keras.Sequential(
        [
            keras.Input((height, width), dtype="uint8", name="pixels"),
            keras.layers.Rescaling(PIXEL_SCALE, name="rescale"),
            keras.layers.Reshape((height, width, 1), name="nhwc"),
            keras.layers.ZeroPadding2D(padding, name="pad"),
            *trained.layers,
        ],
        name="lenet5",
    )
