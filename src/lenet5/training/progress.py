"""Show a training: one line for each epoch and, on a terminal, a progress bar."""

from collections.abc import Mapping

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lenet5.training.epoch_line import EpochLine


class ProgressBar(keras.callbacks.Callback):
    """Shows the progress of a training on a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def on_train_begin(self, logs: object = None) -> None:
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._task = self._progress.add_task(
            "train",
            total=self.params["steps"],
            epoch=f"{epoch + 1}/{self.params['epochs']}",
            loss="",
        )

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        # with several steps per execution, Keras reports a partial last execution as a full one
        done = min(batch + 1, self.params["steps"])
        self._progress.update(self._task, completed=done, loss=f", loss {(logs or {})['loss']:.4f}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._progress.remove_task(self._task)
        line = EpochLine(epoch + 1, self.params["epochs"], logs or {})
        self._console.print(str(line), soft_wrap=True)

    def on_train_end(self, logs: object = None) -> None:
        self.close()

    def close(self) -> None:
        """Release the terminal. Keras does not call ``on_train_end`` after an exception."""
        self._progress.stop()
