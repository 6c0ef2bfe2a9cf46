"""The line of an epoch carries its figures from the training to the flow."""

import pytest

from lenet5.training.epoch_line import EpochLine

METRICS = {"accuracy": 0.91234, "loss": 1.5, "val_accuracy": 0.98765, "val_loss": 0.25}


def test_a_line_gives_back_its_epoch() -> None:
    assert EpochLine.parse(str(EpochLine(3, 12, METRICS))) == EpochLine(
        3, 12, {"accuracy": 0.9123, "loss": 1.5, "val_accuracy": 0.9877, "val_loss": 0.25}
    )


def test_the_accuracy_is_that_of_the_validation_images_if_there_are_any() -> None:
    assert EpochLine(1, 2, METRICS).accuracy == 0.98765
    assert EpochLine(1, 2, {"accuracy": 0.5, "loss": 1.0}).accuracy == 0.5
    assert EpochLine(1, 2, {"loss": 1.0}).accuracy is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "epoch 3/12",
        "resuming an interrupted training after epoch 3",
        "epoch 3/12  accuracy high",
        "epoch 3 of 12  accuracy 0.5",
    ],
)
def test_other_lines_report_no_epoch(line: str) -> None:
    assert EpochLine.parse(line) is None


def test_a_loss_that_is_not_finite_is_still_a_figure() -> None:
    epoch = EpochLine.parse(str(EpochLine(1, 2, {"accuracy": 0.1, "loss": float("nan")})))
    assert epoch is not None
    assert epoch.metrics["loss"] != epoch.metrics["loss"]
