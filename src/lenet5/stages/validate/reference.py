"""Make and read the reference: a profile, ``data/reference.json``, and a classifier, ``data/reference.npz``.

Both files are committed. Update them only after the data or ``validate.ink_threshold`` was changed on
purpose, and give the reason in the commit:

    lenet5 validate --update-reference

The reference is made from train, and both train and test are compared with it. A reference of test would
accept a test set that has drifted away from train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import classifier, frames
from lenet5.stages.validate.classifier import Classifier, Statistics
from lenet5.stages.validate.params import Validate

_COMMAND = "lenet5 validate --update-reference"
_CLASSES = tuple(map(str, range(dataset.CLASSES)))

_LARGEST_FIT = 60_000
"""Train images that the classifier is fitted on, evenly spaced; more of them would hardly change it."""

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
    statistics: Statistics
    """What is usual when the classifier scores the images."""
    classifier_sha256: str
    """Of the file with the classifier, which belongs to this profile alone."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, keys in (("ink", frames.INK_BINS), ("classes", _CLASSES)):
            weights = getattr(self, name)
            if set(weights) != set(keys) or abs(sum(weights.values()) - 1) > 1e-6:
                raise ValueError(f"{name} must be shares of {', '.join(keys)} with a sum of 1")
        return self


@dataclass(frozen=True)
class Reference:
    """What data is compared with."""

    profile: Profile
    classifier: Classifier


def profile(
    images: pd.DataFrame,
    statistics: Statistics,
    *,
    made_from: str,
    ink_threshold: int,
    classifier_sha256: str,
) -> Profile:
    """Profile the train images.

    Args:
        images: the table of ``frames.images``, with the columns ``split``, ``label`` and ``ink_bin``.
        statistics: what is usual when the classifier scores them.
        made_from: the digest of the raw dataset.
        ink_threshold: the threshold of the column ``ink_bin``.
        classifier_sha256: of the file with the classifier.
    """
    train = images[images["split"] == "train"]
    return Profile(
        made_from=made_from,
        ink_threshold=ink_threshold,
        ink=_shares(train["ink_bin"], frames.INK_BINS),
        classes=_shares(train["label"].astype(str), _CLASSES),
        statistics=statistics,
        classifier_sha256=classifier_sha256,
    )


def load(path: Path, params: Validate) -> Reference:
    """Read the committed reference.

    Args:
        path: the profile; the classifier is beside it.
        params: the reference must be made with the same ink threshold, height and width.

    Raises:
        DataError: a file is missing or damaged, was made with other parameters, or belongs to another
            profile.
    """
    expected = (
        f"a profile made by `{_COMMAND}` with validate.ink_threshold {params.ink_threshold} from "
        f"{params.height}x{params.width} images"
    )
    try:
        profile = Profile.model_validate_json(files.read_bytes(path))
    except FileNotFoundError:
        raise _unusable(path, expected, "no such file") from None
    except ValidationError as error:
        raise _unusable(path, expected, str(error)) from None
    if profile.ink_threshold != params.ink_threshold:
        raise _unusable(path, expected, f"ink_threshold {profile.ink_threshold}")
    beside = classifier_path(path)
    if not beside.is_file() or files.sha256(beside) != profile.classifier_sha256:
        found = "another file" if beside.exists() else "no such file"
        raise _unusable(beside, f"SHA-256 {profile.classifier_sha256}, which {path.name} names", found)
    fitted = classifier.load(beside)
    if fitted.shape != (params.height, params.width):
        raise _unusable(beside, expected, "{}x{} images".format(*fitted.shape))
    return Reference(profile, fitted)


def update(paths: Paths, params: Validate) -> str:
    """Profile ``data/raw`` and write both files of the reference; return where they were written.

    Raises:
        DataError: the raw data is missing or damaged, or the classifier cannot be fitted to it.
    """
    raw = dataset.load(paths.raw)
    images = frames.images(raw.splits, params.ink_threshold)
    fitted, statistics = _fit(raw.splits.get("train"), images)
    beside = classifier_path(paths.reference)
    classifier.save(beside, fitted)
    made = profile(
        images,
        statistics,
        made_from=raw.manifest.digest,
        ink_threshold=params.ink_threshold,
        classifier_sha256=files.sha256(beside),
    )
    files.write_json(paths.reference, made.model_dump(mode="json"))
    return (
        f"reference of data {made.made_from[:12]} → {paths.reference}, {beside}; its classifier agrees with "
        f"{statistics.mean_agreement:.1%} of the labels and doubts {statistics.suspect_labels:.2%}"
    )


def classifier_path(path: Path) -> Path:
    """Return the file with the classifier that belongs to the profile at ``path``."""
    return path.with_suffix(".npz")


def _fit(train: dataset.Split | None, images: pd.DataFrame) -> tuple[Classifier, Statistics]:
    """Fit the classifier to the train images that have a known label."""
    labels = images.loc[images["split"] == "train", "label"]
    known = np.flatnonzero(labels.isin(range(dataset.CLASSES)))
    if train is None or train.images.ndim != 3:
        raise DataError(
            "The reference classifier cannot be fitted.",
            expected="train images of shape (N, H, W)",
            found="none" if train is None else train.images.shape,
        )
    known = known[known < len(train.images)]
    chosen = known[:: max(1, -(-len(known) // _LARGEST_FIT))]
    return classifier.fit(train.images[chosen], labels.iloc[chosen].to_numpy(dtype=np.int64))


def _shares(column: "pd.Series[str]", keys: Sequence[str]) -> dict[str, float]:
    # the Krichevsky-Trofimov estimate adds half a count to each bin, so that an empty bin has a weight
    counts = column.value_counts().reindex(list(keys), fill_value=0) + 0.5
    return {str(key): float(share) for key, share in (counts / counts.sum()).items()}


def _unusable(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"The reference profile {path} cannot be used.",
        expected=expected,
        found=found,
        fix=f"`git checkout {path.parent}/reference.*`; or, if the data changed on purpose, `{_COMMAND}`",
    )
