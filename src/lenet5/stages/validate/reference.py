"""Make and read the reference: a profile, ``data/reference.json``, and a classifier, ``data/reference.npz``.

Both files are committed. Update them only after the data or ``validate.ink_threshold`` was changed on
purpose, and give the reason in the commit:

    lenet5 validate --update-reference

The reference is made from train, and both train and test are compared with it. A reference of test would
accept a test set that has drifted away from train.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lenet5.core import dataset, files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import classifier, frames, near_duplicates
from lenet5.stages.validate.classifier import Classifier, Share, Statistics
from lenet5.stages.validate.params import Validate

_COMMAND = "lenet5 validate --update-reference"

_LARGEST_FIT = 60_000
"""Train images that the classifier is fitted on, evenly spaced; more of them would hardly change it."""
_LARGEST_FEATURES = 60_000 * 200
"""Numbers that the classifier is fitted on: larger images are fewer. 96 MB."""

_LISTED = 10
"""Largest number of names in one text."""
_WEAK = 0.5
"""Agreement below which the update says that the classifier is weak."""

Weights = dict[str, Annotated[float, Field(gt=0, lt=1)]]
COPIES = {
    "train_duplicates": ("duplicate_of", "train"),
    "test_in_train": ("also_in_train", "test"),
    "train_near_duplicates": ("near_duplicate_of", "train"),
    "test_near_train": ("near_duplicate_of", "test"),
}
"""Column and split of each check of repeated images."""


class Profile(BaseModel):
    """What is usual in a data set. All shares of bins are above zero, so every divergence is finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    made_from: str
    """Digest of the raw dataset that was profiled."""
    names: tuple[str, ...]
    """The names of the classes, in the order of the labels."""
    shape: tuple[int, ...]
    """Of an image: (H, W) or (H, W, 3)."""
    totals: dict[str, int]
    """Number of images by split."""
    ink_threshold: int
    ink_edges: tuple[float, ...]
    """Of the bins of ink."""
    ink_range: tuple[Share, Share]
    """The smallest and the largest share of ink of an image, of any split."""
    ink: Weights
    """Share of train images in each of ``frames.ink_bins``."""
    classes: Weights
    """Share of train images of each class."""
    copies: dict[str, Share]
    """Share of the images of the split that repeat a train image, by check, a key of ``COPIES``."""
    statistics: Statistics
    """What is usual when the classifier scores the images."""
    classifier_sha256: str
    """Of the file with the classifier, which belongs to this profile alone."""

    @property
    def images(self) -> int:
        """Return the number of train images, which all shares are known from."""
        return self.totals["train"]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, keys in (("ink", frames.ink_bins(self.ink_edges)), ("classes", self.names)):
            weights = getattr(self, name)
            if set(weights) != set(keys) or abs(sum(weights.values()) - 1) > 1e-6:
                raise ValueError(f"{name} must be shares of {_listed(keys)} with a sum of 1")
        if set(self.copies) != set(COPIES) or "train" not in self.totals:
            raise ValueError(f"copies must be shares of {_listed(tuple(COPIES))}, and totals must have train")
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
    names: Sequence[str],
    shape: Sequence[int],
    ink_threshold: int,
    ink_edges: Sequence[float],
    classifier_sha256: str,
) -> Profile:
    """Profile the train images.

    Args:
        images: the table of ``frames.images``, with the columns ``split``, ``label``, ``ink``, ``ink_bin``,
            and those that ``COPIES`` names, if it has them.
        statistics: what is usual when the classifier scores them.
        made_from: the digest of the raw dataset.
        names: of the classes.
        shape: of an image.
        ink_threshold: the threshold of the column ``ink``.
        ink_edges: of the column ``ink_bin``.
        classifier_sha256: of the file with the classifier.
    """
    by_split = dict(list(images.groupby("split", observed=True)))
    train = by_split["train"]
    labels = train["label"].map(dict(enumerate(names)))
    return Profile(
        made_from=made_from,
        names=tuple(names),
        shape=tuple(shape),
        totals={str(name): len(table) for name, table in by_split.items()},
        ink_threshold=ink_threshold,
        ink_edges=tuple(ink_edges),
        ink_range=(float(images["ink"].min()), float(images["ink"].max())),
        ink=_shares(train["ink_bin"], frames.ink_bins(ink_edges)),
        classes=_shares(labels, names),
        copies={
            check: float(by_split[split][column].notna().mean())
            if split in by_split and column in images
            else 0.0
            for check, (column, split) in COPIES.items()
        },
        statistics=statistics,
        classifier_sha256=classifier_sha256,
    )


def load(path: Path, params: Validate) -> Reference:
    """Read the committed reference.

    Args:
        path: the profile; the classifier is beside it.
        params: the reference must be made with the same ink threshold, height, width and channels.

    Raises:
        DataError: a file is missing or damaged, was made with other parameters, or belongs to another
            profile.
    """
    expected = (
        f"a profile made by `{_COMMAND}` with validate.ink_threshold {params.ink_threshold} from "
        f"{_size(params.shape)} images"
    )
    try:
        profile = Profile.model_validate_json(files.read_bytes(path))
    except FileNotFoundError:
        raise _unusable(path, expected, "no such file") from None
    except ValidationError as error:
        raise _unusable(path, expected, str(error)) from None
    if profile.ink_threshold != params.ink_threshold:
        raise _unusable(path, expected, f"ink_threshold {profile.ink_threshold}")
    if profile.shape != params.shape:
        raise _unusable(path, expected, f"{_size(profile.shape)} images")
    beside = classifier_path(path)
    if not beside.is_file() or files.sha256(beside) != profile.classifier_sha256:
        found = "another file" if beside.exists() else "no such file"
        raise _unusable(beside, f"SHA-256 {profile.classifier_sha256}, which {path.name} names", found)
    return Reference(profile, classifier.load(beside))


def require_same_data(path: Path, profile: Profile, manifest: dataset.Manifest) -> None:
    """Reject a profile of another data set.

    Args:
        path: of the profile, for the error.
        profile: of the reference.
        manifest: of the raw dataset.

    Raises:
        DataError: the dataset has other classes, or the same ones in another order.
    """
    names = manifest.description.classes
    if profile.names != names:
        raise DataError(
            f"The reference profile {path} belongs to another data set.",
            expected=f"a profile of {_described(names, manifest.digest)}",
            found=f"a profile of {_described(profile.names, profile.made_from)}",
            fix=f"if data/raw is the data that you want, `{_COMMAND}`; if not, `lenet5 ingest`",
        )


def update(paths: Paths, params: Validate) -> str:
    """Profile ``data/raw`` and write both files of the reference; return where they were written.

    Raises:
        DataError: the raw data is missing or damaged, its images have another size than ``params`` says, or
            the classifier cannot be fitted to it.
    """
    raw = dataset.load(paths.raw)
    train, names = raw.splits.get("train"), raw.manifest.description.classes
    if train is None or train.images.shape[1:] != params.shape or not len(train.images):
        raise DataError(
            "The reference cannot be made.",
            expected=f"train images of {_size(params.shape)}: validate.height, width and channels",
            found="none" if train is None else train.images.shape,
            fix="set these three in params.yaml to what data/raw has, or correct ingest.image and run "
            "`lenet5 ingest`",
        )
    edges = frames.ink_edges(frames.ink(train.images, params.ink_threshold))
    images = frames.images(raw.splits, params.ink_threshold, edges)
    images["near_duplicate_of"] = near_duplicates.column(raw.splits, images, params.near_duplicate_pixels)
    fitted, statistics = _fit(train, images, names)
    beside = classifier_path(paths.reference)
    classifier.save(beside, fitted)
    made = profile(
        images,
        statistics,
        made_from=raw.manifest.digest,
        names=names,
        shape=params.shape,
        ink_threshold=params.ink_threshold,
        ink_edges=edges,
        classifier_sha256=files.sha256(beside),
    )
    files.write_json(paths.reference, made.model_dump(mode="json"))
    return "\n".join(
        [
            f"reference of {_described(names, made.made_from)} → {paths.reference}, {beside}; its classifier "
            f"agrees with {statistics.mean_agreement:.1%} of the labels and doubts "
            f"{statistics.suspect_labels:.2%}",
            *_notes(made),
        ]
    )


def _notes(made: Profile) -> Iterator[str]:
    """Yield what a person should know about a new reference before committing it."""
    for check, share in made.copies.items():
        if share:
            count = round(share * made.totals[COPIES[check][1]])
            yield f"Note: {check}: {count:,} images, which the reference now accepts as usual."
    if made.ink_range[0] == 0:
        yield "Note: at least one train image is blank, so the check ink_share accepts blank images."
    if made.statistics.mean_agreement < _WEAK:
        yield (
            "Note: the classifier agrees with few labels, so the checks of labels against images detect only "
            "large errors."
        )


def _described(names: Sequence[str], digest: str) -> str:
    return f"{len(names)} classes ({_listed(names)}), data {digest[:12]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def classifier_path(path: Path) -> Path:
    """Return the file with the classifier that belongs to the profile at ``path``."""
    return path.with_suffix(".npz")


def _fit(train: dataset.Split, images: pd.DataFrame, names: Sequence[str]) -> tuple[Classifier, Statistics]:
    """Fit the classifier to the train images that have a known label."""
    labels = images.loc[images["split"] == "train", "label"]
    known = np.flatnonzero(labels.isin(range(len(names))))
    known = known[known < len(train.images)]
    largest = min(_LARGEST_FIT, _LARGEST_FEATURES // classifier.features(train.images.shape[1:]))
    codes = labels.iloc[known].to_numpy(dtype=np.int64)
    if len(known) > largest:  # a rare class keeps some of its images
        step = -(-len(known) // largest)
        kept = [rows[:: min(step, max(1, len(rows) // 100))] for rows in _by_class(codes, len(names))]
        chosen = np.sort(np.concatenate(kept))
        known, codes = known[chosen], codes[chosen]
    return classifier.fit(train.images[known], codes, names)


def _by_class(codes: NDArray[np.int64], classes: int) -> list[NDArray[np.int64]]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, classes)))


def _shares(column: "pd.Series[Any]", keys: Sequence[str]) -> dict[str, float]:
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
