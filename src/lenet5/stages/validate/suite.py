"""Define the checks of the raw data; ``params.yaml`` has every limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from lenet5.core.dataset import CLASSES
from lenet5.stages.validate.frames import PAIRED, SPLITS
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Profile

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


def images(params: Validate, table: pd.DataFrame, profile: Profile) -> list[NamedExpectation]:
    """Return the checks of the table ``frames.images``; each failing row is one image.

    Args:
        params: the limits.
        table: the table itself, with the column ``split``; some limits are counts and need its size.
        profile: the reference for drift.
    """
    totals = table["split"].value_counts()
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
            int(totals.get("train", 0)),
        ),
        _at_most(
            "test_in_train",
            "Test images that are also in train",
            ("also_in_train", "test"),
            params.max_test_in_train,
            int(totals.get("test", 0)),
        ),
        *(_drift("ink", "ink_bin", split, profile.ink, params.max_ink_drift) for split in SPLITS),
        *(_drift("class", "label", split, by_label, params.max_class_drift) for split in SPLITS),
    ]


def classes(params: Validate) -> list[NamedExpectation]:
    """Return the checks of the table ``frames.classes``; each failing row is one class of a split."""
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
