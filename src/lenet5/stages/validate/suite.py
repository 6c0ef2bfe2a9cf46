"""What raw data must be like: the expectations, with every limit taken from ``params.yaml``."""

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

_PIXEL_TYPE = "uint8"  # what IDX files hold; the dataset's format, so no parameter


@dataclass(frozen=True)
class NamedExpectation:
    """One expectation about one table, and the words for it."""

    name: str
    what: str
    expected: str
    expectation: Any


def images(params: Validate, table: pd.DataFrame, profile: Profile) -> list[NamedExpectation]:
    """The checks of ``frames.images``; a failing row is an image to look at."""
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
    """The checks of ``frames.classes``; a failing row is a class of a split, not an image."""
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
    # The quotient that GX compares with, for exactly ``limit`` rows: 1 - limit / total can differ from it
    # in the last bit, and then the limit itself would fail.
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
        # a value that the profile has not (a label of 10) is the check ``label``'s to report: here it only
        # has to leave the divergence finite
        tail_weight_holdout=1e-6,
        row_condition=Column("split") == split,
    )
    what = f"Divergence of {split}'s {kind} shares from the reference profile"
    return NamedExpectation(f"{kind}_drift_{split}", what, f"at most {limit} nats", expectation)
