"""Fixtures: a few hundred real digits, and trainings that take a second.

Keras is imported when a training is asked for, not when pytest reads this file: most tests do without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pytest

from lenet5.core.dataset import Split
from lenet5.stages import params
from lenet5.stages.train.params import Train
from tests.conftest import REPOSITORY, Arrays

if TYPE_CHECKING:
    import keras

    from lenet5.stages.train.checkpoint import Checkpoint


class Fitted(NamedTuple):
    model: "keras.Sequential"
    history: pd.DataFrame
    epochs: list[tuple[int, dict[str, float]]]
    """The arguments of each call of ``on_epoch``."""


Fit = Callable[..., Fitted]


@pytest.fixture(scope="session")
def settings() -> Train:
    """The real parameters, shrunk to 10 steps per epoch on 310 images."""
    real = params.load(REPOSITORY / "params.yaml").train
    return real.model_copy(update={"epochs": 2, "batch_size": 32, "steps_per_execution": 1})


@pytest.fixture(scope="session")
def train(digits: Arrays) -> Split:
    return _encoded(digits, 0, 310)


@pytest.fixture(scope="session")
def validation(digits: Arrays) -> Split:
    return _encoded(digits, 310, 510)


def _encoded(digits: Arrays, first: int, end: int) -> Split:
    from lenet5.stages.preprocess.stage import encode  # scikit-learn takes a second

    return encode(
        Split(digits["train_images"][first:end], digits["train_labels"][first:end]), padding=0, classes=10
    )


@pytest.fixture(scope="session")
def fitted(settings: Train, train: Split, validation: Split) -> Fit:
    """Train for real: ``fitted(epochs=3)``, ``fitted(validation=..., callbacks=[...])``."""
    from lenet5.model import backend
    from lenet5.stages.train.fit import fit

    backend.configure(1)  # as the stage does; it must come before the first operation of the process

    def run(
        train: Split = train,
        validation: Split = validation,
        callbacks: "list[keras.callbacks.Callback] | None" = None,
        resume_from: "Checkpoint | None" = None,
        on_checkpoint: "Callable[[Checkpoint], None]" = lambda checkpoint: None,
        **changed: Any,
    ) -> Fitted:
        epochs: list[tuple[int, dict[str, float]]] = []
        model, history = fit(
            train,
            validation,
            settings.model_copy(update=changed),
            on_epoch=lambda epoch, metrics: epochs.append((epoch, dict(metrics))),
            callbacks=callbacks or [],
            resume_from=resume_from,
            on_checkpoint=on_checkpoint,
        )
        return Fitted(model, history, epochs)

    return run


@pytest.fixture(scope="session")
def once(fitted: Fit) -> Fitted:
    """One training with unchanged settings."""
    return fitted()
