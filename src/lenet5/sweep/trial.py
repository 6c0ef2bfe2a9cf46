"""Run one trial: train with given parameters and return the validation accuracy."""

from collections.abc import Callable, Mapping

import keras
import optuna

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError
from lenet5.stages.train.fit import fit, kept_epoch
from lenet5.stages.train.params import Train

SCORE = "val_accuracy"
"""The metric that ranks trials. The scale of the loss depends on ``label_smoothing``, so it is no score."""
DIVERGED = "diverged"
"""Attribute of a trial whose training diverged; its value is the reason."""


def score(
    trial: optuna.Trial,
    train: Split,
    validation: Split,
    params: Train,
    on_epoch: Callable[[int, Mapping[str, float]], None],
) -> float:
    """Train as the stage ``train`` does, and return the accuracy on the validation images.

    The score is the accuracy of the epoch whose weights the stage would save, and not the highest accuracy of
    all epochs.

    Args:
        trial: receives the accuracy of each epoch.
        train: float32 images (N, H, W, 1) in 0 to 1, float32 one-hot labels (N, 10).
        validation: the same for the validation images.
        params: the parameters of this trial.
        on_epoch: called after each epoch with its number, from 1, and its metrics.

    Returns:
        The accuracy, 0 to 1.

    Raises:
        optuna.TrialPruned: the trial does worse than others, or it diverged. The sampler uses both results.
    """

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        on_epoch(epoch, metrics)
        trial.report(metrics[SCORE], epoch)
        if epoch < params.epochs and trial.should_prune():
            raise optuna.TrialPruned

    keras.utils.clear_session()  # this frees the memory of the previous trial
    try:
        _, history = fit(train, validation, params, on_epoch=report)
    except TrainingError as error:
        trial.set_user_attr(DIVERGED, str(error).splitlines()[0])
        raise optuna.TrialPruned from error
    return float(history[SCORE].to_numpy()[kept_epoch(history, params) - 1])
