"""Floating-point operations of LeNet-5, by its layers' shapes: 28x28 images, 3x3 kernels, 60,074 weights.

A convolution with output (H, W, K) and kernels (S, S, C) multiplies and adds H W K S S C times, a dense layer
from M to N units M N times; each is two operations. Backward, a layer makes the gradient of its weights and
that of its input, each as much again; nobody needs the gradient of the image. Biases, ReLU, pooling, softmax
and the optimizer are not counted: a matrix product's peak knows none of them.
"""

CONVOLUTIONS = ((26, 26, 6, 3, 3, 1), (11, 11, 16, 3, 3, 6))
"""H, W, K, S, S, C."""
DENSE = ((400, 120), (120, 84), (84, 10))


def forward() -> int:
    """Operations an image."""
    return sum(_layers())


def training() -> int:
    """Operations an image, forward and backward."""
    return 3 * forward() - _layers()[0]


def _layers() -> list[int]:
    convolutions = [2 * h * w * k * s * t * c for h, w, k, s, t, c in CONVOLUTIONS]
    return convolutions + [2 * inputs * outputs for inputs, outputs in DENSE]
