"""How often the promotion gate is right, beside the rule it replaces.

Two seeds of the recipe in ``params.yaml`` are trained to see on how many test images two equally good models
disagree. Test sets of that size are then drawn, many times, with a candidate that is better or worse than the
champion by a known difference, and each rule decides. Differences are in points: hundredths of accuracy.
"""

import numpy as np

from benchmarks.accuracy import correct_by_seed
from benchmarks.bench import Bench
from benchmarks.recipes import DEFAULT, recipe
from benchmarks.results import Line, Verdict
from lenet5.registry import gate, paired_test
from lenet5.stages.register.params import Register
from lenet5.system import settings

DIFFERENCES = (-1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0)
"""Of the candidate's true accuracy from the champion's, in points: hundredths."""
DRAWS = 20_000
"""Test sets a difference."""
DECISIONS = {"promote": "the gate promotes", "keep": "the gate keeps", "reject": "the gate rejects"}


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    settings.apply(bench.paths)
    params = recipe(bench.paths, DEFAULT, {"train.epochs": 1} if bench.quick else {})
    register: Register = params.register_
    one, other = correct_by_seed(bench.paths, params.train, seeds=2)
    disagreement = float((one != other).mean())
    note = f"margin {register.gate.margin}, confidence {register.gate.confidence}"
    lines = [
        Line(
            table="two seeds: accuracy", name="first and second", unit="", values=(one.mean(), other.mean())
        ),
        Line(
            table="two seeds: images that one reads right and the other wrong",
            name=f"of {len(one):,}",
            unit="%",
            values=(100 * disagreement,),
        ),
    ]
    for points in DIFFERENCES:
        draws = 500 if bench.quick else DRAWS
        naive, shares = _rates(register, len(one), disagreement, points / 100, draws)
        rules = {"the naive rule (>=) promotes": naive} | {
            DECISIONS[name]: shares[name] for name in DECISIONS
        }
        lines += [
            Line(table=rule, name=f"{points:+.1f} points", unit="%", values=(100 * share,), note=note)
            for rule, share in rules.items()
        ]
    return sorted(lines, key=lambda line: line.table), []


def _rates(
    register: Register, images: int, disagreement: float, difference: float, draws: int
) -> tuple[float, dict[str, float]]:
    """How often the naive rule promotes, and the gate decides each way."""
    # a difference is made of images that one reads right and the other wrong: at least as many as it is large
    apart = max(disagreement, abs(difference))
    gained, lost = (apart + difference) / 2, (apart - difference) / 2
    drawn = np.random.default_rng(0).multinomial(images, [gained, lost, 1 - apart], size=draws)
    outcomes, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    shares = dict.fromkeys(("promote", "keep", "reject"), 0.0)
    naive = 0.0
    for (plus, minus), count in zip(outcomes.tolist(), counts.tolist(), strict=True):
        share = count / draws
        naive += share * (plus >= minus)
        shares[_decide(register, images, plus, minus)] += share
    return naive, shares


def _decide(register: Register, images: int, gained: int, lost: int) -> gate.Decision:
    sure = register.gate
    compared = paired_test.from_counts(
        images, gained, lost, confidence=sure.confidence, resamples=sure.resamples, seed=sure.seed
    )
    within = {
        **register.floors.model_dump(),
        **register.ceilings.model_dump(),
    }  # only the comparison counts here
    tie_kept = register.model_copy(update={"gate": sure.model_copy(update={"tie": "keep"})})
    return gate.judge(tie_kept, within, compared).decision
