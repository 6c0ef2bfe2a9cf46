"""How often the promotion gate is right, beside the rule it replaces: ``python -m benchmarks.gate``.

Two seeds of the recipe in ``params.yaml`` are trained to see on how many test images two equally good models
disagree. Test sets of that size are then drawn, many times, with a candidate that is better or worse than the
champion by a known difference, and each rule decides.
"""

from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.accuracy import correct_by_seed
from lenet5 import params, settings
from lenet5.params import Register
from lenet5.paths import Paths
from lenet5.register import gate, paired
from lenet5.terminal import console

DIFFERENCES = (-1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0)
"""Of the candidate's true accuracy from the champion's, in points: hundredths."""


def main(draws: Annotated[int, typer.Option(help="Test sets a difference.")] = 20_000) -> None:
    """Measure the disagreement, then print how often each rule promotes, keeps and rejects."""
    paths = Paths.find()
    settings.apply(paths)
    everything = params.load(paths.params)
    register = everything.section("register")
    one, other = correct_by_seed(paths, everything.section("train"), seeds=2)
    images = len(one)
    disagreement = float((one != other).mean())
    console.print(
        f"two seeds: accuracy {one.mean():.4f} and {other.mean():.4f} on {images:,} images, "
        f"{disagreement:.2%} of which one reads right and the other wrong"
    )
    console.print(
        f"margin {register.gate.margin}, confidence {register.gate.confidence}, {draws:,} test sets a line"
    )
    table = Table("true difference (points)", "naive ≥ promotes", "gate promotes", "keeps", "rejects")
    for points in DIFFERENCES:
        naive, shares = _rates(register, images, disagreement, points / 100, draws)
        table.add_row(
            f"{points:+.1f}",
            f"{naive:.1%}",
            *(f"{shares[name]:.1%}" for name in ("promote", "keep", "reject")),
        )
    console.print(table)


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
    compared = paired.from_counts(
        images, gained, lost, confidence=sure.confidence, resamples=sure.resamples, seed=sure.seed
    )
    within = {
        **register.floors.model_dump(),
        **register.ceilings.model_dump(),
    }  # only the comparison counts here
    tie_kept = register.model_copy(update={"gate": sure.model_copy(update={"tie": "keep"})})
    return gate.judge(tie_kept, within, compared).decision


if __name__ == "__main__":
    typer.run(main)
