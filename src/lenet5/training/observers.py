"""Open the observers of a training: progress bar, MLflow run, TensorBoard, checkpoints."""

import hashlib
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import keras
from rich.console import Console

from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import backend, engine
from lenet5.stages.train.params import Train
from lenet5.stages.train.stage import Observers
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import runs
from lenet5.training.checkpoint_store import CheckpointStore
from lenet5.training.progress import ProgressBar

log = logging.getLogger(__name__)


@contextmanager
def observe(paths: Paths, params: Train, training: str, console: Console) -> Iterator[Observers]:
    """Open the observers of one training, and close them at the end.

    Args:
        paths: the checkout, for its settings and local state.
        params: the parameters that the MLflow run records.
        training: the identity of the training, from ``stages.train.stage.identity``.
        console: where progress appears.

    Yields:
        The observers. If a training with this identity was interrupted, they hold its last checkpoint.
    """
    store = CheckpointStore(settings.load(paths).lenet5_checkpoints, _on_this_device(training))
    with (
        runs.training_run(paths, training, params.flat()) as on_epoch,
        closing(ProgressBar(console)) as progress,
    ):
        checkpoint = store.load()
        if checkpoint:
            console.print(f"resuming an interrupted training after epoch {checkpoint.epoch}")
        yield Observers(
            on_epoch=on_epoch,
            callbacks=[progress, _tensorboard(paths, training)],
            resume_from=checkpoint,
            on_checkpoint=store.save,
            on_saved=store.discard,
        )


class _TensorBoard(keras.callbacks.TensorBoard):
    """Writes event files until a write fails; a full disk must not end a training."""

    _failed = False

    def set_model(self, model: keras.Model) -> None:
        self._try(super().set_model, model)

    def on_train_begin(self, logs: object = None) -> None:
        self._try(super().on_train_begin, logs)

    def on_train_end(self, logs: object = None) -> None:
        self._try(super().on_train_end, logs)

    def on_test_begin(self, logs: object = None) -> None:
        self._try(super().on_test_begin, logs)

    def on_test_end(self, logs: object = None) -> None:
        self._try(super().on_test_end, logs)

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self._try(super().on_train_batch_begin, batch, logs)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._try(super().on_train_batch_end, batch, logs)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._try(super().on_epoch_begin, epoch, logs)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self._try(super().on_epoch_end, epoch, logs)

    def _try(self, hook: Callable[..., None], *arguments: object) -> None:
        if self._failed:
            return
        try:
            hook(*arguments)
        except Exception as error:  # TensorFlow's own kinds
            self._failed = True
            cause = str(error).splitlines()[0]
            log.warning("the training continues without TensorBoard in %s: %s", self.log_dir, cause)


def _on_this_device(training: str) -> str:
    """Return the key of a checkpoint. It includes the device, because another kind would give other bytes."""
    return hashlib.sha256(f"{training} {backend.device()} {platform.machine()}".encode()).hexdigest()


def _tensorboard(paths: Paths, training: str) -> keras.callbacks.Callback:
    if engine.backend_name() != "tensorflow":
        with quiet_libraries():  # Keras always writes event files with TensorFlow
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")  # the engine that trains needs the GPUs
            tf.config.list_logical_devices()
    # event files hold clocks and host names, so they are no DVC output
    folder = LocalState(paths.root).tensorboard / training[:12]
    # the graph, and after each epoch the weights as histograms and as images
    return _TensorBoard(folder, histogram_freq=1, write_graph=True, write_images=True)
