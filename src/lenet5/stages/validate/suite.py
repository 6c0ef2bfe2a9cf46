"""Define the checks of the raw data; ``params.yaml`` has every limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from lenet5.core.dataset import CLASSES
from lenet5.stages.validate import agreement, diagnosis
from lenet5.stages.validate.frames import PAIRED, SPLITS
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Profile
from lenet5.stages.validate.tables import Tables

_PIXEL_TYPE = "uint8"
"""The type of pixels and labels in IDX files. The format of the dataset is fixed, so this is no parameter."""


@dataclass(frozen=True)
class NamedExpectation:
    """One expectation about one table, with texts that describe it."""

    name: str
    what: str
    """What the check compares."""
    expected: str
    expectation: Any
    """The expectation of Great Expectations."""


def checks(params: Validate, tables: Tables, profile: Profile) -> dict[str, list[NamedExpectation]]:
    """Return the checks by the name of their table.

    Args:
        params: the limits.
        tables: the tables themselves, because some limits are counts and need their sizes.
        profile: what is usual in the reference data.
    """
    return {
        "images": _images(params, tables.images, profile),
        "classes": _classes(params),
        "splits": _splits(params),
    }


def _images(params: Validate, table: pd.DataFrame, profile: Profile) -> list[NamedExpectation]:
    """Return the checks of the table ``images``; each failing row is one image."""
    totals = {split: int((table["split"] == split).sum()) for split in SPLITS}
    limits = {split: agreement.limits(totals[split], params, profile.statistics) for split in SPLITS}
    by_label = {int(label): share for label, share in profile.classes.items()}
    return [
        _in_set("paired", "Every image has a label, and every label an image", "holds", PAIRED),
        _in_set("shape", "Height and width of an image", "shape", f"{params.height}x{params.width}"),
        _in_set("dtype", "Type of the pixels", "dtype", _PIXEL_TYPE),
        _in_set("label_type", "Type of the labels, one number an image", "label_type", _PIXEL_TYPE),
        NamedExpectation(
            "pixel_min",
            "Darkest pixel of an image",
            f"at least {params.pixel_min}",
            gxe.ExpectColumnValuesToBeBetween(column="min", min_value=params.pixel_min),
        ),
        NamedExpectation(
            "pixel_max",
            "Brightest pixel of an image",
            f"at most {params.pixel_max}",
            gxe.ExpectColumnValuesToBeBetween(column="max", max_value=params.pixel_max),
        ),
        NamedExpectation(
            "ink_share",
            f"Share of pixels above {params.ink_threshold}: no blank and no full image",
            f"{params.ink_share_min} to {params.ink_share_max}",
            gxe.ExpectColumnValuesToBeBetween(
                column="ink", min_value=params.ink_share_min, max_value=params.ink_share_max
            ),
        ),
        NamedExpectation(
            "label",
            "A label is a digit",
            f"0 to {CLASSES - 1}",
            gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(range(CLASSES))),
        ),
        _at_most(
            "train_duplicates",
            "Train images that repeat an earlier one",
            ("duplicate_of", "train"),
            params.max_train_duplicates,
            totals["train"],
        ),
        _at_most(
            "test_in_train",
            "Test images that are also in train",
            ("also_in_train", "test"),
            params.max_test_in_train,
            totals["test"],
        ),
        _at_most(
            "train_near_duplicates",
            f"Train images that repeat an earlier one: shifted, or up to {params.near_duplicate_pixels} "
            "other pixels",
            ("near_duplicate_of", "train"),
            params.max_train_near_duplicates,
            totals["train"],
        ),
        _at_most(
            "test_near_train",
            f"Test images that repeat a train image: shifted, or up to {params.near_duplicate_pixels} "
            "other pixels",
            ("near_duplicate_of", "test"),
            params.max_test_near_train,
            totals["test"],
        ),
        *(
            _at_most(
                f"suspect_labels_{split}",
                f"Labels of {split} that confident learning doubts",
                ("likely_label", split),
                limits[split].suspect_labels,
                totals[split],
            )
            for split in SPLITS
        ),
        *(
            _at_most(
                f"unlike_images_{split}",
                f"Images of {split} that are unlike any class of the reference",
                ("unlike", split),
                limits[split].unlike_images,
                totals[split],
            )
            for split in SPLITS
        ),
        *(_drift("ink", "ink_bin", split, profile.ink, params.max_ink_drift) for split in SPLITS),
        *(_drift("class", "label", split, by_label, params.max_class_drift) for split in SPLITS),
    ]


def _classes(params: Validate) -> list[NamedExpectation]:
    """Return the checks of the table ``classes``; each failing row is one class of a split."""
    return [
        NamedExpectation(
            "class_present",
            "Every digit is there in every split",
            "1 image or more",
            gxe.ExpectColumnValuesToBeBetween(column="count", min_value=1),
        ),
        NamedExpectation(
            "class_share",
            "Share of every digit in its split",
            f"{params.class_share_min} to {params.class_share_max}",
            gxe.ExpectColumnValuesToBeBetween(
                column="share", min_value=params.class_share_min, max_value=params.class_share_max
            ),
        ),
        NamedExpectation(
            "label_agreement",
            "Share of every digit whose labels the reference classifier no longer finds most likely",
            f"at most {params.max_agreement_loss} more than in the reference",
            gxe.ExpectColumnValuesToBeBetween(column="agreement_loss", max_value=params.max_agreement_loss),
        ),
        NamedExpectation(
            "class_mean",
            "Distance of every digit's mean image from that of the reference",
            f"at most {params.max_mean_distance} pixel units",
            gxe.ExpectColumnValuesToBeBetween(column="mean_distance", max_value=params.max_mean_distance),
        ),
    ]


def _splits(params: Validate) -> list[NamedExpectation]:
    """Return the checks of the table ``splits``; each failing row is one split."""
    return [
        _in_set(
            "likeness", "What was done to the images or labels of a split", "likeness", diagnosis.AS_REFERENCE
        ),
        NamedExpectation(
            "test_share",
            "Share of the test images in all images",
            f"at most {params.max_test_share}",
            gxe.ExpectColumnValuesToBeBetween(
                column="share", max_value=params.max_test_share, row_condition=Column("split") == "test"
            ),
        ),
    ]


def _in_set(name: str, what: str, column: str, value: str) -> NamedExpectation:
    return NamedExpectation(
        name, what, value, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[value])
    )


def _at_most(name: str, what: str, where: tuple[str, str], limit: int, total: int) -> NamedExpectation:
    column, split = where
    # Great Expectations computes this quotient as well. 1 - limit / total can differ from it in the last bit,
    # and then exactly `limit` rows would fail the check.
    mostly = max(total - limit, 0) / total if total else 1.0
    expectation = gxe.ExpectColumnValuesToBeNull(
        column=column, mostly=mostly, row_condition=Column("split") == split
    )
    return NamedExpectation(name, what, f"at most {limit}", expectation)


def _drift(kind: str, column: str, split: str, shares: Mapping[Any, float], limit: float) -> NamedExpectation:
    expectation = gxe.ExpectColumnKLDivergenceToBeLessThan(
        column=column,
        partition_object={"values": list(shares), "weights": list(shares.values())},
        threshold=limit,
        # a value that is not in the profile, such as the label 10, must leave the divergence finite; the
        # check `label` rejects it
        tail_weight_holdout=1e-6,
        row_condition=Column("split") == split,
    )
    what = f"Divergence of {split}'s {kind} shares from the reference profile"
    return NamedExpectation(f"{kind}_drift_{split}", what, f"at most {limit} nats", expectation)
