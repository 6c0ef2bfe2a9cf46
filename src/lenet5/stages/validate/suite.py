"""Define the checks of the raw data; ``params.yaml`` has every limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from lenet5.stages.validate import agreement, chance, diagnosis
from lenet5.stages.validate.frames import PAIRED, SPLITS
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import Profile
from lenet5.stages.validate.tables import Tables

_PIXEL_TYPE = "uint8"
"""The stage ``ingest`` writes pixels of every source as this type, so it is no parameter."""


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
        "classes": _classes(params, profile),
        "splits": _splits(params),
    }


def _images(params: Validate, table: pd.DataFrame, profile: Profile) -> list[NamedExpectation]:
    """Return the checks of the table ``images``; each failing row is one image."""
    totals = {split: int((table["split"] == split).sum()) for split in SPLITS}
    limits = {split: agreement.limits(totals[split], params, profile.statistics) for split in SPLITS}
    by_label = {label: profile.classes[name] for label, name in enumerate(profile.names)}
    last = len(profile.names) - 1
    near = f"shifted, or up to {params.near_duplicate_pixels} other pixels"
    low, high = ink_limits(params, profile)

    def copies(name: str, what: str, where: tuple[str, str], more: int) -> NamedExpectation:
        total = totals[where[1]]
        known = profile.totals.get(where[1], 0)
        usual = int(chance.most(profile.copies[name], total, known, params.false_alarm_rate))
        return _at_most(name, what, where, usual + more, total)

    def drift(
        kind: str, column: str, split: str, shares: Mapping[Any, float], allowed: float
    ) -> NamedExpectation:
        by_chance = chance.divergence(
            np.array(list(shares.values())), totals[split], profile.images, params.false_alarm_rate
        )
        limit = max(allowed, by_chance)
        return _drift(kind, column, split, shares, limit)

    return [
        _in_set("paired", "Every image has a label, and every label an image", "holds", PAIRED),
        _in_set("shape", "Height, width and channels of an image", "shape", "x".join(map(str, params.shape))),
        _in_set("dtype", "Type of the pixels", "dtype", _PIXEL_TYPE),
        _in_set("label_type", "Type of the labels, one number an image", "label_type", _label_type(last)),
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
            f"{low:.3g} to {high:.3g}",
            gxe.ExpectColumnValuesToBeBetween(column="ink", min_value=low, max_value=high),
        ),
        NamedExpectation(
            "label",
            "A label is a class",
            f"0 to {last}",
            gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(by_label)),
        ),
        copies(
            "train_duplicates",
            "Train images that repeat an earlier one",
            ("duplicate_of", "train"),
            params.max_train_duplicates,
        ),
        copies(
            "test_in_train",
            "Test images that are also in train",
            ("also_in_train", "test"),
            params.max_test_in_train,
        ),
        copies(
            "train_near_duplicates",
            f"Train images that repeat an earlier one: {near}",
            ("near_duplicate_of", "train"),
            params.max_train_near_duplicates,
        ),
        copies(
            "test_near_train",
            f"Test images that repeat a train image: {near}",
            ("near_duplicate_of", "test"),
            params.max_test_near_train,
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
        *(drift("ink", "ink_bin", split, profile.ink, params.max_ink_drift) for split in SPLITS),
        *(drift("class", "label", split, by_label, params.max_class_drift) for split in SPLITS),
    ]


def ink_limits(params: Validate, profile: Profile) -> tuple[float, float]:
    """Return the smallest and the largest share of ink that an image may have."""
    low, high = profile.ink_range
    return low * (1 - params.max_ink_change), 1 - (1 - high) * (1 - params.max_ink_change)


def _label_type(last: int) -> str:
    """Return the type in which the stage ``ingest`` writes labels up to the last one."""
    return "uint8" if last < 256 else "uint16"


def _classes(params: Validate, profile: Profile) -> list[NamedExpectation]:
    """Return the checks of the table ``classes``; each failing row is one class of a split."""
    shares = profile.classes.values()
    return [
        NamedExpectation(
            "class_present",
            "Every class is there in train, and in test unless chance explains that a rare one is not",
            "1 image or more",
            gxe.ExpectColumnValuesToBeNull(column="missing"),
        ),
        NamedExpectation(
            "class_share",
            "Share of every class in its split",
            f"within {params.max_class_share_change:.0%} of its share in the reference "
            f"({min(shares):.3g} to {max(shares):.3g}), or within chance",
            gxe.ExpectColumnValuesToBeNull(column="unusual_share"),
        ),
        NamedExpectation(
            "label_agreement",
            "Share of every class whose labels the reference classifier no longer finds most likely",
            f"at most {params.max_agreement_loss} more than in the reference",
            gxe.ExpectColumnValuesToBeBetween(column="agreement_loss", max_value=params.max_agreement_loss),
        ),
        NamedExpectation(
            "class_mean",
            "Distance of every class's mean image from that of the reference, beyond chance",
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
    return NamedExpectation(f"{kind}_drift_{split}", what, f"at most {limit:.4g} nats", expectation)
