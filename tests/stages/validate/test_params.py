"""Every parameter of ``validate`` decides the result of a check."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.stages.validate.params import Validate
from tests.stages.validate.conftest import Examine, Splits, Verdict, copy

pytestmark = pytest.mark.xdist_group("validate-params")  # the tests share the verdicts


class Knob(NamedTuple):
    value: Any
    """Another value than the default."""
    decides: set[str]
    """The checks whose result changes with the value."""


GROUPS: list[dict[str, Knob]] = [
    {
        "height": Knob(32, {"shape"}),
        "pixel_min": Knob(1, {"pixel_min"}),
        "max_class_share_change": Knob(0.0, {"class_share"}),
        "max_train_duplicates": Knob(0, {"train_duplicates"}),
        "max_train_near_duplicates": Knob(0, {"train_near_duplicates"}),
        "max_mean_distance": Knob(1, {"class_mean"}),
        "max_unlike_images": Knob(0.0, {"unlike_images_train"}),
    },
    {
        "width": Knob(32, {"shape"}),
        "pixel_max": Knob(254, {"pixel_max"}),
        "max_ink_change": Knob(0.0, {"ink_share"}),
        "max_test_in_train": Knob(1, {"test_in_train"}),
        "near_duplicate_share": Knob(0.002, {"test_near_train"}),
        "max_agreement_loss": Knob(0.9, {"label_agreement"}),
        "false_alarm_rate": Knob(0.4, {"unlike_images_train"}),
        "max_ink_drift": Knob(1e-5, {"ink_drift_train", "ink_drift_test"}),
    },
    {
        "channels": Knob(3, {"shape"}),
        "ink_threshold": Knob(100, {"ink_drift_train", "ink_drift_test"}),
        "max_class_drift": Knob(1e-9, {"class_drift_train", "class_drift_test"}),
        "max_test_share": Knob(0.3, {"test_share"}),
        "max_test_near_train": Knob(1, {"test_near_train"}),
        "max_suspect_labels": Knob(0.2, {"suspect_labels_train"}),
    },
]
"""Parameters that change together, because a run of all checks takes a second.

The parameters of one group decide different checks, so a changed result shows which parameter changed it.
Parameters that the code could confuse, such as a minimum and its maximum, are in different groups.
"""

KNOBS = {name: (group, knob) for group, knobs in enumerate(GROUPS) for name, knob in knobs.items()}


def thinned(split: Split) -> Split:
    """Leave out a part of the thin and of the higher digits."""
    generator = np.random.default_rng(1998)
    lost = np.where(split.labels > 4, 0.1, 0) + np.where(split.labels == 7, 0.14, 0)
    lost += np.where((split.images > 0).mean(axis=(1, 2)) < 0.15, 0.3, 0)
    kept = generator.random(len(lost)) >= lost
    return Split(split.images[kept], split.labels[kept])


@pytest.fixture(scope="module")
def data(sampled: Splits) -> Splits:
    """Real digits with a few damages, so that a limit can allow or reject them.

    Both splits lack some images with thin strokes and some of the higher digits, most of them sevens: more
    than chance explains and less than the defaults reject. Train has a duplicate, a near-duplicate, 40 zeros
    labelled 6, 15 images of random pixels, and an image with faint ink on a third of its paper. Test has an
    image that is also in train, and one that is nearly in train.
    """
    splits = {name: thinned(split) for name, split in copy(sampled).items()}
    train, test = splits["train"], splits["test"]
    train.images[1], train.labels[1] = train.images[0], train.labels[0]
    test.images[1], test.labels[1] = train.images[2], train.labels[2]
    for split, index, source in ((train, 3, 4), (test, 3, 5)):
        split.images[index], split.labels[index] = train.images[source], train.labels[source]
        split.images[index, 10, 10:13] ^= 85
    train.labels[np.flatnonzero(train.labels == 0)[-40:]] = 6
    train.images[120][train.images[120] == 0] = np.arange((train.images[120] == 0).sum()) % 3 == 0
    train.images[100:115] = np.where(np.random.default_rng(0).random((15, 28, 28)) < 0.2, 255, 0)
    return splits


@pytest.fixture(scope="module")
def default(examine: Examine, data: Splits) -> Verdict:
    return examine(data)


@pytest.fixture(scope="module")
def changed(examine: Examine, data: Splits) -> list[Verdict]:
    """One verdict for each of ``GROUPS``."""
    return [examine(data, **{name: knob.value for name, knob in group.items()}) for group in GROUPS]


def test_every_parameter_has_a_case() -> None:
    assert set(KNOBS) == set(Validate.model_fields)
    for group in GROUPS:
        decided = [check for knob in group.values() for check in knob.decides]
        assert len(decided) == len(set(decided)), "no check shows the effect of two parameters"


def test_defaults_allow_a_duplicate_and_no_test_image_in_train(default: Verdict) -> None:
    assert default.failed == {
        *("test_in_train", "test_near_train"),
        *("label_agreement", "suspect_labels_train", "likeness"),
    }


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides_a_check(
    default: Verdict, changed: list[Verdict], params: Validate, name: str
) -> None:
    group, knob = KNOBS[name]
    assert getattr(params, name) != knob.value
    for check in knob.decides:
        assert changed[group].result(check).success is not default.result(check).success


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_parameters_decide_no_other_check(default: Verdict, changed: list[Verdict], group: int) -> None:
    decided = set[str]().union(*(knob.decides for knob in GROUPS[group].values()))
    assert changed[group].failed ^ default.failed == decided
