"""Train a network on arrays; return the model and its history."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError, UsageError
from lenet5.model import backend, network
from lenet5.stages.train import optimizer
from lenet5.stages.train.batches import Batches, ValidationBatches
from lenet5.stages.train.checkpoint import Checkpoint, CheckpointCallback
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup

_ITEM_BYTES = 32_000_000
"""Size limit of the images of several batches that are read at once. A few such items are in memory."""

OnEpoch = Callable[[int, Mapping[str, float]], None]


def fit(
    train: Split,
    validation: Split,
    params: Train,
    *,
    on_epoch: OnEpoch,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume_from: Checkpoint | None = None,
    on_checkpoint: Callable[[Checkpoint], None] = lambda checkpoint: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> tuple[keras.Sequential, pd.DataFrame]:
    """Train a network from scratch, or resume an interrupted training; both give the same bytes.

    Args:
        train: float32 images (N, H, W, channels) in 0 to 1, float32 one-hot labels (N, classes).
        validation: the same for the images that decide when to stop.
        params: the hyper-parameters.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        callbacks: further Keras callbacks, for progress and TensorBoard.
        resume_from: a checkpoint; its epochs are not trained again.
        on_checkpoint: called with a checkpoint after each epoch.
        group: the processes that train together; all get the same data, parameters and checkpoint.

    Returns:
        The model with the weights of :func:`kept_epoch`, and a frame with one row for each epoch: ``epoch``
        (from 1), ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``learning_rate``.

    Raises:
        TrainingError: the loss or a weight is not a finite number.
        UsageError: the images are too small for the convolutions.
    """
    keras.utils.set_random_seed(params.seed)
    model = untrained_network(train.images.shape[1:], train.labels.shape[1], params)
    trained_epochs = resume_from.epoch if resume_from else 0
    if fused := takes_fused_step():
        from lenet5.stages.train.fused import FusedSequential, drawn_ahead  # imports TensorFlow

        model = FusedSequential(model, params.batch_size)
    batches = Batches(
        train,
        params,
        first_epoch=trained_epochs,
        group=group,
        batches_per_item=_batches_per_item(train, params) if fused else 1,
    )
    validation_batches = ValidationBatches(validation, 1000, group)
    compile_model(
        model,
        params,
        steps=params.epochs * batches.steps,
        steps_per_execution=1 if fused else params.steps_per_execution,
    )
    history = _History(on_epoch, resume_from.rows if resume_from else ())
    patience = params.patience or params.epochs
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=patience, restore_best_weights=params.patience > 0
    )
    has_stopped = resume_from is not None and resume_from.wait >= patience
    data: dict[str, Any] = {"x": batches, "validation_data": validation_batches}
    with ExitStack() as drawing:
        if fused:
            data = {
                "x": drawing.enter_context(drawn_ahead(batches, train)),
                "steps_per_epoch": len(batches),
                "validation_data": drawing.enter_context(drawn_ahead(validation_batches, validation)),
                "validation_steps": len(validation_batches),
            }
        model.fit(
            **data,
            shuffle=False,  # Batches shuffles; the order of Keras would depend on the earlier epochs
            epochs=trained_epochs if has_stopped else params.epochs,
            initial_epoch=trained_epochs,
            verbose=0,
            callbacks=[
                _StopOnNonFinite(batches),
                stopping,
                history,
                CheckpointCallback(stopping, history.rows, on_checkpoint, resume_from),
                *callbacks,
            ],
        )
    return network.in_float32(model), pd.DataFrame(history.rows)


def compile_model(model: keras.Model, params: Train, *, steps: int, steps_per_execution: int = 1) -> None:
    """Give a network its optimizer, loss and metric for a training of ``steps`` steps.

    Args:
        model: an untrained network.
        params: for the optimizer and the loss.
        steps: of the whole training.
        steps_per_execution: steps that Keras' own step takes in one call.
    """
    model.compile(
        optimizer=optimizer.build(params, steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=params.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        steps_per_execution=steps_per_execution,
    )
    # a checkpoint needs the variables before the first step; also, a graph whose first trace creates
    # variables is traced twice
    model.optimizer.build(model.trainable_variables)


def _batches_per_item(train: Split, params: Train) -> int:
    """Return how many batches are read at once: ``train.steps_per_execution``, if they need little memory."""
    batch_bytes = params.batch_size * train.images[0].nbytes
    return max(1, min(params.steps_per_execution, _ITEM_BYTES // batch_bytes))


def takes_fused_step() -> bool:
    """Return whether a training takes the step of ``fused.py``, for TensorFlow, or else Keras' own."""
    return backend.name() == "tensorflow"


def untrained_network(shape: tuple[int, ...], classes: int, params: Train) -> keras.Sequential:
    """Return the network of ``train.architecture``, with random weights.

    Args:
        shape: height, width and channels of the images, padding included.
        classes: number of classes.
        params: the architecture.

    Raises:
        UsageError: the images are too small for the convolutions.
    """
    height, width, channels = shape
    if params.architecture == "mlp":
        return network.build_mlp(
            height, width, params.precision, classes=classes, channels=channels, l2=params.l2
        )
    if min(height, width) < params.smallest_side:
        raise UsageError(
            "The images are too small for the convolutions of LeNet-5.",
            expected=f"at least {params.smallest_side} rows and columns, padding included",
            found=f"{height}x{width}",
            fix="set train.padding to same, raise preprocess.padding, or lower train.kernel_size",
        )
    return network.build(
        height,
        width,
        params.kernel_size,
        params.precision,
        classes=classes,
        channels=channels,
        padding=params.padding,
        pooling=params.pooling,
        l2=params.l2,
    )


def kept_epoch(history: pd.DataFrame, params: Train) -> int:
    """Return the epoch, from 1, whose weights are kept: the best one, or the last without early stopping.

    Args:
        history: one row for each epoch, with the column ``val_loss``.
        params: for ``patience``; 0 means no early stopping.
    """
    return int(history["val_loss"].to_numpy().argmin()) + 1 if params.patience else len(history)


class _History(keras.callbacks.Callback):
    """Stores one row of metrics for each epoch and passes it on."""

    def __init__(self, on_epoch: OnEpoch, rows: Sequence[Mapping[str, float]]) -> None:
        super().__init__()
        self.rows = [dict(row) for row in rows]
        self._on_epoch = on_epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        metrics["learning_rate"] = float(self.model.optimizer.learning_rate)
        self.rows.append({"epoch": epoch + 1, **metrics})
        self._on_epoch(epoch + 1, metrics)


class _StopOnNonFinite(keras.callbacks.Callback):
    """Raises an error on NaN and infinity; Keras' TerminateOnNaN returns normally, with NaN weights."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        where = f"epoch {self._epoch}, step {self._batches.steps_until(batch)}"
        self._require_finite("loss", (logs or {})["loss"], where)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        where = f"the end of epoch {epoch + 1}"
        self._require_finite("val_loss", (logs or {})["val_loss"], where)
        # the loss can be finite although a weight is NaN, because of ReLU and max pooling
        for weight in self.model.weights:
            self._require_finite(weight.path, keras.ops.convert_to_numpy(weight), where)

    def _require_finite(self, name: str, value: float | NDArray[np.float32], where: str) -> None:
        if not np.isfinite(value).all():
            raise TrainingError(
                f"Training diverged at {where}.",
                expected=f"a finite {name}",
                found=value if np.isscalar(value) else "NaN or infinity",
                fix="lower train.learning_rate, or lengthen train.warmup",
            )
