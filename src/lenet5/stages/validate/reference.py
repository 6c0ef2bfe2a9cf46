"""Make and read the reference profile: shares of ink and of classes in ``data/reference.json``.

The file is committed. Update it only after the data or ``validate.ink_threshold`` was changed on purpose, and
give the reason in the commit:

    lenet5 validate --update-reference

The profile is made from train, and both train and test are compared with it. A profile of test would accept a
test set that has drifted away from train.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import frames
from lenet5.stages.validate.params import Validate

_COMMAND = "lenet5 validate --update-reference"
_CLASSES = tuple(map(str, range(dataset.CLASSES)))

Weights = dict[str, Annotated[float, Field(gt=0, lt=1)]]


class Profile(BaseModel):
    """Shares that the data is compared with. All are above zero, so every divergence is finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    made_from: str
    """Digest of the raw dataset that was profiled."""
    ink_threshold: int
    ink: Weights
    """Share of images in each of ``frames.INK_BINS``."""
    classes: Weights
    """Share of images of each class."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, keys in (("ink", frames.INK_BINS), ("classes", _CLASSES)):
            weights = getattr(self, name)
            if set(weights) != set(keys) or abs(sum(weights.values()) - 1) > 1e-6:
                raise ValueError(f"{name} must be shares of {', '.join(keys)} with a sum of 1")
        return self


def profile(images: pd.DataFrame, *, made_from: str, ink_threshold: int) -> Profile:
    """Profile the train images.

    Args:
        images: the table of ``frames.images``, with the columns ``split``, ``label`` and ``ink_bin``.
        made_from: the digest of the raw dataset.
        ink_threshold: the threshold of the column ``ink_bin``.
    """
    train = images[images["split"] == "train"]
    return Profile(
        made_from=made_from,
        ink_threshold=ink_threshold,
        ink=_shares(train["ink_bin"], frames.INK_BINS),
        classes=_shares(train["label"].astype(str), _CLASSES),
    )


def load(path: Path, *, ink_threshold: int) -> Profile:
    """Read the committed profile.

    Raises:
        DataError: the file is missing, is not a profile, or was made with another ink threshold.
    """
    expected = f"a profile made by `{_COMMAND}` with validate.ink_threshold {ink_threshold}"
    try:
        reference = Profile.model_validate_json(files.read_bytes(path))
    except FileNotFoundError:
        raise _unusable(path, expected, "no such file") from None
    except ValidationError as error:
        raise _unusable(path, expected, str(error)) from None
    if reference.ink_threshold != ink_threshold:
        raise _unusable(path, expected, f"ink_threshold {reference.ink_threshold}")
    return reference


def update(paths: Paths, params: Validate) -> str:
    """Profile ``data/raw`` and write ``data/reference.json``; return where it was written.

    Raises:
        DataError: the raw data is missing or damaged.
    """
    raw = dataset.load(paths.raw)
    images = frames.images(raw.splits, params.ink_threshold)
    reference = profile(images, made_from=raw.manifest.digest, ink_threshold=params.ink_threshold)
    files.write_json(paths.reference, reference.model_dump(mode="json"))
    return f"reference profile of data {reference.made_from[:12]} → {paths.reference}"


def _shares(column: "pd.Series[str]", keys: Sequence[str]) -> dict[str, float]:
    # the Krichevsky-Trofimov estimate adds half a count to each bin, so that an empty bin has a weight
    counts = column.value_counts().reindex(list(keys), fill_value=0) + 0.5
    return {str(key): float(share) for key, share in (counts / counts.sum()).items()}


def _unusable(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"The reference profile {path} cannot be used.",
        expected=expected,
        found=found,
        fix=f"`git checkout {path}`; or, if the data changed on purpose, `{_COMMAND}`",
    )
