"""Build the tables that the checks read: one row for each image, each class of a split, and each split."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.stages.validate import agreement, chance, diagnosis, frames, near_duplicates
from lenet5.stages.validate.agreement import Comparison
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Profile, Reference


@dataclass(frozen=True)
class Tables:
    """The columns of each table that a check reads, and those that help to find an image."""

    images: pd.DataFrame
    """The columns of ``frames.images``, and:

    - ``near_duplicate_of``: the index of a train image that differs in a few pixels or in its place, or null.
    - ``likely_label``: the more likely class of an image whose label is suspect, or null.
    - ``unlike``: True for an image that is unlike those of the reference, or null.
    """
    classes: pd.DataFrame
    """The columns of ``frames.classes``, and:

    - ``missing``: 0 for a class without images, unless so few are usual that chance explains it; else null.
    - ``unusual_share``: the share of a class that is rarer or commoner than the parameters and chance allow,
      or null.
    - ``agreement_loss``: how much less often than in the reference the classifier agrees with the label, as a
      share of the images (0 to 1), after what chance explains. Null for a class without images.
    - ``mean_distance``: of the mean image from that of the reference, in raw pixel units (root mean square).
    """
    splits: pd.DataFrame
    """A row for each split: ``split``; ``share``, of all images; ``likeness``: ``diagnosis.AS_REFERENCE``, or
    what was done to the images or labels."""

    def by_name(self) -> dict[str, pd.DataFrame]:
        """Return the tables by the names that the checks use."""
        return {"images": self.images, "classes": self.classes, "splits": self.splits}


def build(splits: Mapping[str, Split], params: Validate, reference: Reference) -> Tables:
    """Describe raw data.

    Args:
        splits: raw splits by name; only those in ``frames.SPLITS`` are read.
        params: the limits; what is near, and what is within chance, depends on them.
        reference: the profile and the classifier of the reference data.
    """
    profile = reference.profile
    images = frames.images(splits, params.ink_threshold, profile.ink_edges)
    images["near_duplicate_of"] = near_duplicates.column(splits, images, params.near_duplicate_pixels)
    compared = agreement.compare(
        splits, images, reference.classifier, profile.statistics, params.false_alarm_rate
    )
    images["likely_label"] = compared.images["likely_label"]
    images["unlike"] = compared.images["unlike"].where(compared.images["unlike"].fillna(value=False))
    classes = frames.classes(images, profile.names).merge(compared.classes, on=["split", "label"], how="left")
    _add_shares(classes, params, profile)
    classes["agreement_loss"] = agreement.loss(
        classes, reference.classifier, profile.statistics, params.false_alarm_rate
    )
    return Tables(
        images,
        classes.drop(columns="agreement"),
        _splits(splits, images, classes, compared, params, reference),
    )


def _add_shares(classes: pd.DataFrame, params: Validate, profile: Profile) -> None:
    """Add the columns ``missing`` and ``unusual_share`` to the table ``classes``."""
    rate, change = params.false_alarm_rate / max(len(classes), 1) / 2, params.max_class_share_change
    count = classes["count"].to_numpy(dtype=np.int64)
    totals = classes.groupby("split", observed=True)["count"].transform("sum").to_numpy(dtype=np.int64)
    shares = np.array([profile.classes[name] for name in classes["class"]])

    def fewest(factor: float) -> NDArray[np.int64]:
        return chance.fewest(shares * factor, totals, profile.images, rate)

    # train must have every class, because a model cannot learn a class without images
    needed = (fewest(1.0) > 0) | (classes["split"] == "train").to_numpy() | (totals == 0)
    classes["missing"] = classes["count"].astype("Int64").where((count == 0) & needed)
    most = chance.most(shares * (1 + change), totals, profile.images, rate)
    unusual = (count < fewest(1 - change)) | (count > most) | (totals == 0)
    classes["unusual_share"] = classes["share"].where(unusual)


def _by_split(images: pd.DataFrame) -> "list[tuple[object, pd.DataFrame]]":
    return list(images.groupby("split", observed=True, sort=False))


def _splits(
    splits: Mapping[str, Split],
    images: pd.DataFrame,
    classes: pd.DataFrame,
    compared: Comparison,
    params: Validate,
    reference: Reference,
) -> pd.DataFrame:
    rows = []
    for name, table in _by_split(images):
        limits = agreement.limits(len(table), params, reference.profile.statistics)
        mine = classes[classes["split"] == name]
        differs = (
            (mine["agreement_loss"] > params.max_agreement_loss).any()
            or (mine["mean_distance"] > params.max_mean_distance).any()
            or table["likely_label"].count() > limits.suspect_labels
            or table["unlike"].count() > limits.unlike_images
        )
        likeness = diagnosis.AS_REFERENCE
        if differs:
            known = compared.images.loc[table.index, "agrees"].dropna()
            positions = table.loc[known.index, "index"].to_numpy(dtype=np.int64)
            likeness = diagnosis.name(
                splits[str(name)].images,
                positions,
                agreement.class_codes(table.loc[known.index, "label"], reference.classifier.labels),
                known.to_numpy(dtype=bool),
                reference.classifier,
                reference.profile.statistics,
            )
        rows.append({"split": str(name), "share": len(table) / len(images), "likeness": likeness})
    return pd.DataFrame(rows, columns=["split", "share", "likeness"])
