"""The rule for different test data: when a drop is large enough, and what the gate decides without one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet5.registry.gate import DataChange, Scores, Verdict, judge, lowest_likely_drop
from lenet5.registry.paired_tests import from_counts
from lenet5.stages.register.params import Register
from tests.registry.test_gate import GOOD, params

IMAGES = 10_000


def scores(champion: float, gained: int = 0, lost: int = 0, images: int = IMAGES) -> Scores:
    comparison = from_counts(images, gained, lost, confidence=0.95, resamples=2000, seed=1)
    return Scores(champion + comparison.difference, champion, comparison)


def decide(new: Scores, old: Scores | None, *, accept: bool = False, **gate: Any) -> Verdict:
    register: Register = params(**gate)
    change = DataChange(new, old, "" if old else "The old images are lost.\n  fix: find them")
    return judge(register, GOOD, new.comparison, change, accept_new_data=accept)


WON = scores(0.98, 80, 30)
TIE = scores(0.98, 30, 30)


def test_a_win_on_the_new_images_and_no_loss_on_the_old_ones_promotes() -> None:
    assert decide(WON, TIE).decision == "promote"
    assert decide(WON, WON).decision == "promote"


@pytest.mark.parametrize(
    ("new", "old", "who"),
    [
        (scores(0.18, 8174, 8), scores(0.99, 8, 8377), ("champion's", "candidate's")),  # transposed images
        (scores(0.80, 1900, 8), scores(0.98, 30, 30), ("champion's",)),  # only the champion falls
        (scores(0.98, 80, 30), scores(0.93, 30, 30), ("candidate's",)),  # only the candidate falls
        (scores(0.94, 80, 30), scores(0.99, 30, 30), ("champion's",)),  # 5 % wrong labels
    ],
)
def test_a_fall_of_either_model_is_other_data(new: Scores, old: Scores, who: tuple[str, ...]) -> None:
    verdict = decide(new, old)
    assert verdict.decision == "other_data"
    falls = [f"the {name} accuracy falls from" in verdict.why for name in ("champion's", "candidate's")]
    assert falls == [name in who for name in ("champion's", "candidate's")]


def test_missing_images_of_the_champion_are_other_data() -> None:
    verdict = decide(WON, None)
    assert verdict.decision == "other_data"
    assert verdict.why == "The old images are lost"
    assert "find them" in str(verdict)


def test_parameter_decides_how_large_a_drop_may_be() -> None:
    new, old = scores(0.955, 80, 30), TIE
    assert decide(new, old, max_drop=0.02).decision == "other_data"
    assert decide(new, old, max_drop=0.03).decision == "promote"


def test_few_images_must_show_a_larger_drop() -> None:
    new, old = scores(0.955, 80, 30), TIE
    few = scores(0.955, 3, 0, images=200), scores(0.98, images=200)
    assert decide(new, old).decision == "other_data"
    assert decide(*few).decision != "other_data"
    assert decide(scores(0.80, 30, 0, images=200), few[1]).decision == "other_data"


def test_loss_on_the_champions_images_is_judged_as_on_the_own_ones() -> None:
    rejected = decide(WON, scores(0.98, 25, 60))
    assert rejected.decision == "reject"
    assert "difference in accuracy on the champion's test images" in rejected.why
    kept = decide(WON, scores(0.98, 0, 8))
    assert (kept.decision, kept.why) == (
        "keep",
        "it is worse than the champion on the champion's test images, by less than 0.003",
    )
    assert decide(TIE, scores(0.98, 0, 8), tie="promote").decision == "keep"
    assert decide(TIE, TIE, tie="promote").decision == "promote"


def test_a_win_on_the_champions_images_alone_is_no_win() -> None:
    assert decide(TIE, WON).decision == "keep"
    assert decide(scores(0.98, 25, 60), WON).decision == "reject"


def test_accepted_data_are_judged_on_the_new_images_alone() -> None:
    collapsed = scores(0.18, 8174, 8), scores(0.99, 8, 8377)
    assert decide(*collapsed, accept=True).decision == "promote"
    assert decide(WON, None, accept=True).decision == "promote"
    assert decide(TIE, scores(0.98, 25, 60), accept=True).decision == "keep"
    assert decide(scores(0.98, 25, 60), WON, accept=True).decision == "reject"
    broken = judge(
        params(),
        GOOD | {"accuracy": 0.9},
        collapsed[0].comparison,
        DataChange(*collapsed),
        accept_new_data=True,
    )
    assert (broken.decision, broken.accepted) == ("reject", True)
    assert "floor of accuracy" in broken.why


def test_no_larger_fall_is_ever_judged_more_mildly() -> None:
    order = ["promote", "keep", "reject", "other_data"]
    decisions = [
        [decide(scores(new, 100, 30), scores(0.99, 0, 0)).decision for new in np.linspace(0.99, 0.1, 60)],
        [decide(WON, scores(old, 0, 0)).decision for old in np.linspace(0.99, 0.1, 60)],
    ]
    for each in decisions:
        assert [order.index(d) for d in each] == sorted(order.index(d) for d in each)
        assert {each[0], each[-1]} == {"promote", "other_data"}


def test_lowest_likely_drop_agrees_with_published_figures() -> None:
    # Newcombe, 1998, Statistics in Medicine 17, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10
    assert lowest_likely_drop(56 / 70, 70, 48 / 80, 80, 0.95) == pytest.approx(0.0524, abs=5e-5)
    assert lowest_likely_drop(9 / 10, 10, 3 / 10, 10, 0.95) == pytest.approx(0.1705, abs=5e-5)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1))
def test_lowest_likely_drop_of_any_sets(images: int, others: int, own: float, other: float) -> None:
    own, other = round(own * images) / images, round(other * others) / others
    low = lowest_likely_drop(own, images, other, others, 0.95)
    assert math.isfinite(low)
    assert -1 - 1e-12 <= low <= own - other + 1e-12
    assert lowest_likely_drop(own, images, other, others, 0.99) <= low + 1e-12  # more confidence
    assert lowest_likely_drop(own, 100 * images, other, 100 * others, 0.95) >= low - 1e-12  # more images


def test_honest_samples_of_one_population_are_hardly_ever_other_data() -> None:
    """Two samples of 500 images for a model that is right on 98 %: the largest drop is within the limit."""
    rng = np.random.default_rng(6)
    drops = [
        lowest_likely_drop(a / 500, 500, b / 500, 500, 0.95) for a, b in rng.binomial(500, 0.98, (1000, 2))
    ]
    assert max(drops) < 0.02


def test_table_of_both_sets() -> None:
    lines = str(DataChange(scores(0.18, 8174, 8), scores(0.99, 8, 8377))).splitlines()
    assert lines[0].split() == ["images", "champion", "candidate", "gained", "lost", "p"]
    assert lines[1].split()[3:] == ["images", "10,000", "0.1800", "0.9966", "8,174", "8", "0"]
    assert lines[2].split()[3:] == ["images", "10,000", "0.9900", "0.1531", "8", "8,377", "0"]
    assert len({len(line) for line in lines}) == 1
