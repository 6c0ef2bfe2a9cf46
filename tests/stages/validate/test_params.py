"""No dead knobs: every parameter of ``validate`` turns a yes into a no, or a no into a yes."""

from collections.abc import Callable
from typing import Any

import pytest

from lenet5.stages.validate.params import Validate
from tests.stages.validate.conftest import Examine, Splits


def as_it_is(splits: Splits) -> None:
    pass


def with_a_duplicate(splits: Splits) -> None:
    splits["train"].images[1] = splits["train"].images[0]


def with_a_leak(splits: Splits) -> None:
    splits["test"].images[1] = splits["train"].images[0]


KNOBS: dict[str, tuple[Any, Callable[[Splits], None], set[str], set[str]]] = {
    # parameter: (value, data, what fails by default, what fails with the value)
    "height": (32, as_it_is, set(), {"shape"}),
    "width": (32, as_it_is, set(), {"shape"}),
    "pixel_min": (1, as_it_is, set(), {"pixel_min"}),
    "pixel_max": (254, as_it_is, set(), {"pixel_max"}),
    "ink_threshold": (100, as_it_is, set(), {"ink_drift_train", "ink_drift_test"}),
    "ink_share_min": (0.1, as_it_is, set(), {"ink_share"}),
    "ink_share_max": (0.3, as_it_is, set(), {"ink_share"}),
    "class_share_min": (0.095, as_it_is, set(), {"class_share"}),
    "class_share_max": (0.105, as_it_is, set(), {"class_share"}),
    "max_train_duplicates": (0, with_a_duplicate, set(), {"train_duplicates"}),
    "max_test_in_train": (1, with_a_leak, {"test_in_train"}, set()),
    "max_ink_drift": (1e-5, as_it_is, set(), {"ink_drift_train", "ink_drift_test"}),
    "max_class_drift": (1e-9, as_it_is, set(), {"class_drift_train", "class_drift_test"}),
}


def test_every_parameter_is_here() -> None:
    assert set(KNOBS) == set(Validate.model_fields)


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides(splits: Splits, examine: Examine, name: str) -> None:
    value, spoil, before, after = KNOBS[name]
    spoil(splits)
    if spoil is not as_it_is:  # that real digits pass is tested once, elsewhere
        assert examine(splits).failed == before
    assert examine(splits, **{name: value}).failed == after
