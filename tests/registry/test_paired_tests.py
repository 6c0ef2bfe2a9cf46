"""The paired statistics, compared with SciPy and with values computed by hand."""

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from lenet5.registry.paired_tests import Comparison, compare, from_counts


def comparison(
    images: int, gained: int, lost: int, *, confidence: float = 0.95, resamples: int = 5000, seed: int = 1
) -> Comparison:
    return from_counts(images, gained, lost, confidence=confidence, resamples=resamples, seed=seed)


def test_images_are_compared_one_by_one() -> None:
    candidate = np.array([True, True, True, False, False, True])
    champion = np.array([True, False, False, True, False, True])
    result = compare(candidate, champion, confidence=0.95, resamples=100, seed=1)
    assert (result.images, result.gained, result.lost) == (6, 2, 1)
    assert result.difference == pytest.approx(1 / 6)


@pytest.mark.parametrize(("gained", "lost"), [(50, 30), (30, 50), (3, 0), (0, 7), (1, 1)])
def test_p_value_is_the_exact_mcnemar_test(gained: int, lost: int) -> None:
    tails = 2 * binom.cdf(min(gained, lost), gained + lost, 0.5)
    assert comparison(10_000, gained, lost).p_value == pytest.approx(min(1, tails))


def test_equal_models_do_not_differ() -> None:
    result = comparison(10_000, 0, 0)
    assert (result.p_value, result.low, result.difference, result.high) == (1, 0, 0, 0)


def test_interval_agrees_with_scipys_bootstrap_over_images() -> None:
    images, gained, lost = 1000, 60, 20
    differences = np.repeat([1, -1, 0], [gained, lost, images - gained - lost])
    theirs = bootstrap(
        (differences,),
        np.mean,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(2),
        batch=500,
    ).confidence_interval
    ours = comparison(images, gained, lost)
    assert ours.low == pytest.approx(theirs.low, abs=0.0015)
    assert ours.high == pytest.approx(theirs.high, abs=0.0015)
    assert ours.low < ours.difference < ours.high


def test_interval_covers_the_truth_with_its_confidence() -> None:
    rng = np.random.default_rng(3)
    truth = 0.002
    samples = rng.multinomial(10_000, [0.005, 0.003, 0.992], size=400)
    result = [
        from_counts(10_000, gained, lost, confidence=0.9, resamples=1000, seed=1)
        for gained, lost, _ in samples
    ]
    covered = np.mean([each.low <= truth <= each.high for each in result])
    assert 0.85 < covered < 0.95


def test_seed_determines_the_interval() -> None:
    one, same = comparison(10_000, 50, 30), comparison(10_000, 50, 30)
    other, fewer = comparison(10_000, 50, 30, seed=2, resamples=99), comparison(10_000, 50, 30, resamples=99)
    assert one == same
    assert len({(each.low, each.high) for each in (one, other, fewer)}) == 3


def test_higher_confidence_gives_a_wider_interval() -> None:
    narrow, wide = (comparison(10_000, 50, 30, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
