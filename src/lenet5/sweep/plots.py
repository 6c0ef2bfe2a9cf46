"""Draw the figures of a study with Optuna."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from lenet5.sweep import study


def draw(optuna_study: optuna.Study, folder: Path) -> list[Path]:
    """Draw the completed trials as PNG files.

    Two of the three figures need at least two trials with different scores; otherwise they are left out.

    Args:
        optuna_study: the study.
        folder: the folder for the files.

    Returns:
        The files.
    """
    mpl.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # matplotlib warns about the axis of a parameter that has the same value in all trials
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
        from matplotlib import pyplot
        from optuna.visualization import matplotlib as visualization

        plots: dict[str, Callable[[optuna.Study], Any]] = {
            "optimization_history": visualization.plot_optimization_history
        }
        if len({trial.value for trial in study.trials(optuna_study, TrialState.COMPLETE)}) > 1:
            plots["parallel_coordinates"] = visualization.plot_parallel_coordinate
            plots["param_importances"] = visualization.plot_param_importances
        paths = []
        for name, plot in plots.items():
            figure = plot(optuna_study).figure
            figure.set_size_inches(11, 5.5)
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
            pyplot.close(figure)
            paths.append(folder / f"{name}.png")
    return paths
