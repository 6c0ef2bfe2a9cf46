"""The picture of the documents: seconds to 98.72 % test accuracy, as bars."""

import json
from pathlib import Path

from PIL import Image

from benchmarks import time_to_accuracy
from benchmarks.results import Result

Bars = dict[str, tuple[float, float, float]]
"""Median, lowest and highest seconds by name."""
_PRODUCT, _OTHER = "#1f6fb4", "#b0b7bf"


def bars(time: Result) -> Bars:
    """One bar for each contestant, the fastest first."""
    names = (*time_to_accuracy.RECIPES, *time_to_accuracy.PEERS, time_to_accuracy.FIRST_CROSSING)
    lines = [time.line(time_to_accuracy.TRAINING, name) for name in names]
    found = {line.name: (line.median, *line.range) for line in lines if line.median and line.range}
    return dict(sorted(found.items(), key=lambda bar: bar[1]))


def draw(what: Bars, path: Path) -> None:
    """Write the picture, which also holds the numbers that it shows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.2), dpi=110, layout="constrained")
    for at, (name, (median, low, high)) in enumerate(what.items()):
        axes.barh(at, median, color=_PRODUCT if name in time_to_accuracy.RECIPES else _OTHER)
        axes.plot([low, high], [at, at], color="black", linewidth=1, marker="|")
        axes.text(high + 2, at, f"{median:.3g} s", va="center")
    labels = [f"this project: {name}" if name in time_to_accuracy.RECIPES else name for name in what]
    axes.set_yticks(range(len(what)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(high for _, _, high in what.values()))
    axes.set_xlabel("seconds of training: median, and range over the seeds")
    axes.set_title("Seconds to 98.72 % test accuracy, two CPU cores", loc="left", fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None, "Description": json.dumps(what)})
    plt.close(figure)


def drawn(path: Path) -> Bars | None:
    """The numbers that a picture shows; None where there is no picture of this kind."""
    try:
        with Image.open(path) as image:
            return {name: tuple(bar) for name, bar in json.loads(image.info["Description"]).items()}
    except (OSError, KeyError, ValueError):
        return None
