"""One trial: parameters in, the hold-out accuracy of the model that they make out."""

from collections.abc import Callable, Mapping

import keras
import optuna

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError
from lenet5.stages.train.fit import fit, kept_epoch
from lenet5.stages.train.params import Train

SCORE = "val_accuracy"
"""What the gate compares, on other images. Not the loss, whose scale follows ``label_smoothing``."""
DIVERGED = "diverged"
"""The attribute of a trial whose loss was no number: why."""


def score(
    trial: optuna.Trial,
    train: Split,
    validation: Split,
    params: Train,
    on_epoch: Callable[[int, Mapping[str, float]], None],
) -> float:
    """Train as the stage would, and say how good the model is on the hold-out images.

    The model is the one that the stage would save; so the score is the accuracy of the epoch that it keeps,
    and not the best of all.

    Args:
        trial: is told each epoch's accuracy.
        train: float32 images (N, H, W, 1) in 0 to 1, float32 one-hot labels (N, 10).
        validation: the same for the hold-out images.
        params: of this trial.
        on_epoch: is told each epoch's number, from 1, and metrics.

    Raises:
        optuna.TrialPruned: it does worse than others did, or it diverged. The sampler learns from both.
    """

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        on_epoch(epoch, metrics)
        trial.report(metrics[SCORE], epoch)
        if epoch < params.epochs and trial.should_prune():
            raise optuna.TrialPruned

    keras.utils.clear_session()  # what the trial before left in memory
    try:
        _, history = fit(train, validation, params, on_epoch=report)
    except TrainingError as error:
        trial.set_user_attr(DIVERGED, str(error).splitlines()[0])
        raise optuna.TrialPruned from error
    return float(history[SCORE].to_numpy()[kept_epoch(history, params) - 1])
