"""Draw the figures of an evaluation; equal data gives equal bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lenet5.core.dataset import CLASSES


@contextmanager
def default_style() -> Iterator[None]:
    """Draw and save figures in this block with matplotlib's defaults, whatever a ``matplotlibrc`` has."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw loss and accuracy over the epochs.

    Args:
        history: one row for each epoch: ``epoch``, ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(history["epoch"], history[name], marker="o", label="train")
        axes.plot(history["epoch"], history[f"val_{name}"], marker="o", label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion(table: pd.DataFrame) -> Figure:
    """Draw the counts of each label (rows) and prediction (columns); the colour shows mistakes only.

    Args:
        table: one row for each image: ``label``, ``predicted``, both 0 to 9.
    """
    counts = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(counts, (table["label"], table["predicted"]), 1)
    mistakes = counts * (1 - np.eye(CLASSES, dtype=int))
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(1, mistakes.max() * 1.5))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8)
    axes.set(xlabel="predicted", ylabel="label", xticks=range(CLASSES), yticks=range(CLASSES))
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """Draw a reliability diagram: one point for each bin, whose area follows the number of images in it.

    Args:
        table: one row for each bin: ``confidence``, ``accuracy`` (0 to 1), ``images``.
    """
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.scatter(table["confidence"], table["accuracy"], s=10 + 300 * table["images"] / table["images"].sum())
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure


def robustness(table: pd.DataFrame) -> Figure:
    """Draw the accuracy on each corruption (rows) and severity (columns), in percent.

    Args:
        table: one row for each corruption and severity: ``corruption``, ``severity``, ``accuracy`` (0 to 1).
    """
    names = list(dict.fromkeys(table["corruption"]))
    severities = sorted(set(table["severity"]))
    cells = table.set_index(["corruption", "severity"])["accuracy"]
    shares = np.array([[cells[name, severity] for severity in severities] for name in names])
    figure = Figure(figsize=(1.9 + 0.8 * len(severities), 0.9 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{100 * share:.1f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(severities)), severities)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set(xlabel="severity", title="accuracy in percent")
    return figure


def mistakes(images: NDArray[np.uint8], table: pd.DataFrame, limit: int) -> Figure:
    """Draw the most confident mistakes, each with label → prediction and confidence.

    Args:
        images: uint8 (N, 28, 28).
        table: one row for each image: ``index``, ``label``, ``predicted``, ``confidence``.
        limit: the largest number of pictures.
    """
    wrong = table[table["label"] != table["predicted"]].nlargest(limit, "confidence")
    columns = min(limit, 5)
    rows = max(1, -(-len(wrong) // columns))
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, row in zip(grid, wrong.to_dict("records"), strict=False):
        axes.imshow(images[row["index"]], cmap="gray_r", vmin=0, vmax=255)
        title = f"#{row['index']}: {row['label']} → {row['predicted']} ({row['confidence']:.0%})"
        axes.set_title(title, fontsize=7)
    return figure
