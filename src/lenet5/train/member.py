"""What one process of a training does; of a training in one process, that is all of it."""

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import pandas as pd

from lenet5 import archive, backend, dataset, environment, files, settings
from lenet5.dataset import Manifest
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.results import Environment, Lineage, Training
from lenet5.terminal import console, quiet_libraries
from lenet5.tracking import runs
from lenet5.train.checkpoint import Checkpoint
from lenet5.train.checkpoint_store import CheckpointStore, alone
from lenet5.train.fit import OnEpoch, fit, kept_epoch
from lenet5.train.gang import ALONE, Gang
from lenet5.train.model import with_preprocessing
from lenet5.train.progress import ProgressBar


def run(
    paths: Paths,
    params: Train,
    gang: Gang = ALONE,
    meeting: contextlib.AbstractContextManager[None] = contextlib.nullcontext(),  # noqa: B008 -- it has no state
) -> None:
    """Train with the others; the first member also keeps checkpoints, tells MLflow, and saves the model.

    Args:
        paths: the checkout; every member has the same data.
        params: the same for every member.
        gang: this member's place.
        meeting: with the others; after the first member has the training to itself.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite, or the members differ; nothing is saved then.
        UsageError: the device at hand cannot train in ``params.precision``.
    """
    processed = dataset.load(paths.processed)
    training = _training_digest(processed.manifest.digest, params)
    backend.use_threads(params.threads)
    with contextlib.ExitStack() as held:
        if gang.leads:
            held.enter_context(alone(paths.state / "training", training))
        held.enter_context(meeting)
        backend.require(params.precision)
        gang.require_same("code, data, parameters or packages", training)
        checkpoints = CheckpointStore(settings.load(paths).lenet5_checkpoints, _on_this_device(training))
        told = held.enter_context(_leading(paths, params, training, checkpoints)) if gang.leads else _Told()
        start = gang.broadcast(told.start.encode() if told.start else b"")
        network, history = fit(
            processed.splits["train"],
            processed.splits["validation"],
            params,
            on_epoch=told.on_epoch,
            callbacks=told.callbacks,
            start=Checkpoint.decode(start) if start else None,
            keep=told.keep,
            gang=gang,
        )
        gang.require_same("weights", archive.weights_digest(network))
    if gang.leads:
        _save(paths, params, network, history, processed.manifest, training)
        checkpoints.discard()


@dataclass(frozen=True)
class _Told:
    """Who hears of the training: nobody, of a member that does not lead."""

    on_epoch: OnEpoch = lambda epoch, metrics: None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    start: Checkpoint | None = None
    keep: Callable[[Checkpoint], None] = lambda checkpoint: None


@contextlib.contextmanager
def _leading(paths: Paths, params: Train, training: str, checkpoints: CheckpointStore) -> Iterator[_Told]:
    with (
        runs.training_run(paths, training, params.flat()) as on_epoch,
        contextlib.closing(ProgressBar()) as progress,
    ):
        start = checkpoints.load()
        if start:
            console.print(f"an earlier training was ended after epoch {start.epoch}: going on from there")
        yield _Told(on_epoch, [progress, _tensorboard(paths, training)], start, checkpoints.save)


def _save(
    paths: Paths,
    params: Train,
    network: keras.Sequential,
    history: pd.DataFrame,
    data: Manifest,
    training: str,
) -> None:
    model = with_preprocessing(network, data.padding)
    best_epoch = kept_epoch(history, params)
    best = history.drop(columns=["epoch", "learning_rate"]).iloc[best_epoch - 1]
    archive.save(model, paths.model)
    Lineage(
        training=training,
        raw_data=data.made_from or "",
        processed_data=data.digest,
        weights=archive.weights_digest(model),
        model_file=files.sha256(paths.model),
        environment=Environment(
            requirements=files.sha256(paths.requirements),
            packages={name: version(name) for name in ("keras", backend.name(), "numpy")},
            switches=environment.switches(),
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
    console.print(f"{model.count_params():,} parameters → {paths.model}")


def _training_digest(data: str, params: Train) -> str:
    """Everything that decides the weights, but for the processor."""
    code = [*sorted(Path(__file__).parent.glob("*.py")), Path(backend.__file__)]
    decides = {
        "data": data,
        "params": params.model_dump(),
        "code": {file.name: files.sha256(file) for file in code},
        "engine": {name: version(name) for name in ("keras", backend.name())},
        "switches": environment.switches(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _on_this_device(training: str) -> str:
    """Another kind of device gives other bytes: none goes on with what another one began."""
    return hashlib.sha256(f"{training} {backend.device()} {platform.machine()}".encode()).hexdigest()


def _tensorboard(paths: Paths, training: str) -> keras.callbacks.Callback:
    if backend.name() != "tensorflow":
        with quiet_libraries():  # Keras writes events with TensorFlow on any engine, and it greets
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")  # they are the engine's
            tf.config.list_logical_devices()
    # event files hold clocks and host names, so they are no DVC output
    return keras.callbacks.TensorBoard(paths.tensorboard / training[:12], write_graph=False)
