"""A few hundred real digits and trainings of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import pandas as pd
import pytest

from lenet5 import backend, params
from lenet5.dataset import Split
from lenet5.params import Train
from lenet5.preprocess.transform import encode
from lenet5.train.checkpoint import Checkpoint
from lenet5.train.fit import fit
from tests.conftest import Arrays

backend.use_threads(1)  # as the stage does; it must come before the first operation of the process


class Fitted(NamedTuple):
    model: keras.Sequential
    history: pd.DataFrame
    told: list[tuple[int, dict[str, float]]]
    """What ``on_epoch`` heard."""


Fit = Callable[..., Fitted]


@pytest.fixture(scope="session")
def settings() -> Train:
    """The real parameters, shrunk: 10 steps an epoch on 310 images."""
    real = params.load(Path(__file__).parents[2] / "params.yaml").train
    return real.model_copy(update={"epochs": 2, "batch_size": 32, "steps_per_execution": 1})


@pytest.fixture(scope="session")
def train(digits: Arrays) -> Split:
    return encode(Split(digits["train_images"][:310], digits["train_labels"][:310]), padding=0)


@pytest.fixture(scope="session")
def validation(digits: Arrays) -> Split:
    return encode(Split(digits["train_images"][310:510], digits["train_labels"][310:510]), padding=0)


@pytest.fixture(scope="session")
def fitted(settings: Train, train: Split, validation: Split) -> Fit:
    """Train for real: ``fitted(epochs=3)``, ``fitted(validation=..., callbacks=[...])``."""

    def run(
        train: Split = train,
        validation: Split = validation,
        callbacks: list[keras.callbacks.Callback] | None = None,
        start: Checkpoint | None = None,
        keep: Callable[[Checkpoint], None] = lambda checkpoint: None,
        **changed: Any,
    ) -> Fitted:
        told: list[tuple[int, dict[str, float]]] = []
        model, history = fit(
            train,
            validation,
            settings.model_copy(update=changed),
            on_epoch=lambda epoch, metrics: told.append((epoch, dict(metrics))),
            callbacks=callbacks or [],
            start=start,
            keep=keep,
        )
        return Fitted(model, history, told)

    return run


@pytest.fixture(scope="session")
def once(fitted: Fit) -> Fitted:
    """One training with the settings as they are."""
    return fitted()
