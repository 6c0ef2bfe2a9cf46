"""Save and restore the state of a training at the end of an epoch, so that a killed one can resume."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training at the end of an epoch."""

    rows: tuple[Mapping[str, float], ...]
    """Metrics, one row for each trained epoch."""
    variables: Arrays
    """Variables of the model: its weights, and the state of random layers."""
    optimizer: Arrays
    """Variables of the optimizer: the step count, which the schedule uses, and both moments."""
    best_weights: Arrays
    """Weights of the epoch with the lowest validation loss; empty without early stopping."""
    best: float
    """The lowest validation loss."""
    wait: int
    """Epochs since the lowest validation loss."""

    @property
    def epoch(self) -> int:
        """Return the number of trained epochs."""
        return len(self.rows)

    def encode(self) -> bytes:
        """Return the checkpoint as the bytes of an ``.npz`` file."""
        lists = {
            "variables": self.variables,
            "optimizer": self.optimizer,
            "best_weights": self.best_weights,
        }
        scalars = {"rows": self.rows, "best": self.best, "wait": self.wait}
        named = {f"{name}.{i}": array for name, arrays in lists.items() for i, array in enumerate(arrays)}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, scalars=np.array(json.dumps(scalars)), **named)
        return file.getvalue()

    @classmethod
    def decode(cls, content: bytes) -> "Checkpoint":
        """Read the bytes of :meth:`encode`.

        Raises:
            ValueError: the content is damaged, or it is not a checkpoint.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            scalars = json.loads(str(arrays.pop("scalars")))
            return cls(
                rows=tuple(scalars["rows"]),
                best=scalars["best"],
                wait=scalars["wait"],
                **{name: _numbered(arrays, name) for name in ("variables", "optimizer", "best_weights")},
            )
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error


class CheckpointCallback(keras.callbacks.Callback):
    """Restores a checkpoint when training begins, and passes on a checkpoint after each epoch.

    In the list of callbacks it must follow ``EarlyStopping``, which resets its state when training begins.
    """

    def __init__(
        self,
        stopping: keras.callbacks.EarlyStopping,
        rows: Sequence[Mapping[str, float]],
        on_checkpoint: Callable[[Checkpoint], None],
        resume_from: Checkpoint | None,
    ) -> None:
        """Set what is saved and restored.

        Args:
            stopping: the early stopping of the same training.
            rows: the metrics of each epoch; an earlier callback in the list adds one row per epoch.
            on_checkpoint: called with a checkpoint after each epoch.
            resume_from: the checkpoint to restore; none starts from scratch.
        """
        super().__init__()
        self._stopping = stopping
        self._rows = rows
        self._on_checkpoint = on_checkpoint
        self._resume_from = resume_from

    def on_train_begin(self, logs: object = None) -> None:
        checkpoint = self._resume_from
        if checkpoint is None:
            return
        _assign(self.model.variables, checkpoint.variables)
        _assign(self.model.optimizer.variables, checkpoint.optimizer)
        self._stopping.best_weights = list(checkpoint.best_weights) or None
        self._stopping.best = checkpoint.best
        self._stopping.wait = checkpoint.wait

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self._on_checkpoint(
            Checkpoint(
                rows=tuple(self._rows),
                variables=_values(self.model.variables),
                optimizer=_values(self.model.optimizer.variables),
                best_weights=tuple(np.asarray(weight) for weight in self._stopping.best_weights or ()),
                best=float(self._stopping.best),
                wait=self._stopping.wait,
            )
        )


def _values(variables: Sequence[keras.Variable]) -> Arrays:
    return tuple(np.array(keras.ops.convert_to_numpy(variable)) for variable in variables)


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _numbered(arrays: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    return tuple(arrays[f"{name}.{i}"] for i in range(sum(key.startswith(f"{name}.") for key in arrays)))
