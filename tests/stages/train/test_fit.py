"""A training learns, repeats itself to the bit, keeps its best epoch, and stops when it goes wrong."""

from typing import Any

import keras
import numpy as np
import pytest

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError
from lenet5.model import keras_file
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.stages.train.params import Distortion, Train
from tests.training_fixtures import Fit, Fitted

from . import test_optimizer

METRICS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}

KNOBS: dict[str, Any] = {
    "seed": 7,
    "kernel_size": 5,
    "learning_rate": 0.004,
    "label_smoothing": 0.0,
    "distortion": Distortion(shift=1, rotation=10, scale=0.1),
    "batch_size": 64,
    "epochs": 1,
}
"""Another value for each parameter that decides the weights."""


class Watch(keras.callbacks.Callback):
    """Keeps what a training looks like from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.weights: list[list[np.ndarray]] = []
        """At the end of each epoch."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.calls += 1

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.weights.append(self.model.get_weights())


@pytest.fixture
def misleading(validation: Split) -> Split:
    """Validation images with wrong labels: the better the model, the higher their loss."""
    return Split(validation.images, np.roll(validation.labels, 1, axis=1))


def without_labels(split: Split) -> Split:
    return Split(split.images, np.full_like(split.labels, np.nan))


def digest(done: Fitted) -> str:
    return keras_file.weights_digest(done.model)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_learns(fitted: Fit, train: Split) -> None:
    history = fitted(epochs=8, validation=train).history
    assert history["val_accuracy"].iloc[-1] > 0.9
    assert history["val_loss"].is_monotonic_decreasing


def test_same_training_gives_the_same_weights_and_history(fitted: Fit, once: Fitted) -> None:
    again = fitted()
    assert digest(again) == digest(once)
    assert again.history.equals(once.history)


def test_each_epoch_is_told_and_kept(once: Fitted) -> None:
    assert [epoch for epoch, _ in once.told] == [1, 2]
    for (epoch, metrics), row in zip(once.told, once.history.to_dict("records"), strict=True):
        assert metrics.keys() == METRICS
        assert np.isfinite(list(metrics.values())).all()
        assert {"epoch": epoch, **metrics} == row
    assert once.told[-1][1]["learning_rate"] == pytest.approx(0, abs=1e-7)


def test_every_parameter_has_a_test() -> None:
    # below, in test_stage.py, in test_gang.py
    elsewhere = {"patience", "steps_per_execution", "threads", "precision", "workers"}
    assert KNOBS.keys() | test_optimizer.KNOBS.keys() | elsewhere == set(Train.model_fields)


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides_the_weights(fitted: Fit, once: Fitted, settings: Train, name: str) -> None:
    assert getattr(settings, name) != KNOBS[name]
    assert digest(fitted(**{name: KNOBS[name]})) != digest(once)


def test_steps_per_execution_changes_the_calls_and_not_the_steps(fitted: Fit, once: Fitted) -> None:
    watch = Watch()
    done = fitted(steps_per_execution=3, callbacks=[watch])
    assert watch.calls == 2 * 4  # 3 + 3 + 3 + 1 of the 10 steps an epoch
    assert done.model.optimizer.iterations == 2 * 10  # the last batch, of 22 images, counts
    assert done.history["loss"].to_numpy() == pytest.approx(once.history["loss"].to_numpy(), rel=1e-4)


def test_patience_stops_and_the_best_epoch_comes_back(fitted: Fit, misleading: Split) -> None:
    watch, patience = Watch(), 2
    done = fitted(validation=misleading, schedule="constant", epochs=20, patience=patience, callbacks=[watch])
    best = int(done.history["val_loss"].to_numpy().argmin())
    assert len(done.history) == len(done.told) == best + 1 + patience < 20
    assert same(done.model.get_weights(), watch.weights[best])
    assert not same(done.model.get_weights(), watch.weights[-1])


def test_best_epoch_comes_back_when_patience_was_never_lost(fitted: Fit, misleading: Split) -> None:
    watch = Watch()
    done = fitted(validation=misleading, schedule="constant", epochs=4, patience=9, callbacks=[watch])
    best = int(done.history["val_loss"].to_numpy().argmin())
    assert len(done.history) == 4
    assert best < 3
    assert same(done.model.get_weights(), watch.weights[best])


def test_without_patience_the_last_epoch_stays_even_when_one_was_better(
    fitted: Fit, misleading: Split
) -> None:
    """Also when it goes on from a checkpoint, which holds no best weights then."""
    watch, kept = Watch(), list[Checkpoint]()
    same_way: dict[str, Any] = {"validation": misleading, "patience": 0, "epochs": 4, "schedule": "constant"}
    done = fitted(callbacks=[watch], keep=kept.append, **same_way)
    assert int(done.history["val_loss"].to_numpy().argmin()) < 3
    assert same(done.model.get_weights(), watch.weights[-1])
    assert digest(fitted(start=Checkpoint.decode(kept[1].encode()), **same_way)) == digest(done)


def test_loss_that_is_no_number_stops_with_epoch_and_step(fitted: Fit) -> None:
    with pytest.raises(TrainingError, match=r"diverged at epoch 1, step [2-9]\.") as stopped:
        fitted(learning_rate=1e30, schedule="constant", steps_per_execution=1)
    assert "expected: a finite loss" in str(stopped.value)
    assert "found:    nan" in str(stopped.value) or "found:    inf" in str(stopped.value)
    assert "lower train.learning_rate" in str(stopped.value)


def test_several_steps_an_execution_are_looked_at_together(fitted: Fit, train: Split) -> None:
    """Only every fifth step is looked at here, and the first look finds it."""
    with pytest.raises(TrainingError, match=r"epoch 1, step 5\."):
        fitted(train=without_labels(train), steps_per_execution=5)


def test_validation_loss_that_is_no_number_stops(fitted: Fit, validation: Split) -> None:
    watch = Watch()
    with pytest.raises(TrainingError, match=r"the end of epoch 1") as stopped:
        fitted(validation=without_labels(validation), callbacks=[watch])
    assert "expected: a finite val_loss" in str(stopped.value)
    assert watch.weights == []  # and later callbacks hear nothing of such an epoch


def test_weights_that_are_no_numbers_stop_though_the_loss_hides_them(fitted: Fit, train: Split) -> None:
    images = np.full_like(train.images, np.nan)
    with pytest.raises(TrainingError, match="diverged at the end of epoch 1") as stopped:
        fitted(train=Split(images, train.labels))
    assert "found:    NaN or infinity" in str(stopped.value)


class Killed(BaseException):
    """As a kill would: nothing after it is heard of."""


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_training_that_was_killed_ends_with_the_same_bytes(
    fitted: Fit, misleading: Split, epoch: int
) -> None:
    """The wrong labels make the best epoch an early one, so that its weights have to survive, too."""
    through = fitted(validation=misleading, epochs=4)
    kept: list[bytes] = []

    def keep(checkpoint: Checkpoint) -> None:
        kept.append(checkpoint.encode())
        if checkpoint.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        fitted(validation=misleading, epochs=4, keep=keep)
    again = fitted(validation=misleading, epochs=4, start=Checkpoint.decode(kept[-1]))
    assert [at for at, _ in again.told] == list(range(epoch + 1, 5))
    assert digest(again) == digest(through)
    assert again.history.equals(through.history)


def test_one_that_was_killed_after_its_last_epoch_is_not_trained_again(
    fitted: Fit, misleading: Split
) -> None:
    settings: dict[str, Any] = {"validation": misleading, "schedule": "constant", "epochs": 20, "patience": 2}
    kept: list[Checkpoint] = []
    through = fitted(keep=kept.append, **settings)
    assert len(through.history) < 20
    again = fitted(start=kept[-1], **settings)
    assert again.told == []
    assert digest(again) == digest(through)
    assert again.history.equals(through.history)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more", b"not a file of arrays"])
def test_damaged_checkpoints_are_told(damage: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        Checkpoint.decode(damage)
