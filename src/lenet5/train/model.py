"""LeNet-5: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, figure 2.

With ReLU, max pooling and softmax in place of tanh, trainable sub-sampling and Gaussian connections,
as in the notebook that this project started from.
"""

import keras

from lenet5.dataset import CLASSES, PIXEL_SCALE


def build(height: int, width: int, kernel_size: int) -> keras.Sequential:
    """LeNet-5 over rescaled images: float32 (B, height, width, 1) → probabilities float32 (B, 10).

    Shapes in the comments are those of the paper: 32x32 images, 5x5 kernels, 61,706 parameters.
    28x28 images and 3x3 kernels give 60,074.
    """
    return keras.Sequential(
        [
            keras.Input((height, width, 1)),  # (B, 32, 32, 1)
            keras.layers.Conv2D(6, kernel_size, activation="relu", name="c1"),  # (B, 28, 28, 6)
            keras.layers.MaxPooling2D(2, name="s2"),  # (B, 14, 14, 6)
            keras.layers.Conv2D(16, kernel_size, activation="relu", name="c3"),  # (B, 10, 10, 16)
            keras.layers.MaxPooling2D(2, name="s4"),  # (B, 5, 5, 16)
            keras.layers.Flatten(name="flatten"),  # (B, 400)
            keras.layers.Dense(120, activation="relu", name="c5"),
            keras.layers.Dense(84, activation="relu", name="f6"),
            keras.layers.Dense(CLASSES, activation="softmax", name="output"),
        ],
        name="lenet5",
    )


def with_preprocessing(trained: keras.Sequential, padding: int) -> keras.Sequential:
    """The trained layers behind their own preprocessing: raw pixels uint8 (B, 28, 28) → (B, 10).

    The layers are shared, not copied. What a client sends is what an IDX file holds.
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
