"""Corrupt images after MNIST-C (Mu & Gilmer, 2019), in five severities.

Severity 3 has the amounts of MNIST-C, which has one severity for each corruption. The same seed gives the
same bytes on every processor: linear operations have integer weights, noise is drawn as integers, and all
other arithmetic consists of elementwise operations that IEEE 754 defines exactly.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lenet5.images.corruptions import blur, convolution, geometry, light, noise, overlay, shape
from lenet5.images.kernels import KERNELS

Corruption = Callable[[NDArray[np.uint8], int, np.random.Generator], NDArray[np.uint8]]
"""Takes images, uint8 (N, H, W), a severity, 1 to 5, and random numbers; returns images of the same shape."""

SEVERITIES = range(1, 6)
BLOCK = 500
"""Images that are corrupted together, with random numbers of their own."""

MNIST_C: Mapping[str, Corruption] = MappingProxyType(
    {
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "shear": geometry.shear,
        "scale": geometry.scale,
        "rotate": geometry.rotate,
        "brightness": light.brightness,
        "translate": geometry.translate,
        "stripe": light.stripe,
        "fog": light.fog,
        "spatter": overlay.spatter,
        "dotted_line": overlay.dotted_line,
        "zigzag": overlay.zigzag,
        "canny_edges": shape.canny_edges,
    }
)
"""The fifteen corruptions of MNIST-C, in its order."""

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        **MNIST_C,
        "occlusion": overlay.occlusion,
        "thick_strokes": shape.thick_strokes,
        "thin_strokes": shape.thin_strokes,
        "inversion": light.inversion,
        **{name: convolution.corruption(name) for name in KERNELS},
    }
)
"""Every corruption by name."""


def corrupt(name: str, images: NDArray[np.uint8], severity: int, seed: int, block: int) -> NDArray[np.uint8]:
    """Corrupt one block of images.

    The result for an image depends on the seed, the name, the severity, the number of the block, and the
    images of the block with their order; it does not depend on other blocks.

    Each channel of RGB images gets the same random numbers, so noise, lines and fog are grey.

    Args:
        name: a key of ``CORRUPTIONS``.
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB; at most ``BLOCK``.
        severity: 1 to 5.
        seed: of the random numbers, 0 or more.
        block: the number of the block, from 0.

    Raises:
        ValueError: the severity is not 1 to 5.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1 to 5, found {severity}")

    def changed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rng = np.random.default_rng([seed, crc32(name.encode()), severity, block])
        return CORRUPTIONS[name](pixels, severity, rng)

    if images.ndim == 3:
        return changed(images)
    return np.stack([changed(np.ascontiguousarray(channel)) for channel in np.moveaxis(images, -1, 0)], -1)
