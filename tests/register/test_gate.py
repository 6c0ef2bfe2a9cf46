"""The promotion gate says yes and no."""

import pytest

from lenet5.params import Floors
from lenet5.register.gate import judge

FLOORS = Floors(accuracy=0.98, worst_class_recall=0.95)
GOOD = {"accuracy": 0.99, "worst_class_recall": 0.97, "loss": 0.1}
NAN = float("nan")


def failed(candidate: dict[str, float], champion: dict[str, float] | None = None) -> list[str]:
    return [check.name for check in judge(FLOORS, candidate, champion) if not check.passed]


def test_good_model_passes_without_a_champion() -> None:
    checks = judge(FLOORS, GOOD, None)
    assert [(c.name, c.limit, c.found, c.passed) for c in checks] == [
        ("floor of accuracy", 0.98, 0.99, True),
        ("floor of worst_class_recall", 0.95, 0.97, True),
    ]


def test_exactly_at_the_floors_and_equal_to_the_champion_passes() -> None:
    edge = {"accuracy": 0.98, "worst_class_recall": 0.95}
    assert failed(edge, champion=edge) == []


@pytest.mark.parametrize("value", [0.9, 0.0, NAN])
@pytest.mark.parametrize("name", ["accuracy", "worst_class_recall"])
def test_below_a_floor_fails_that_floor(name: str, value: float) -> None:
    assert failed(GOOD | {name: value}) == [f"floor of {name}"]


def test_worse_than_the_champion_fails_even_above_the_floors() -> None:
    assert failed(GOOD, champion=GOOD | {"accuracy": 0.9901}) == ["accuracy of the champion"]
    assert failed(GOOD, champion=GOOD | {"accuracy": 0.9899}) == []


def test_better_than_the_champion_does_not_lower_the_floors() -> None:
    assert failed(GOOD | {"accuracy": 0.97}, champion=GOOD | {"accuracy": 0.5}) == ["floor of accuracy"]


def test_nan_never_passes() -> None:
    assert failed(GOOD | {"accuracy": NAN}, champion=GOOD) == [
        "floor of accuracy",
        "accuracy of the champion",
    ]
    assert failed(GOOD, champion={"accuracy": NAN}) == ["accuracy of the champion"]


def test_metric_that_was_not_measured_is_an_error_and_no_pass() -> None:
    with pytest.raises(KeyError):
        judge(FLOORS, {"accuracy": 0.99}, None)


def test_every_floor_is_asked_at_its_limit() -> None:
    limits = {check.name: check.limit for check in judge(FLOORS, GOOD, None)}
    assert limits == {f"floor of {name}": limit for name, limit in FLOORS.model_dump().items()}


def test_answer_can_be_read() -> None:
    good, bad = judge(FLOORS, GOOD | {"worst_class_recall": 0.9}, None)
    assert str(good) == "floor of accuracy: 0.9900, at least 0.9800 ✓"
    assert str(bad) == "floor of worst_class_recall: 0.9000, at least 0.9500 ✗"
