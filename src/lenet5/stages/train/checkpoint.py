"""Everything that a training's next epoch depends on, so that one that was killed can go on from its last."""

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
    """A training at the end of an epoch."""

    rows: tuple[Mapping[str, float], ...]
    """Metrics, one row an epoch; as many as epochs were trained."""
    variables: Arrays
    """Of the model: its weights, and the state of random layers."""
    optimizer: Arrays
    """Its variables: the step count, by which the schedule goes, and both moments."""
    best_weights: Arrays
    best: float
    """The best validation loss."""
    wait: int
    """Epochs since then."""

    @property
    def epoch(self) -> int:
        return len(self.rows)

    def encode(self) -> bytes:
        """As the bytes of an ``.npz`` file."""
        lists = {
            "variables": self.variables,
            "optimizer": self.optimizer,
            "best_weights": self.best_weights,
        }
        scalars = {"rows": self.rows, "best": self.best, "wait": self.wait}
        named = {f"{name}.{at}": array for name, arrays in lists.items() for at, array in enumerate(arrays)}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, scalars=np.array(json.dumps(scalars)), **named)
        return file.getvalue()

    @classmethod
    def decode(cls, content: bytes) -> "Checkpoint":
        """What ``encode`` made.

        Raises:
            ValueError: it is damaged, or no checkpoint.
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
            raise ValueError(f"no checkpoint: {error}") from error


class CheckpointCallback(keras.callbacks.Callback):
    """Hands out a checkpoint after each epoch, and puts one back at the start.

    It has to come after the early stopping in the list of callbacks, which forgets everything as it begins.
    """

    def __init__(
        self,
        stopping: keras.callbacks.EarlyStopping,
        rows: Sequence[Mapping[str, float]],
        keep: Callable[[Checkpoint], None],
        start: Checkpoint | None,
    ) -> None:
        """``rows`` grows by one an epoch; somebody else sees to that."""
        super().__init__()
        self._stopping = stopping
        self._rows = rows
        self._keep = keep
        self._start = start

    def on_train_begin(self, logs: object = None) -> None:
        if self._start is None:
            return
        _assign(self.model.variables, self._start.variables)
        _assign(self.model.optimizer.variables, self._start.optimizer)
        self._stopping.best_weights = list(self._start.best_weights) or None
        self._stopping.best = self._start.best
        self._stopping.wait = self._start.wait

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self._keep(
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
    return tuple(arrays[f"{name}.{at}"] for at in range(sum(key.startswith(f"{name}.") for key in arrays)))
