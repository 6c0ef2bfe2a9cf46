"""Every parameter of ``validate`` decides the result of a check."""

from collections.abc import Callable
from typing import Any

import pytest

from lenet5.stages.validate.params import Validate
from tests.stages.validate.conftest import Examine, Splits


def unchanged(splits: Splits) -> None:
    pass


def with_a_duplicate(splits: Splits) -> None:
    splits["train"].images[1] = splits["train"].images[0]


def with_a_leak(splits: Splits) -> None:
    splits["test"].images[1] = splits["train"].images[0]


KNOBS: dict[str, tuple[Any, Callable[[Splits], None], set[str], set[str]]] = {
    # parameter: (value, data, failed checks with the default, failed checks with the value)
    "height": (32, unchanged, set(), {"shape"}),
    "width": (32, unchanged, set(), {"shape"}),
    "pixel_min": (1, unchanged, set(), {"pixel_min"}),
    "pixel_max": (254, unchanged, set(), {"pixel_max"}),
    "ink_threshold": (100, unchanged, set(), {"ink_drift_train", "ink_drift_test"}),
    "ink_share_min": (0.1, unchanged, set(), {"ink_share"}),
    "ink_share_max": (0.3, unchanged, set(), {"ink_share"}),
    "class_share_min": (0.095, unchanged, set(), {"class_share"}),
    "class_share_max": (0.105, unchanged, set(), {"class_share"}),
    "max_train_duplicates": (0, with_a_duplicate, set(), {"train_duplicates"}),
    "max_test_in_train": (1, with_a_leak, {"test_in_train"}, set()),
    "max_ink_drift": (1e-5, unchanged, set(), {"ink_drift_train", "ink_drift_test"}),
    "max_class_drift": (1e-9, unchanged, set(), {"class_drift_train", "class_drift_test"}),
}


def test_every_parameter_has_a_case() -> None:
    assert set(KNOBS) == set(Validate.model_fields)


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides_a_check(splits: Splits, examine: Examine, name: str) -> None:
    value, change, before, after = KNOBS[name]
    change(splits)
    if change is not unchanged:  # test_suite.py tests that real digits pass
        assert examine(splits).failed == before
    assert examine(splits, **{name: value}).failed == after
