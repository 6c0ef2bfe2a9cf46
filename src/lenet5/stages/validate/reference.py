"""What the data is expected to look like: shares of ink and of classes, kept in ``data/reference.json``.

The file is committed. Make it again only on purpose, after the data (or ``validate.ink_threshold``)
changed on purpose, and commit it together with the reason:

    lenet5 validate --update-reference

There is one profile, made from train, for train and for test alike. Test is compared with what a model
learns from: a test set that drifted away from train must not pass because it still resembles itself.
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
    """Shares that data is compared with. All are above zero, so every divergence from them is finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    made_from: str
    """Digest of the raw dataset."""
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
                raise ValueError(f"{name} must be shares of {', '.join(keys)} that add up to 1")
        return self


def profile(images: pd.DataFrame, *, made_from: str, ink_threshold: int) -> Profile:
    """Profile the train rows of ``frames.images``."""
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
        DataError: it is missing, is not a profile, or was made with another ink threshold.
    """
    expected = f"a profile made by `{_COMMAND}` with validate.ink_threshold {ink_threshold}"
    try:
        found = Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise _unusable(path, expected, "no such file") from None
    except ValidationError as error:
        raise _unusable(path, expected, str(error)) from None
    if found.ink_threshold != ink_threshold:
        raise _unusable(path, expected, f"ink_threshold {found.ink_threshold}")
    return found


def update(paths: Paths, params: Validate) -> str:
    """Profile ``data/raw`` and write ``data/reference.json``; return where it was written.

    Raises:
        DataError: the raw data is missing or damaged.
    """
    raw = dataset.load(paths.raw)
    images = frames.images(raw.splits, params.ink_threshold)
    made = profile(images, made_from=raw.manifest.digest, ink_threshold=params.ink_threshold)
    files.write_json(paths.reference, made.model_dump(mode="json"))
    return f"reference profile of data {made.made_from[:12]} → {paths.reference}"


def _shares(column: "pd.Series[str]", keys: Sequence[str]) -> dict[str, float]:
    # half a count more in each (the Krichevsky-Trofimov estimate), so that an empty bin keeps a weight
    counts = column.value_counts().reindex(list(keys), fill_value=0) + 0.5
    return {str(key): float(share) for key, share in (counts / counts.sum()).items()}


def _unusable(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"The reference profile {path} cannot be used.",
        expected=expected,
        found=found,
        fix=f"`git checkout {path}`; or, after a change on purpose, `{_COMMAND}`",
    )
