"""Run the stage ``train``: train on the processed images, save the model, its lineage and its history."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import keras
import pandas as pd

from lenet5.core import dataset, files, stage_code
from lenet5.core.dataset import Manifest
from lenet5.core.paths import Paths
from lenet5.core.results import Environment, Lineage, Training
from lenet5.model import backend, engine, keras_file
from lenet5.model.network import with_preprocessing
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.stages.train.fit import OnEpoch, fit, kept_epoch
from lenet5.stages.train.params import Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup


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
    """Train on ``data/processed``; write the model, its lineage, its metrics and its history.

    A training that resumes from a checkpoint writes the same bytes as one without interruption.

    Args:
        paths: the checkout; every process of the group has the same data.
        params: the parameters, the same in every process.
        group: the processes that train together, connected already; the primary one saves the model.
        observe: opens the observers, in the primary process only.

    Returns:
        The number of parameters and the model file, in one line.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite, or the processes differ; nothing is saved then.
        UsageError: the device cannot train in ``params.precision``.
    """
    processed = dataset.load(paths.processed)
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
        parameters = _save(paths, params, model, history, processed.manifest, training)
        observers.on_saved()
    return f"{parameters:,} parameters → {paths.model}"


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
    data: Manifest,
    training: str,
) -> int:
    """Write every output of the stage and return the number of parameters.

    Args:
        paths: the checkout.
        params: the parameters of the training.
        trained: the network, without preprocessing.
        history: one row for each epoch, as :func:`fit` returns it.
        data: the manifest of the processed data.
        training: the identity of the training.
    """
    model = with_preprocessing(trained, data.padding)
    best_epoch = kept_epoch(history, params)
    best = history.drop(columns=["epoch", "learning_rate"]).iloc[best_epoch - 1]
    keras_file.save(model, paths.model)
    Lineage(
        training=training,
        raw_data=data.made_from or "",
        processed_data=data.digest,
        weights=keras_file.weights_digest(model),
        model_file=files.sha256(paths.model),
        environment=Environment(
            requirements=files.sha256(paths.requirements),
            packages=engine.versions("numpy"),
            switches=engine.variables(),
            device=backend.device(),
        ),
    ).write(paths.lineage)
    Training(
        epochs=len(history),
        best_epoch=best_epoch,
        parameters=model.count_params(),
        **{str(name): value for name, value in best.items()},
    ).write(paths.training)
    files.write_csv(paths.history, history)
    return int(model.count_params())
