"""Read the 1,797 digits of 8x8 pixels that come with scikit-learn, without a network."""

from collections.abc import Iterator

import numpy as np

from lenet5.core.errors import DataError
from lenet5.stages.ingest.labels import tidy
from lenet5.stages.ingest.sources.contract import TRAIN, Part, Reading

PREFIX = "sklearn:"
_LEVELS = 16


def read(source: str) -> Reading:
    """Open ``sklearn:digits``. Its pixels from 0 to 16 become 0 to 255.

    Raises:
        DataError: the name is another one.
    """
    if source != f"{PREFIX}digits":
        raise DataError(
            f"scikit-learn has no data set {source}.",
            expected=f"{PREFIX}digits, the only images that come with the package",
            found=source,
            fix=f"set ingest.source to {PREFIX}digits, or ingest.format to the format of the source",
        )
    return Reading(_parts(), names=[str(digit) for digit in range(10)], format="sklearn")


def _parts() -> Iterator[Part]:
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / _LEVELS)).astype(np.uint8)
    yield Part(TRAIN, f"{PREFIX}digits", images=images, labels=tidy(digits.target, f"{PREFIX}digits"))
