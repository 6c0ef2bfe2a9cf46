"""A model is scored on the chosen images, corrupted, in the documented order."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.images import corruptions
from lenet5.images.corruptions import scoring
from lenet5.images.corruptions.scoring import Answers
from lenet5.stages.evaluate.params import CorruptionName, Robustness
from tests.conftest import Arrays

NAMES: tuple[CorruptionName, ...] = ("rotate", "shot_noise", "inversion")
SEVERITIES = (2, 4)


class NearestMean:
    """A small classifier: the closer the mean image of a class, the more probable the class."""

    def __init__(self, digits: Arrays) -> None:
        images, labels = digits["train_images"], digits["train_labels"]
        self._means = np.stack([images[labels == digit].mean(axis=0).ravel() for digit in range(10)])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = images.reshape(len(images), 784).astype(np.float64)
        distances = ((pixels[:, np.newaxis] - self._means) ** 2).mean(axis=2) / 1000
        weights = np.exp(distances.min(axis=1, keepdims=True) - distances)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def model(digits: Arrays) -> NearestMean:
    return NearestMean(digits)


Score = Callable[..., Answers]


@pytest.fixture(scope="module")
def score(digits: Arrays, model: NearestMean) -> Score:
    def run(images: int = 620, count: int = 600, seed: int = 7, threads: int = 2) -> Answers:
        return scoring.score(
            model,
            digits["test_images"][:images],
            digits["test_labels"][:images],
            Robustness(corruptions=list(NAMES), severities=list(SEVERITIES), images=count, seed=seed),
            threads,
        )

    return run


@pytest.fixture(scope="module")
def answers(score: Score) -> Answers:
    return score()


def test_there_is_a_row_for_each_corruption_severity_and_image(answers: Answers, digits: Arrays) -> None:
    columns = answers.columns
    index = scoring.chosen(620, 600, 7)
    assert {len(column) for column in columns.values()} == {6 * 600}
    assert columns["corruption"].tolist() == [name for name in NAMES for _ in range(1200)]
    assert columns["severity"].tolist() == [level for _ in NAMES for level in SEVERITIES for _ in range(600)]
    np.testing.assert_array_equal(columns["index"].reshape(6, 600), np.tile(index, (6, 1)))
    np.testing.assert_array_equal(columns["label"], digits["test_labels"][columns["index"]])


def test_correct_answers_are_sorted_by_corruption_severity_and_image(answers: Answers) -> None:
    assert answers.correct.shape == (3, 2, 600)
    flat = answers.columns["predicted"] == answers.columns["label"]
    np.testing.assert_array_equal(answers.correct[1, 0], flat[1200:1800])


def test_each_row_has_the_answer_for_its_corrupted_image(
    answers: Answers, digits: Arrays, model: NearestMean
) -> None:
    index = scoring.chosen(620, 600, 7)
    second = index[corruptions.BLOCK :]  # the second block
    changed = corruptions.corrupt("shot_noise", digits["test_images"][second], 4, seed=7, block=1)
    rows = slice(4 * 600 - 100, 4 * 600)
    probabilities = model(changed)
    np.testing.assert_array_equal(answers.columns["predicted"][rows], probabilities.argmax(axis=1))
    np.testing.assert_array_equal(answers.columns["confidence"][rows], probabilities.max(axis=1))


def test_corrupted_images_are_harder(answers: Answers, digits: Arrays, model: NearestMean) -> None:
    index = scoring.chosen(620, 600, 7)
    clean = (model(digits["test_images"][index]).argmax(axis=1) == digits["test_labels"][index]).mean()
    assert answers.clean_accuracy == pytest.approx(clean)
    correct = answers.columns["predicted"] == answers.columns["label"]
    assert correct.mean() < answers.clean_accuracy - 0.1


def test_the_number_of_threads_changes_nothing(score: Score, answers: Answers) -> None:
    one = score(threads=1)
    assert one.corrupted_images == answers.corrupted_images
    for name, column in answers.columns.items():
        np.testing.assert_array_equal(one.columns[name], column)


def test_the_digest_tells_other_images_apart(score: Score, answers: Answers) -> None:
    digests = [answers.corrupted_images, score(seed=8).corrupted_images, score(count=599).corrupted_images]
    assert len(set(digests)) == 3


def test_a_larger_number_adds_images() -> None:
    np.testing.assert_array_equal(scoring.chosen(1000, 300, 3), scoring.chosen(1000, 800, 3)[:300])
    assert sorted(scoring.chosen(1000, 2000, 3)) == list(range(1000))
    assert not np.array_equal(scoring.chosen(1000, 300, 3), scoring.chosen(1000, 300, 4))


def test_whole_blocks_of_a_smaller_number_stay_as_they_are(score: Score, answers: Answers) -> None:
    fewer = score(count=corruptions.BLOCK)
    rows = np.concatenate([np.arange(600 * part, 600 * part + corruptions.BLOCK) for part in range(6)])
    for name, column in fewer.columns.items():
        np.testing.assert_array_equal(column, answers.columns[name][rows])
