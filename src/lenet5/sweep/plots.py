"""Optuna's own pictures of a study."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from lenet5.sweep import study as studies


def draw(study: optuna.Study, folder: Path) -> list[Path]:
    """Draw what the trials tell so far, as PNG files; most pictures need two trials that differ in score."""
    mpl.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # an axis of a parameter that had one value in all trials so far
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
        from matplotlib import pyplot
        from optuna.visualization import matplotlib as pictures

        wanted: dict[str, Callable[[optuna.Study], Any]] = {
            "optimization_history": pictures.plot_optimization_history
        }
        if len({trial.value for trial in studies.trials(study, TrialState.COMPLETE)}) > 1:
            wanted["parallel_coordinates"] = pictures.plot_parallel_coordinate
            wanted["param_importances"] = pictures.plot_param_importances
        made = []
        for name, plot in wanted.items():
            figure = plot(study).figure
            figure.set_size_inches(11, 5.5)
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
            pyplot.close(figure)
            made.append(folder / f"{name}.png")
    return made
