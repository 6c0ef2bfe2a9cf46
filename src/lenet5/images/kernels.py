"""The classical 3x3 kernels of image processing, by name.

Source: the table of Wikipedia's article "Kernel (image processing)". None of them changes when it is rotated
by 180°, so convolution and cross-correlation give the same image.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


def _kernel(*rows: tuple[float, float, float], divisor: float = 1) -> NDArray[np.float32]:
    kernel = np.array(rows, np.float32) / np.float32(divisor)
    kernel.flags.writeable = False
    return kernel


KERNELS: Mapping[str, NDArray[np.float32]] = MappingProxyType(
    {
        "identity": _kernel((0, 0, 0), (0, 1, 0), (0, 0, 0)),
        # the weights of an edge detector add up to 0: even areas become black
        "edges_diagonal": _kernel((1, 0, -1), (0, 0, 0), (-1, 0, 1)),
        "edges_4_neighbours": _kernel((0, -1, 0), (-1, 4, -1), (0, -1, 0)),
        "edges_8_neighbours": _kernel((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
        # the weights of the others add up to 1: even areas stay as they are
        "sharpen": _kernel((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
        "gaussian_blur": _kernel((1, 2, 1), (2, 4, 2), (1, 2, 1), divisor=16),
    }
)
"""float32 (3, 3) by name; every weight is exact in float32."""
