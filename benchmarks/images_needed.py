"""How many images the gate needs on each corruption: ``python -m benchmarks.images_needed A.onnx B.onnx``.

The two models should be as different as a champion and a candidate, such as two seeds of the default. On each
corruption, an image has one difference between them: the mean over the severities of 1 (only the candidate is
correct), -1 (only the champion is correct) or 0. A test of N images with Holm's correction finds a loss that
exceeds the margin by D, with the power P, when N = ((z(1 - alpha / comparisons) + z(P)) * deviation / D)^2.
"""

import math
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import command, report
from benchmarks.bench import ROOT
from lenet5.core import dataset, files
from lenet5.core.paths import Paths
from lenet5.images.corruptions import scoring
from lenet5.model import onnx_session
from lenet5.stages import params
from lenet5.stages.evaluate.params import Robustness

COMPARISONS = 60
"""Corruptions and bins of slices that the gate compares at once."""
POWER = 0.9


def main(
    champion: Path,
    candidate: Path,
    images: Annotated[int, typer.Option(help="Test images for the deviations.")] = 2000,
    beyond: Annotated[float, typer.Option(help="Loss beyond the margin that should be found.")] = 0.02,
) -> None:
    """Print the deviation of each corruption, and the images that it takes."""
    paths = Paths(ROOT)
    settings = params.load(paths.params)
    robustness = settings.evaluate.robustness.model_copy(update={"images": images})
    alpha = 1 - settings.register_.gate.confidence
    differences = correct(paths, candidate, robustness) - correct(paths, champion, robustness)
    rows = []
    for name, each in zip(robustness.corruptions, differences, strict=True):
        deviation = float(each.std(ddof=1))
        needed = images_needed(deviation, beyond, alpha)
        rows.append((name, f"{each.mean():+.4f}", f"{deviation:.3f}", f"{needed:,}", needed))
    rows.sort(key=lambda row: row[-1])
    print(report.markdown(("corruption", "difference", "deviation", "images"), [row[:-1] for row in rows]))
    print(f"Median: {np.median([row[-1] for row in rows]):,.0f} images.")


def images_needed(deviation: float, beyond: float, alpha: float) -> int:
    """The images that find a loss of the margin plus ``beyond``, with the power ``POWER``."""
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - alpha / COMPARISONS) + normal.inv_cdf(POWER)
    return math.ceil((quantiles * deviation / beyond) ** 2)


def correct(paths: Paths, model: Path, robustness: Robustness) -> NDArray[np.float64]:
    """The share of the severities that a model answers correctly, for each corruption and image: (K, N)."""
    session = onnx_session.load(files.read_bytes(model))
    test = dataset.load(paths.raw, ["test"]).splits["test"]
    scorer = partial(onnx_session.probabilities, session)
    answers = scoring.score(scorer, test.images, test.labels, robustness)
    shares: NDArray[np.float64] = answers.correct.mean(axis=1)
    return shares


if __name__ == "__main__":
    command.run(main)
