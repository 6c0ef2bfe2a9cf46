"""How often the promotion gate decides correctly, beside the naive rule "promote when accuracy is not lower".

Two seeds of the recipe in ``params.yaml`` are trained, to count the test images on which two equally good
models disagree. Test sets of that size are then drawn, many times, with a candidate that is better or worse
than the champion by a known difference, and each rule decides. Differences are in points: hundredths of
accuracy.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.bench import FIRST_SEED, Bench
from benchmarks.results import Line, Verdict
from benchmarks.training import DEFAULT, correct, recipe
from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.registry import gate, paired_test
from lenet5.stages.register.params import Register
from lenet5.stages.train.params import Train
from lenet5.system import settings

DIFFERENCES = (-1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0)
"""The candidate's true accuracy minus the champion's, in points."""
DRAWS = 20_000
"""Test sets for each difference."""


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    settings.apply(bench.paths)
    params = recipe(bench.paths, DEFAULT, {"train.epochs": 1} if bench.quick else {})
    register: Register = params.register_
    one, other = (_correct(bench.paths, params.train, FIRST_SEED + number) for number in (0, 1))
    disagreement = float((one != other).mean())
    accuracies = (float(one.mean()), float(other.mean()))
    lines = [
        Line(table="accuracy of two seeds", name=f"of {len(one):,} images", unit="", values=accuracies),
        Line(table="disagreement", name="the two seeds", unit="%", values=(100 * disagreement,)),
    ]
    for points in DIFFERENCES:
        draws = 500 if bench.quick else DRAWS
        shares = _shares(register, len(one), disagreement, points / 100, draws)
        lines += [
            Line(table=rule, name=f"{points:+.1f} points", unit="%", values=(100 * share,))
            for rule, share in shares.items()
        ]
    return sorted(lines, key=lambda line: line.table), []


def _correct(paths: Paths, params: Train, seed: int) -> NDArray[np.bool_]:
    """Train with a seed; the test images that the model classifies correctly, bool (N,)."""
    processed, test = dataset.load(paths.processed), dataset.load(paths.raw).splits["test"]
    with quiet_libraries():
        from lenet5.model import backend
        from lenet5.stages.train.fit import fit
    backend.configure(params.threads)
    splits, seeded = processed.splits, params.model_copy(update={"seed": seed})
    network, _ = fit(splits["train"], splits["validation"], seeded, on_epoch=lambda epoch, metrics: None)
    return correct(network, processed.manifest.padding, test)


def _shares(
    register: Register, images: int, disagreement: float, difference: float, draws: int
) -> dict[str, float]:
    """The share of draws for each decision of the two rules."""
    # the images that only one of the two classifies correctly are at least as many as the difference
    apart = max(disagreement, abs(difference))
    gained, lost = (apart + difference) / 2, (apart - difference) / 2
    drawn = np.random.default_rng(0).multinomial(images, [gained, lost, 1 - apart], size=draws)
    outcomes, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    shares = dict.fromkeys(
        ("the naive rule promotes", *(f"the gate decides: {each}" for each in ("promote", "keep", "reject"))),
        0.0,
    )
    for (plus, minus), count in zip(outcomes.tolist(), counts.tolist(), strict=True):
        shares["the naive rule promotes"] += count / draws * (plus >= minus)
        shares[f"the gate decides: {_decide(register, images, plus, minus)}"] += count / draws
    return shares


def _decide(register: Register, images: int, gained: int, lost: int) -> gate.Decision:
    chosen = register.gate
    compared = paired_test.from_counts(
        images, gained, lost, confidence=chosen.confidence, resamples=chosen.resamples, seed=chosen.seed
    )
    # the limits are kept: only the comparison with the champion decides
    metrics = {**register.floors.model_dump(), **register.ceilings.model_dump()}
    keeps_ties = register.model_copy(update={"gate": chosen.model_copy(update={"tie": "keep"})})
    return gate.judge(keeps_ties, metrics, compared).decision


if __name__ == "__main__":
    command.main("gate")
