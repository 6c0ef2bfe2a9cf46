import contextlib
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import keras

from lenet5 import archive, backend, dataset, environment, files, settings
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.results import Environment, Lineage, Training
from lenet5.terminal import console
from lenet5.tracking import runs
from lenet5.train.checkpoint_store import CheckpointStore, alone
from lenet5.train.fit import fit, kept_epoch
from lenet5.train.model import with_preprocessing
from lenet5.train.progress import ProgressBar


def run(paths: Paths, params: Train) -> None:
    """``data/processed`` → ``models/lenet5.keras``, its lineage and history; epochs reach MLflow as they end.

    A training that was killed goes on after its last epoch, on this machine or on another one that has the
    same ``LENET5_CHECKPOINTS``, and ends with the same bytes.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite; nothing is saved then.
        UsageError: the device at hand cannot train in ``params.precision``.
    """
    processed = dataset.load(paths.processed)
    data = processed.manifest
    training = _training_digest(data.digest, params)
    backend.use_threads(params.threads)
    backend.require(params.precision)
    checkpoints = CheckpointStore(settings.load(paths).lenet5_checkpoints, _on_this_device(training))
    with (
        alone(paths.state / "training", training),
        runs.training_run(paths, training, params.model_dump()) as on_epoch,
        contextlib.closing(ProgressBar()) as progress,
    ):
        start = checkpoints.load()
        if start:
            console.print(f"an earlier training was ended after epoch {start.epoch}: going on from there")
        network, history = fit(
            processed.splits["train"],
            processed.splits["validation"],
            params,
            on_epoch=on_epoch,
            callbacks=[progress, _tensorboard(paths, training)],
            start=start,
            keep=checkpoints.save,
        )
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
    checkpoints.discard()
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
    # event files hold clocks and host names, so they are no DVC output
    return keras.callbacks.TensorBoard(paths.tensorboard / training[:12], write_graph=False)
