"""Comparisons on corruptions and slices: the p-value against known results, the correction, the tables."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import multinomial

from lenet5.core.errors import DataError
from lenet5.registry import paired_tests
from lenet5.registry.paired_tests import Group, holm, on_corruptions, on_slices, p_value

NAMES = ("brightness", "fog")
SEVERITIES = (1, 3, 5)


def differences(gained: int, lost: int, images: int) -> NDArray[np.int64]:
    return np.repeat([1, -1, 0], [gained, lost, images - gained - lost])


def tango(gained: int, lost: int, images: int, margin: float) -> NDArray[np.float64]:
    """Shares of gained, lost and other images, by the closed form of Tango, 1998, equation 7."""
    a = 2 * images
    b = -gained - lost + (2 * images - lost + gained) * margin
    c = -gained * margin * (1 - margin)
    q = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    return np.array([q, q + margin, max(0, 1 - 2 * q - margin)])  # the last one can be -1e-17


@pytest.mark.parametrize(
    ("gained", "lost", "images", "margin"),
    [(0, 5, 40, 0.03), (1, 6, 40, 0.03), (4, 9, 30, 0.1), (0, 2, 2, 0.1), (0, 2, 60, 0.02), (0, 30, 30, 0.2)],
)
def test_probability_is_that_of_every_possible_result(
    gained: int, lost: int, images: int, margin: float
) -> None:
    shares = tango(gained, lost, images, margin)
    results = [
        (plus, minus, images - plus - minus)
        for plus in range(images + 1)
        for minus in range(images + 1 - plus)
        if plus - minus <= gained - lost
    ]
    expected = multinomial.pmf(results, images, shares).sum()
    assert p_value(differences(gained, lost, images), 1, margin) == pytest.approx(expected)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 5), (30, 0), (0, 10)])
def test_loss_within_the_margin_is_no_evidence(gained: int, lost: int) -> None:
    assert p_value(differences(gained, lost, 1000), 1, 0.01) == 1


def test_more_lost_images_are_more_evidence() -> None:
    values = [p_value(differences(5, lost, 1000), 1, 0.01) for lost in range(16, 200, 20)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == paired_tests.SMALLEST_P


def test_severities_of_one_image_are_no_further_images() -> None:
    once = differences(10, 60, 1000)
    assert p_value(5 * once, 5, 0.03) == pytest.approx(p_value(once, 1, 0.03))
    five_times = np.repeat(once, 5)  # what a test would see that counts every answer as an image
    assert p_value(five_times, 1, 0.03) < p_value(once, 1, 0.03) ** 3


@pytest.mark.parametrize("repeats", [1, 5])
@pytest.mark.parametrize(("images", "disagreement"), [(100, 0.1), (1000, 0.2)])
def test_candidate_at_the_margin_is_found_inferior_as_often_as_the_level_says(
    repeats: int, images: int, disagreement: float
) -> None:
    """The images differ in how hard they are, so the severities of one image are correlated."""
    rng, margin, draws = np.random.default_rng(4), 0.05, 400
    at_risk = rng.random((draws, images)) < disagreement * 2
    lost = disagreement / 2 + margin / 2
    shares = np.array([disagreement - lost, lost, 1 - disagreement]) / (2 * disagreement)
    shares[2] = 1 - shares[:2].sum()
    drawn = rng.choice([1, -1, 0], size=(draws, images, repeats), p=shares) * at_risk[..., None]
    assert drawn.mean() == pytest.approx(-margin, abs=0.005)
    found = [p_value(one.sum(axis=1), repeats, margin) < 0.05 for one in drawn]
    assert 0.005 <= np.mean(found) <= 0.075  # of 400 draws: three standard errors above the level


def test_holm() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.6])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


def corrupted(wrong: float, seed: int, images: int = 300) -> pd.DataFrame:
    """Answers with a share of wrong ones on each image, corruption and severity."""
    rows = pd.MultiIndex.from_product(
        [NAMES, SEVERITIES, range(images)], names=["corruption", "severity", "index"]
    ).to_frame(index=False)
    label = rows["index"] % 10
    is_wrong = np.random.default_rng(seed).random(len(rows)) < wrong
    return rows.assign(label=label, predicted=(label + is_wrong) % 10, confidence=0.9)


def test_corruptions_are_paired_by_image_whatever_the_order_of_rows() -> None:
    candidate, champion = corrupted(0.3, 1), corrupted(0.1, 2)
    fog, brightness = (candidate["corruption"] == name for name in ("fog", "brightness"))
    candidate.loc[brightness, "predicted"] = champion.loc[brightness, "predicted"]
    shuffled = champion.sample(frac=1, random_state=0)
    frame = paired_tests.table(on_corruptions(candidate, shuffled, 0.05), 0.95).set_index("name")
    assert frame.index.tolist() == ["brightness", "fog"]
    assert frame["images"].tolist() == [300, 300]
    accuracy = (candidate["predicted"] == candidate["label"])[fog].mean()
    assert frame.loc["fog", "candidate"] == pytest.approx(accuracy)
    assert frame.loc["brightness", "difference"] == 0
    assert frame["worse"].to_dict() == {"brightness": False, "fog": True}


def test_tables_of_other_images_are_not_compared() -> None:
    candidate = corrupted(0.1, 1)
    for other in (corrupted(0.1, 1, images=299), candidate.assign(severity=candidate["severity"] + 1)):
        with pytest.raises(DataError, match="not scored on the same corrupted images"):
            on_corruptions(candidate, other, 0.05)
    with pytest.raises(DataError, match="brightness has images without all severities"):
        on_corruptions(candidate.iloc[1:], candidate.iloc[1:], 0.05)


def test_slices_are_compared_bin_by_bin() -> None:
    images = 400
    slices = pd.DataFrame(
        {
            "index": np.arange(images),
            "class": np.arange(images).astype(str),
            "slant": np.repeat(["left", "right"], images // 2),
        }
    ).assign(**{"class": lambda frame: (frame["index"] % 2).astype(str)})
    champion = np.ones(images, bool)
    candidate = champion.copy()
    candidate[200:240] = False  # 40 of the 200 images that lean to the right
    shuffled = slices.sample(frac=1, random_state=0)
    frame = paired_tests.table(on_slices(candidate, champion, shuffled, 0.05), 0.95)
    assert frame["name"].tolist() == ["class 0", "class 1", "slant left", "slant right"]
    assert frame["images"].tolist() == [200] * 4
    assert frame["candidate"].tolist() == pytest.approx([0.9, 0.9, 1, 0.8])
    right = frame.iloc[3]
    assert right["worse"]
    assert right["adjusted"] == pytest.approx(4 * right["p_value"])
    with pytest.raises(DataError, match="not about the test images"):
        on_slices(candidate, champion, slices.iloc[1:], 0.05)


def test_words_name_the_worst_with_their_numbers() -> None:
    def groups() -> Iterator[Group]:
        for number, lost in enumerate([0, 200, 150, 180, 250, 90]):
            champion = np.ones(1000, np.int64)
            yield Group("corruption", f"kind{number}", 0.05, champion - (np.arange(1000) < lost), champion)

    frame = paired_tests.table(groups(), 0.95)
    assert frame["worse"].tolist() == [False, True, True, True, True, True]
    reason = paired_tests.worse(frame)
    assert reason.startswith(
        "it is worse than the champion by more than the margin on corruption kind4: accuracy 0.7500 against "
        "1.0000, difference -0.2500, margin 0.05, corrected p <1e-09; corruption kind1: "
    )
    assert reason.endswith("; and 2 more")
    lines = paired_tests.describe(frame).splitlines()
    assert lines[0].startswith("worst 5 of 6 corruptions and slices")
    assert [line.split()[1] for line in lines[1:]] == ["kind4", "kind1", "kind3", "kind2", "kind5"]
    assert all(line.endswith("✗") for line in lines[1:])
    equal = frame.assign(worse=False)
    assert paired_tests.worse(equal) == ""
    assert len(paired_tests.describe(equal).splitlines()) == 4
