"""How often the promotion gate decides correctly, beside the naive rule "promote when accuracy is not lower".

Two seeds of the recipe in ``params.yaml`` are trained, the champion and the candidate.

The test on clean images: the images on which the two disagree are counted. Test sets with so many are then
drawn, with a candidate that is better or worse by a known difference, and each rule decides.

The whole gate, with every corruption and slice: on each image, the answers of the two models are exchanged or
not, by the flip of a coin. So the two are equally good in truth, under every corruption and on every slice,
and their answers depend on each other as those of real models do. Then the candidate loses some of its
correct answers under one corruption, or on one slice. An image is lost under all severities at once, which is
harder to detect than a loss of the same size on more images.

Differences are in points: hundredths of accuracy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.bench import FIRST_SEED, Bench
from benchmarks.contestants.robustness import trained
from benchmarks.results import Line, Verdict
from benchmarks.training import DEFAULT, recipe
from lenet5.core import dataset
from lenet5.images.corruptions import scoring
from lenet5.registry import gate, paired_tests
from lenet5.registry.paired_tests import Comparison, Group
from lenet5.stages.evaluate import slices
from lenet5.stages.params import Params
from lenet5.stages.register.params import Register
from lenet5.system import settings

DIFFERENCES = (-1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0)
"""The candidate's true accuracy minus the champion's, in points."""
DRAWS = 20_000
"""Test sets for each difference."""
LOSSES = {"corruption": (10, 15, 17, 19, 21, 25), "slice": (1, 2, 3, 4, 6)}
"""The loss of the candidate under one corruption, or on one slice, in points."""
EQUAL_DRAWS, WORSE_DRAWS = 1000, 250
"""Equal candidates for the whole gate, and candidates for each loss."""
DECISIONS = ("promote", "keep", "reject")


@dataclass(frozen=True)
class Pair:
    """Champion and candidate on the same images, clean and corrupted. The first axis is the two models."""

    clean: NDArray[np.bool_]
    """Which test images are classified correctly, (2, N)."""
    corrupted: dict[str, NDArray[np.int64]]
    """Correct severities of each corrupted image by corruption, (2, M)."""
    chosen: NDArray[np.intp]
    """The positions of the corrupted images, (M,)."""
    severities: int
    bins: dict[str, NDArray[np.intp]]
    """The positions of the test images in each bin of each slice."""


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    settings.apply(bench.paths)
    params = recipe(bench.paths, DEFAULT, {"train.epochs": 1} if bench.quick else {})
    pair = _pair(bench, params)
    register: Register = params.register_
    images = pair.clean.shape[1]
    disagreement = float((pair.clean[0] != pair.clean[1]).mean())
    accuracies = tuple(float(accuracy) for accuracy in pair.clean.mean(axis=1))
    lines = [
        Line(table="accuracy of two seeds", name=f"of {images:,} images", unit="", values=accuracies),
        Line(table="disagreement", name="the two seeds", unit="%", values=(100 * disagreement,)),
    ]
    for points in DIFFERENCES:
        draws = 500 if bench.quick else DRAWS
        shares = _shares(register, images, disagreement, points / 100, draws)
        lines += [
            Line(table=rule, name=f"{points:+.1f} points", unit="%", values=(100 * share,))
            for rule, share in shares.items()
        ]
    return [*sorted(lines, key=lambda line: line.table), *_whole_gate(pair, register, bench)], []


def _pair(bench: Bench, params: Params) -> Pair:
    """Train two seeds, and score them as the stage `evaluate` does."""
    loaded = dataset.load(bench.paths.raw)
    raw, classes = loaded.splits, loaded.manifest.description.classes
    train, test = raw["train"], raw["test"]
    robustness = params.evaluate.robustness
    clean, corrupted = [], []
    for number in (0, 1):
        seeded = params.train.model_copy(update={"seed": FIRST_SEED + number})
        scorer = trained(params.model_copy(update={"train": seeded}), train)
        clean.append(scorer(np.asarray(test.images)).argmax(axis=1) == test.labels)
        answers = scoring.score(scorer, test.images, test.labels, robustness)
        corrupted.append(answers.correct.sum(axis=1, dtype=np.int64))  # (corruptions, M)
    chosen = scoring.chosen(len(test.labels), robustness.images, robustness.seed)
    table = slices.membership(np.asarray(test.images), test.labels, train.images, train.labels, classes)
    return Pair(
        np.stack(clean),
        {name: np.stack([each[i] for each in corrupted]) for i, name in enumerate(robustness.corruptions)},
        chosen,
        len(robustness.severities),
        {
            f"{column} {name}": rows["index"].to_numpy()
            for column in table.columns.drop("index")
            for name, rows in table.groupby(column)
        },
    )


def _whole_gate(pair: Pair, register: Register, bench: Bench) -> list[Line]:
    """The decisions on equal candidates, and on candidates that lost under one corruption or on one slice."""
    rng = np.random.default_rng(0)
    compared = f"{len(pair.corrupted)} corruptions of {len(pair.chosen):,} images, {len(pair.bins)} bins"
    kinds: dict[str, Sequence[tuple[float, Callable[[Pair, float], Pair]]]] = {
        "an equal candidate": [(0, lambda equal, loss: equal)],
        "a loss under one corruption": [
            (points, partial(_lose_corruption, rng=rng)) for points in LOSSES["corruption"]
        ],
        "a loss on one slice": [(points, partial(_lose_bin, rng=rng)) for points in LOSSES["slice"]],
    }
    lines = []
    for kind, losses in kinds.items():
        for points, lose in losses:
            outcomes = [
                _judge(register, lose(_exchanged(pair, rng), points / 100))
                for _ in range(20 if bench.quick else WORSE_DRAWS if points else EQUAL_DRAWS)
            ]
            name = f"−{points:g} points" if points else "no loss"
            shares = {
                **{d: np.mean([decision == d for decision, _ in outcomes]) for d in DECISIONS},
                "rejects for a corruption or slice": np.mean([worse for _, worse in outcomes]),
            }
            lines += [
                Line(
                    table=f"{kind}: {rule}", name=name, unit="%", values=(100 * float(share),), note=compared
                )
                for rule, share in shares.items()
            ]
    return sorted(lines, key=lambda line: line.table)


def _exchanged(pair: Pair, rng: np.random.Generator) -> Pair:
    """Exchange the answers of the two models on half of the images."""
    swap = rng.integers(2, size=pair.clean.shape[1]).astype(bool)
    clean = np.where(swap, pair.clean[::-1], pair.clean)
    corrupted = {
        name: np.where(swap[pair.chosen], counts[::-1], counts) for name, counts in pair.corrupted.items()
    }
    return replace(pair, clean=clean, corrupted=corrupted)


def _lose_corruption(pair: Pair, loss: float, rng: np.random.Generator) -> Pair:
    """Let the candidate lose images under a random corruption, all severities of an image at once."""
    able = [name for name, counts in pair.corrupted.items() if counts[1].mean() > 2 * loss * pair.severities]
    name = able[rng.integers(len(able))]
    counts = pair.corrupted[name].copy()
    share = loss * pair.severities / counts[1].mean()
    counts[1, rng.random(counts.shape[1]) < share] = 0
    return replace(pair, corrupted=pair.corrupted | {name: counts})


def _lose_bin(pair: Pair, loss: float, rng: np.random.Generator) -> Pair:
    """Let the candidate lose images in a random bin of at most a fifth of the test images."""
    small = [members for members in pair.bins.values() if len(members) <= pair.clean.shape[1] / 5]
    members = small[rng.integers(len(small))]
    clean = pair.clean.copy()
    lost = rng.random(len(members)) < loss / clean[1, members].mean()
    clean[1, members[lost]] = False
    return replace(pair, clean=clean)


def _judge(register: Register, pair: Pair) -> tuple[gate.Decision, bool]:
    """The decision of the gate, and whether a corruption or slice rejects the candidate."""
    champion, candidate = pair.clean
    right = pair.clean.astype(np.int64)
    groups = [
        Group("slice", name, register.gate.slice_margin, right[1, members], right[0, members])
        for name, members in pair.bins.items()
    ]
    groups += [
        Group("corruption", name, register.gate.corruption_margin, counts[1], counts[0], pair.severities)
        for name, counts in pair.corrupted.items()
    ]
    frame = paired_tests.table(groups, register.gate.confidence)
    gained, lost = (
        int((one & ~other).sum()) for one, other in ((candidate, champion), (champion, candidate))
    )
    verdict = _verdict(register, _compared(register, len(candidate), gained, lost), frame)
    return verdict.decision, bool(frame["worse"].any())


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
        ("the naive rule promotes", *(f"the gate decides: {each}" for each in DECISIONS)), 0.0
    )
    for (plus, minus), count in zip(outcomes.tolist(), counts.tolist(), strict=True):
        verdict = _verdict(register, _compared(register, images, plus, minus))
        shares["the naive rule promotes"] += count / draws * (plus >= minus)
        shares[f"the gate decides: {verdict.decision}"] += count / draws
    return shares


def _compared(register: Register, images: int, gained: int, lost: int) -> Comparison:
    chosen = register.gate
    return _paired(images, gained, lost, chosen.confidence, chosen.resamples, chosen.seed)


@cache
def _paired(images: int, gained: int, lost: int, confidence: float, resamples: int, seed: int) -> Comparison:
    return paired_tests.from_counts(
        images, gained, lost, confidence=confidence, resamples=resamples, seed=seed
    )


def _verdict(register: Register, compared: Comparison, groups: pd.DataFrame | None = None) -> gate.Verdict:
    # the limits are kept: only the comparison with the champion decides
    metrics = {**register.floors.model_dump(), **register.ceilings.model_dump()}
    keeps_ties = register.model_copy(update={"gate": register.gate.model_copy(update={"tie": "keep"})})
    return gate.judge(keeps_ties, metrics, compared, groups=groups)


if __name__ == "__main__":
    command.main("gate")
