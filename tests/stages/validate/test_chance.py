"""Limits leave to chance the share of cases that they state, for few and many images and bins."""

import numpy as np
import pytest

from lenet5.stages.validate import chance

RATE = 0.001
DRAWS = 20_000
MANY = 10**9
"""Images of a reference that adds no chance of its own."""


@pytest.mark.parametrize("images", [50, 300, 2000])
@pytest.mark.parametrize("bins", [2, 10, 19])
def test_divergence_of_the_same_source_is_within_chance(images: int, bins: int) -> None:
    generator = np.random.default_rng(1998)
    shares = generator.dirichlet(np.ones(bins)) * 0.98 + 0.02 / bins
    counts = generator.multinomial(images, shares, DRAWS) / images
    seen = (counts * np.log(np.maximum(counts, 1e-300) / shares)).sum(axis=1)
    limit = chance.divergence(shares, images, MANY, RATE)
    assert 0.2 * RATE < (seen > limit).mean() < 2.5 * RATE


def test_divergence_of_many_rare_classes_is_within_chance() -> None:
    """A thousand classes and 300 images: most classes have none."""
    generator = np.random.default_rng(1998)
    shares = np.full(1000, 1e-3)
    counts = generator.multinomial(300, shares, 2000) / 300
    seen = (counts * np.log(np.maximum(counts, 1e-300) / shares)).sum(axis=1)
    limit = chance.divergence(shares, 300, MANY, RATE)
    assert (seen > limit).mean() <= RATE
    assert limit < 1.2 * np.median(seen)


def test_small_reference_allows_more() -> None:
    shares = np.full(10, 0.1)
    limits = [chance.divergence(shares, 300, reference, RATE) for reference in (300, 3000, MANY)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] == pytest.approx(2 * limits[2], rel=0.01)


@pytest.mark.parametrize(("images", "share"), [(300, 0.1), (300, 0.01), (10_000, 0.003)])
def test_counts_of_the_same_source_are_within_chance(images: int, share: float) -> None:
    counts = np.random.default_rng(1998).binomial(images, share, 100_000)
    assert (counts > chance.most(share, images, MANY, RATE)).mean() <= RATE
    assert (counts < chance.fewest(share, images, MANY, RATE)).mean() <= RATE
    assert (counts > 0.5 * chance.most(share, images, MANY, RATE)).mean() > 0.05


def test_counts_beyond_the_images_are_impossible() -> None:
    assert chance.most(1.2, 50, 100, RATE) == 50
    assert chance.most(0.0, 50, 100, RATE) == 0
    assert chance.most(0.3, 0, 100, RATE) == 0
    assert chance.fewest(0.0, 50, 100, RATE) == 0


@pytest.mark.parametrize("images", [20, 300])
def test_loss_of_a_share_is_surely_there(images: int) -> None:
    """The data of the same source has no loss in almost all cases; a large loss is found."""
    generator = np.random.default_rng(1998)
    reference = 1000
    usual = generator.binomial(reference, 0.9, DRAWS) / reference
    seen = generator.binomial(images, 0.9, DRAWS).astype(float)
    every = np.full(DRAWS, float(images))
    lost = chance.share_loss(seen, every, usual, np.full(DRAWS, float(reference)), RATE)
    assert (lost > 0).mean() <= 1.5 * RATE
    worse = generator.binomial(images, 0.3, DRAWS).astype(float)
    assert (chance.share_loss(worse, every, usual, np.full(DRAWS, 1000.0), RATE) > 0).mean() > 0.9


def test_loss_without_images_is_unknown() -> None:
    lost = chance.share_loss(np.zeros(1), np.zeros(1), np.ones(1), np.ones(1) * 10, RATE)
    assert np.isnan(lost).all()
