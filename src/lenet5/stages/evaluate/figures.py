"""Draw the figures of an evaluation; equal data gives equal bytes."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from lenet5.core.dataset import Description, Pictures
from lenet5.stages.evaluate.pictures import visible

PAIRS = 8
"""Largest number of rows in the figure of confused pairs."""
PICTURES = 10
"""Largest number of pictures in one of them."""
MOST_CLASSES = 20
"""Classes in a figure that has a row for each: of more, those with the most mistakes are drawn."""
LONGEST = 14
"""Characters of the name of a class in a figure."""
OTHERS = "others"
"""Row and column of the classes that have no row of their own in the figure of confusion."""


@contextmanager
def default_style() -> Iterator[None]:
    """Draw and save figures in this block with matplotlib's defaults, whatever a ``matplotlibrc`` has."""
    with mpl.rc_context():
        mpl.rcdefaults()
        with warnings.catch_warnings():  # the font lacks some scripts; the tables of the page have the names
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            yield


def short(name: object) -> str:
    """Return the name of a class as text for matplotlib: cut where it is long, and not as a formula."""
    text = str(name)
    cut = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return cut.replace("$", r"\$")


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


def confusion(table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the counts of each label (rows) and prediction (columns); the colour shows mistakes only.

    Args:
        table: one row for each image: ``label``, ``predicted``, positions in ``classes``.
        classes: the names. Of more than ``MOST_CLASSES``, those with the most mistakes are drawn, and the
            others share one row and one column.
    """
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (table["label"], table["predicted"]), 1)
    names = [short(name) for name in classes]
    if len(classes) > MOST_CLASSES:
        counts, shown = _condensed(counts)
        names = [*(names[code] for code in shown), OTHERS]
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    side = 5.5 if len(names) <= 10 else 0.55 * len(names)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(1, mistakes.max() * 1.5))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8)
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    return figure


def _condensed(counts: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.intp]]:
    """Return the rows and columns of the classes with the most mistakes, and the sums of all others.

    Args:
        counts: (C, C), labels in rows, predictions in columns.

    Returns:
        The counts, (M + 1, M + 1), and the positions of the M classes, ascending.
    """
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(mistakes.argsort(kind="stable")[::-1][:MOST_CLASSES])
    place = np.full(len(counts), len(shown))
    place[shown] = np.arange(len(shown))
    sums = np.zeros((len(shown) + 1, len(shown) + 1), int)
    np.add.at(sums, (place[:, np.newaxis], place), counts)
    return sums, shown


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


def slices(table: pd.DataFrame) -> Figure:
    """Draw the accuracy on each bin of each slice with its interval; the dashed line is that on all images.

    Args:
        table: one row for each bin: ``slice``, ``bin``, ``images``, ``accuracy``, ``low``, ``high`` (0 to 1).
            The bins of each slice hold every image once. Of more than ``MOST_CLASSES`` classes, those with
            the lowest accuracy are drawn.
    """
    overall = (table["accuracy"] * table["images"]).sum() / table["images"].sum()
    of_class = table["slice"] == "class"
    lowest = table[of_class].nsmallest(MOST_CLASSES, "accuracy").index
    table = table[~of_class | table.index.isin(lowest)].reset_index(drop=True)
    figure = Figure(figsize=(7, 0.6 + 0.2 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(table))
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.errorbar(table["accuracy"], rows, xerr=errors, fmt="o", markersize=4, capsize=2)
    axes.axvline(overall, color="grey", linestyle="--", linewidth=1)
    names = table["slice"] + ": " + table["bin"].map(short) + " (" + table["images"].map("{:,}".format) + ")"
    axes.set(xlabel="accuracy", yticks=rows, ylim=(len(table) - 0.5, -0.5))
    axes.set_yticklabels(names.str.replace("_", " "), fontsize=7)
    axes.grid(alpha=0.3)
    return figure


def confused_pairs(
    images: NDArray[np.uint8], table: pd.DataFrame, pairs: pd.DataFrame, description: Description
) -> Figure:
    """Draw a row of pictures for each pair of label and prediction, the most confident mistakes first.

    Args:
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB.
        table: one row for each image: ``index``, ``label``, ``predicted``, ``confidence``.
        pairs: ``label``, ``predicted``, ``images``; the first ``PAIRS`` rows are drawn.
        description: what the images show.
    """
    shown = pairs.head(PAIRS)
    rows = []
    for pair in shown.itertuples():
        wrong = table[(table["label"] == pair.label) & (table["predicted"] == pair.predicted)]
        chosen = images[wrong.nlargest(PICTURES, "confidence")["index"]]
        rows.append(visible(chosen, description.pictures))
    columns = max(map(len, rows), default=1)
    names = [
        f"{short(description.classes[label])} → {short(description.classes[predicted])}: {count}"
        for label, predicted, count in shown.to_numpy().tolist()
    ]
    # in inches; matplotlib's layout cuts long names, or leaves no room for the pictures
    left = 0.3 + max((TextPath((0, 0), name, size=10).get_extents().width for name in names), default=0) / 72
    width, height = 0.62 * columns, 0.62 * max(1, len(rows))
    figure = Figure(figsize=(left + width + 0.1, height + 0.2))
    size = figure.get_size_inches()
    axes = figure.add_axes((left / size[0], 0.1 / size[1], width / size[0], height / size[1]))
    axes.imshow(_mosaic(rows, images.shape[1:], columns, border=1), cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=(images.shape[1] + 2) * (np.arange(len(shown)) + 0.5))
    axes.set_yticklabels(names)
    axes.spines[:].set_visible(False)
    return figure


def mistakes(images: NDArray[np.uint8], table: pd.DataFrame, limit: int, description: Description) -> Figure:
    """Draw the most confident mistakes, each with label → prediction and confidence.

    Args:
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB.
        table: one row for each image: ``index``, ``label``, ``predicted``, ``confidence``.
        limit: the largest number of pictures.
        description: what the images show.
    """
    wrong = table[table["label"] != table["predicted"]].nlargest(limit, "confidence")
    columns = min(limit, 5)
    rows = max(1, -(-len(wrong) // columns))
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, row in zip(grid, wrong.to_dict("records"), strict=False):
        axes.imshow(visible(images[row["index"]], description.pictures), cmap="gray", vmin=0, vmax=255)
        label, predicted = (short(description.classes[row[name]]) for name in ("label", "predicted"))
        between = "\n" if len(label + predicted) > 8 else " "
        title = f"#{row['index']}: {label} →{between}{predicted} ({row['confidence']:.0%})"
        axes.set_title(title, fontsize=7)
    return figure


def label_errors(pictures: NDArray[np.uint8], table: pd.DataFrame, kind: Pictures) -> Figure:
    """Draw images whose label is likely to be wrong, each with label → likely class and margin.

    Args:
        pictures: uint8 (R, H, W), or (R, H, W, 3) for RGB: the image of each row.
        table: R rows: ``split``, ``index``, ``label``, ``likely``, ``margin``. The classes have names.
        kind: how a person looks at the images.
    """
    count, height, width = pictures.shape[:3]
    names = [tuple(short(row[name]) for name in ("label", "likely")) for row in table.to_dict("records")]
    long = any(len(label + likely) > 8 for label, likely in names)
    columns, border = 5, -(-(8 if long else 5) * width // 28)  # the titles are in the borders
    pictures = visible(pictures, kind)
    rows = [pictures[start : start + columns] for start in range(0, count, columns)]
    figure = Figure(figsize=(1.6 * columns, 1.6 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    axes.imshow(_mosaic(rows, pictures.shape[1:], columns, border), cmap="gray", vmin=0, vmax=255)
    axes.axis("off")
    for place, row in enumerate(table.to_dict("records")):
        left, top = place % columns * (width + 2 * border), place // columns * (height + 2 * border)
        label, likely = names[place]
        classes = f"{label} →\n{likely}" if long else f"{label} → {likely}"
        title = f"{row['split']} #{row['index']}\n{classes} ({row['margin']:.2f})"
        axes.text(left + border + width / 2, top + border, title, ha="center", va="bottom", fontsize=7)
    return figure


def _mosaic(
    rows: Sequence[NDArray[np.uint8]], shape: tuple[int, ...], columns: int, border: int
) -> NDArray[np.uint8]:
    """Place rows of pictures into one image: drawing one image is ten times as fast as drawing each.

    Args:
        rows: each uint8 (at most ``columns``, H, W), or (at most ``columns``, H, W, 3).
        shape: H, W, or H, W, 3.
        columns: pictures that fit into a row.
        border: white pixels around each picture.
    """
    height, width = shape[0] + 2 * border, shape[1] + 2 * border
    canvas = np.full((max(1, len(rows)) * height, columns * width, *shape[2:]), 255, np.uint8)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, left = row * height + border, column * width + border
            canvas[top : top + shape[0], left : left + shape[1]] = picture
    return canvas
