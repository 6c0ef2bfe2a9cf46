"""Run the stage ``train``: train on the processed images, calibrate, save the model for Keras and as ONNX."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core import dataset, files, stage_code
from lenet5.core.dataset import Dataset, Split
from lenet5.core.errors import TrainingError
from lenet5.core.paths import Paths
from lenet5.core.results import Environment, Lineage, Training
from lenet5.model import backend, engine, keras_file, metrics, network, onnx_export, onnx_session
from lenet5.stages.train import temperature
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.stages.train.fit import OnEpoch, fit, kept_epoch
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup

TOLERANCE = 1e-5
"""Largest accepted difference between two probabilities. Another order of sums changes the seventh digit."""


@dataclass(frozen=True)
class Observers:
    """Functions that report on a training: progress bars, MLflow, TensorBoard, checkpoints.

    The caller passes them in, so they are no dependency of the stage and cannot change its outputs. The
    defaults do nothing.
    """

    on_epoch: OnEpoch = lambda epoch, metrics: None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    resume_from: Checkpoint | None = None
    """The last checkpoint of an interrupted training with the same identity."""
    on_checkpoint: Callable[[Checkpoint], None] = lambda checkpoint: None
    on_saved: Callable[[], None] = lambda: None
    """Called when all outputs are written; the checkpoint is not needed any more."""


Observe = Callable[[str], AbstractContextManager[Observers]]
"""Opens the observers of a training, given its identity."""


def run(
    paths: Paths,
    params: Train,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    observe: Observe = lambda training: nullcontext(Observers()),
) -> str:
    """Train on ``data/processed``; write the model as two files, its lineage, its metrics and its history.

    A training that resumes from a checkpoint writes the same bytes as one without interruption.

    Args:
        paths: the checkout; every process of the group has the same data.
        params: the parameters, the same in every process.
        group: the processes that train together, connected already; the primary one saves the model.
        observe: opens the observers, in the primary process only.

    Returns:
        The number of parameters, the temperature and the model files, in one line.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite, the processes differ, or the two model files give
            different answers; nothing is saved then.
        UsageError: the device cannot train in ``params.precision``, there are too few validation images
            to calibrate the model, or the images are too small for the network.
    """
    processed = dataset.load(paths.processed)
    if params.calibration == "temperature":
        temperature.require_images(processed.splits["validation"])
    training = identity(paths, params)
    backend.configure(params.threads)
    backend.require(params.precision)
    group.require_same("code, data, parameters or packages", training)
    with observe(training) if group.is_primary else nullcontext(Observers()) as observers:
        checkpoint = group.broadcast(observers.resume_from.encode() if observers.resume_from else b"")
        model, history = fit(
            processed.splits["train"],
            processed.splits["validation"],
            params,
            on_epoch=observers.on_epoch,
            callbacks=observers.callbacks,
            resume_from=Checkpoint.decode(checkpoint) if checkpoint else None,
            on_checkpoint=observers.on_checkpoint,
            group=group,
        )
        group.require_same("weights", keras_file.weights_digest(model))
        if not group.is_primary:
            return "trained with the primary process, which saves the model"
        saved = _save(paths, params, model, history, processed, training)
        observers.on_saved()
    return (
        f"{saved.parameters:,} parameters, temperature {saved.temperature:.4f} "
        f"→ {paths.model}, {paths.onnx.name}"
    )


def identity(paths: Paths, params: Train) -> str:
    """Return the SHA-256 of everything that decides the weights, except for the device.

    It covers the processed data, the parameters, the code that ``dvc.yaml`` lists, and the versions and
    variables of the engine. Two trainings with the same identity give the same model on the same kind of
    device.

    Raises:
        DataError: the processed data is missing.
    """
    inputs = {
        "data": dataset.load_manifest(paths.processed).digest,
        "params": params.model_dump(),
        "code": stage_code.digests(paths, "train"),
        "engine": engine.versions(),
        "variables": engine.variables(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _save(
    paths: Paths,
    params: Train,
    trained: keras.Sequential,
    history: pd.DataFrame,
    processed: Dataset,
    training: str,
) -> Training:
    """Calibrate the network and write every output of the stage.

    Args:
        paths: the checkout.
        params: the parameters of the training.
        trained: the network, without preprocessing.
        history: one row for each epoch, as :func:`fit` returns it.
        processed: the data of the training.
        training: the identity of the training.

    Raises:
        TrainingError: the model and its ONNX file give different answers; nothing is written then.
    """
    data, validation = processed.manifest, processed.splits["validation"]
    best_epoch = kept_epoch(history, params)
    with backend.on_cpu():  # the temperature and the comparison do not depend on the device of the training
        network_on_cpu = network.copy(trained)
        divisor = calibrate(network_on_cpu, validation) if params.calibration == "temperature" else 1.0
        model = network.with_preprocessing(network_on_cpu, data.padding)
        onnx_file = onnx_export.export(model, data.description)
        require_same_answers(model, onnx_file, validation, data.padding)
        keras_file.save(model, paths.model)
    files.write_bytes(paths.onnx, onnx_file)
    Lineage(
        training=training,
        raw_data=data.made_from or "",
        processed_data=data.digest,
        weights=keras_file.weights_digest(model),
        model_file=files.sha256(paths.model),
        onnx_file=files.sha256(paths.onnx),
        environment=Environment(
            requirements=files.sha256(paths.requirements),
            packages=engine.versions("numpy"),
            switches=engine.variables(),
            device=backend.device(),
        ),
    ).write(paths.lineage)
    saved = Training(
        epochs=len(history),
        best_epoch=best_epoch,
        parameters=model.count_params(),
        val_loss=float(history["val_loss"].iloc[best_epoch - 1]),
        temperature=divisor,
    )
    saved.write(paths.training)
    files.write_csv(paths.history, history)
    return saved


def calibrate(trained: keras.Sequential, validation: Split) -> float:
    """Fit a temperature on the validation images, fold it into the last layer and return it.

    Raises:
        TrainingError: an image would get another class.
    """
    logits = temperature.logits(trained, validation.images)
    divisor = temperature.fit(logits, validation.labels.argmax(axis=1))
    temperature.fold(trained, divisor)
    calibrated = temperature.logits(trained, validation.images)
    answers = logits.argmax(axis=1)
    lead = calibrated.max(axis=1) - calibrated[np.arange(len(answers)), answers]
    if not (lead <= TOLERANCE).all():  # two equal logits may change places when they are rounded
        raise TrainingError(
            "The calibrated model does not give the classes of the trained one.",
            expected="the same class for each validation image",
            found=f"another class for {np.count_nonzero(~(lead <= TOLERANCE)):,} images",
            fix="set train.calibration to none, and report a defect of the calibration",
        )
    return divisor


def require_same_answers(model: keras.Sequential, onnx_file: bytes, validation: Split, padding: int) -> None:
    """Score all validation images with Keras and with the ONNX file, and compare the probabilities.

    Args:
        model: the model for Keras, which takes raw pixels.
        onnx_file: the content of the ONNX file.
        validation: float32 images (N, H, W, channels), padded and rescaled.
        padding: rows and columns of zeros on each side of the images.

    Raises:
        DataError: the validation images are no padded and rescaled pixels.
        TrainingError: a probability is not finite, or differs by more than ``TOLERANCE``.
    """
    session = onnx_session.load(onnx_file)
    differences = []
    for part in dataset.chunks(len(validation.images)):
        pixels = dataset.raw_pixels(validation.images[part], padding)
        expected = metrics.probabilities(model, pixels)
        differences.append(np.abs(onnx_session.probabilities(session, pixels) - expected).max(axis=1))
    difference: NDArray[np.float32] = np.concatenate(differences)
    exceeds = ~(difference <= TOLERANCE)  # written this way, NaN exceeds the tolerance as well
    if exceeds.any():
        worst = int(difference.argmax())
        raise TrainingError(
            "The ONNX file does not give the model's answers.",
            expected=f"probabilities within {TOLERANCE:g} of Keras'",
            found=f"{exceeds.sum():,} images beyond, image {worst} by {difference[worst]:.3g}",
            fix="install the versions of keras, onnx and onnxruntime that requirements.lock pins; "
            "if they are installed, report a defect of the export",
        )
