"""A training learns, is reproducible, keeps its best epoch, resumes, and stops when it diverges."""

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError
from lenet5.model import keras_file
from lenet5.stages.train import fit
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.stages.train.fit import untrained_network
from lenet5.stages.train.params import Distortion, Train
from tests.training_fixtures import Fit, Fitted

from . import test_optimizer

pytestmark = pytest.mark.xdist_group("fit")  # each training takes seconds, so the tests share some of them

METRICS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}

KNOBS: dict[str, Any] = {
    "seed": 7,
    "kernel_size": 5,
    "l2": 0.01,
    "learning_rate": 0.004,
    "label_smoothing": 0.0,
    "distortion": Distortion(
        shift=1,
        rotation=10,
        scale=0.1,
        blur=1,
        background=3,
        noise=0.2,
        outline=1,
        lines=8,
        invert=0.5,
        combined=2,
        undistorted=0.2,
    ),
    "batch_size": 64,
}
"""Another value for each parameter that decides the weights, besides the number of epochs."""

LAYERS: dict[str, Any] = {"architecture": "mlp", "padding": "same", "pooling": "average"}
"""Another value for each further parameter that decides the layers."""


class Watch(keras.callbacks.Callback):
    """Records the calls of a training and its weights after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.weights: list[list[np.ndarray]] = []
        """One entry for each epoch."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.calls += 1

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.weights.append(self.model.get_weights())


class Recorded(NamedTuple):
    """A training, with its weights and its checkpoint after each epoch."""

    done: Fitted
    weights: list[list[np.ndarray]]
    checkpoints: list[Checkpoint]

    @property
    def best(self) -> int:
        """The index of the epoch with the lowest validation loss."""
        return int(self.done.history["val_loss"].to_numpy().argmin())


FOUR_EPOCHS: dict[str, Any] = {"epochs": 4, "patience": 5}
STOPPED: dict[str, Any] = {"epochs": 20, "patience": 2, "schedule": "constant"}


@pytest.fixture(scope="module")
def few(train: Split) -> Split:
    """Images for two steps."""
    return Split(train.images[:64], train.labels[:64])


@pytest.fixture(scope="module")
def briefly(fitted: Fit, few: Split) -> Fit:
    """Train for one epoch of two steps, without a graph: its trace takes longer than these steps."""

    def run(**arguments: Any) -> Fitted:
        tensorflow.config.run_functions_eagerly(True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Even though the `tf.config.*run_functions_eagerly")
                return fitted(**({"train": few, "epochs": 1} | arguments))
        finally:
            tensorflow.config.run_functions_eagerly(False)

    return run


@pytest.fixture(scope="module")
def one_epoch(briefly: Fit) -> Fitted:
    return briefly()


@pytest.fixture(scope="module")
def misleading(validation: Split) -> Split:
    """Validation images with wrong labels: the better the model, the higher their loss."""
    return Split(validation.images, np.roll(validation.labels, 1, axis=1))


@pytest.fixture(scope="module")
def four_epochs(fitted: Fit, misleading: Split) -> Recorded:
    """A training of which an early epoch is the best one, and which has no early stop."""
    return record(fitted, validation=misleading, **FOUR_EPOCHS)


@pytest.fixture(scope="module")
def stopped(fitted: Fit, misleading: Split) -> Recorded:
    """A training that stops early."""
    return record(fitted, validation=misleading, **STOPPED)


def record(fitted: Fit, **arguments: Any) -> Recorded:
    """Train; the checkpoints go through their file format, as those of a killed training do."""
    watch, encoded = Watch(), list[bytes]()
    done = fitted(
        callbacks=[watch], on_checkpoint=lambda checkpoint: encoded.append(checkpoint.encode()), **arguments
    )
    return Recorded(done, watch.weights, [Checkpoint.decode(content) for content in encoded])


def without_labels(split: Split) -> Split:
    return Split(split.images, np.full_like(split.labels, np.nan))


def digest(done: Fitted) -> str:
    return keras_file.weights_digest(done.model)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_learns(fitted: Fit, train: Split) -> None:
    history = fitted(epochs=6, validation=train).history
    assert history["val_accuracy"].iloc[-1] > 0.9
    assert history["val_loss"].is_monotonic_decreasing


def test_same_training_gives_the_same_weights_and_history(fitted: Fit, once: Fitted) -> None:
    again = fitted()
    assert digest(again) == digest(once)
    assert again.history.equals(once.history)


def test_each_epoch_is_reported_and_recorded(once: Fitted) -> None:
    assert [epoch for epoch, _ in once.epochs] == [1, 2]
    for (epoch, metrics), row in zip(once.epochs, once.history.to_dict("records"), strict=True):
        assert metrics.keys() == METRICS
        assert np.isfinite(list(metrics.values())).all()
        assert {"epoch": epoch, **metrics} == row
    assert once.epochs[-1][1]["learning_rate"] == pytest.approx(0, abs=1e-7)


def test_every_parameter_has_a_test() -> None:
    # these have tests below, in test_stage.py, in test_temperature.py and in tests/training/test_launcher.py
    other_tests = {
        "epochs",
        "patience",
        "steps_per_execution",
        "calibration",
        "threads",
        "precision",
        "workers",
    }
    assert KNOBS.keys() | LAYERS.keys() | test_optimizer.KNOBS.keys() | other_tests == set(Train.model_fields)


@pytest.mark.parametrize("name", LAYERS)
def test_parameter_decides_the_layers(settings: Train, name: str) -> None:
    assert getattr(settings, name) != LAYERS[name]
    before, again, after = (
        [(type(layer), layer.get_config()) for layer in untrained_network((28, 28, 1), 10, train).layers]
        for train in (settings, settings, settings.model_copy(update={name: LAYERS[name]}))
    )
    assert before == again
    assert before != after


def test_number_of_epochs_decides_the_weights(briefly: Fit, one_epoch: Fitted) -> None:
    assert digest(one_epoch) == digest(briefly())
    assert digest(one_epoch) != digest(briefly(epochs=2))


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides_the_weights(briefly: Fit, one_epoch: Fitted, settings: Train, name: str) -> None:
    assert getattr(settings, name) != KNOBS[name]
    assert digest(briefly(**{name: KNOBS[name]})) != digest(one_epoch)


def test_steps_per_execution_changes_the_calls_and_not_the_steps(fitted: Fit, once: Fitted) -> None:
    watch = Watch()
    done = fitted(steps_per_execution=3, callbacks=[watch])
    assert watch.calls == 2 * 4  # the 10 steps of an epoch are 3 + 3 + 3 + 1
    assert done.model.optimizer.iterations == 2 * 10  # the last batch, of 22 images, is a step as well
    assert done.history["loss"].to_numpy() == pytest.approx(once.history["loss"].to_numpy(), rel=1e-4)


def test_keras_own_step_trains_the_same(
    fitted: Fit, once: Fitted, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX takes it, with the same callbacks. Four executions of 3 steps are 12, and an epoch has 10."""
    monkeypatch.setattr(fit, "takes_fused_step", lambda: False)
    done = fitted(steps_per_execution=3)
    assert done.model.optimizer.iterations == 2 * 10
    assert done.history["loss"].to_numpy() == pytest.approx(once.history["loss"].to_numpy(), rel=1e-3)
    with pytest.raises(TrainingError, match=r"epoch 1, step 10\."):
        fitted(train=without_labels(train), steps_per_execution=12)


@pytest.mark.parametrize(
    ("batch_size", "shape", "batches"),
    [(96, (28, 28, 1), 32), (96, (64, 64, 3), 6), (8192, (28, 28, 1), 1), (100_000, (28, 28, 1), 1)],
)
def test_few_batches_of_large_images_are_read_at_once(
    settings: Train, batch_size: int, shape: tuple[int, ...], batches: int
) -> None:
    params = settings.model_copy(update={"batch_size": batch_size, "steps_per_execution": 32})
    one = Split(np.zeros((1, *shape), np.float32), np.zeros((1, 10), np.float32))
    assert fit._batches_per_item(one, params) == batches


def test_early_stopping_restores_the_best_epoch(stopped: Recorded) -> None:
    done, best = stopped.done, stopped.best
    assert len(done.history) == len(done.epochs) == best + 1 + STOPPED["patience"] < 20
    assert same(done.model.get_weights(), stopped.weights[best])
    assert not same(done.model.get_weights(), stopped.weights[-1])


def test_best_epoch_is_restored_without_early_stopping(four_epochs: Recorded) -> None:
    assert len(four_epochs.done.history) == 4
    assert four_epochs.best < 3
    assert same(four_epochs.done.model.get_weights(), four_epochs.weights[four_epochs.best])


def test_without_patience_the_last_epoch_is_kept(fitted: Fit, misleading: Split) -> None:
    """The same holds for a resumed training, whose checkpoint has no best weights."""
    arguments: dict[str, Any] = {"validation": misleading, "patience": 0, "epochs": 2, "schedule": "constant"}
    recorded = record(fitted, **arguments)
    assert recorded.best == 0
    assert same(recorded.done.model.get_weights(), recorded.weights[-1])
    again = fitted(resume_from=recorded.checkpoints[0], **arguments)
    assert digest(again) == digest(recorded.done)


def test_loss_that_is_nan_is_an_error_with_epoch_and_step(briefly: Fit, train: Split) -> None:
    with pytest.raises(TrainingError, match=r"diverged at epoch 1, step [2-9]\.") as stopped:
        briefly(train=train, learning_rate=1e30, schedule="constant", steps_per_execution=1)
    assert "expected: a finite loss" in str(stopped.value)
    assert "found:    nan" in str(stopped.value) or "found:    inf" in str(stopped.value)
    assert "lower train.learning_rate" in str(stopped.value)


def test_loss_is_checked_once_for_each_execution(fitted: Fit, train: Split) -> None:
    """With five steps per execution, the first check is at step 5."""
    with pytest.raises(TrainingError, match=r"epoch 1, step 5\."):
        fitted(train=without_labels(train), steps_per_execution=5)


def test_validation_loss_that_is_nan_is_an_error(briefly: Fit, validation: Split) -> None:
    watch = Watch()
    with pytest.raises(TrainingError, match=r"the end of epoch 1") as stopped:
        briefly(validation=without_labels(validation), callbacks=[watch])
    assert "expected: a finite val_loss" in str(stopped.value)
    assert watch.weights == []  # later callbacks are not called for this epoch


def test_weights_that_are_nan_are_an_error_although_the_loss_is_finite(fitted: Fit, few: Split) -> None:
    """In a graph, ReLU and the convolution are one operation, and it makes NaN zero."""
    images = np.full_like(few.images, np.nan)
    with pytest.raises(TrainingError, match="diverged at the end of epoch 1") as stopped:
        fitted(train=Split(images, few.labels))
    assert "found:    NaN or infinity" in str(stopped.value)


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.long), 2, 3])
def test_resumed_training_ends_with_the_same_bytes(
    fitted: Fit, four_epochs: Recorded, misleading: Split, epoch: int
) -> None:
    """An early epoch is the best one, so the checkpoint must hold its weights."""
    checkpoint = four_epochs.checkpoints[epoch - 1]
    again = fitted(validation=misleading, resume_from=checkpoint, **FOUR_EPOCHS)
    assert [number for number, _ in again.epochs] == list(range(epoch + 1, 5))
    assert digest(again) == digest(four_epochs.done)
    assert again.history.equals(four_epochs.done.history)


def test_training_that_was_killed_after_early_stopping_trains_no_more_epoch(
    fitted: Fit, stopped: Recorded, misleading: Split
) -> None:
    assert len(stopped.done.history) < 20
    again = fitted(validation=misleading, resume_from=stopped.checkpoints[-1], **STOPPED)
    assert again.epochs == []
    assert digest(again) == digest(stopped.done)
    assert again.history.equals(stopped.done.history)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more", b"not a file of arrays"])
def test_damaged_checkpoint_is_an_error(damage: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        Checkpoint.decode(damage)
