"""Train images are scored by classifiers that have not seen their labels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lenet5.core import dataset
from lenet5.stages.evaluate import label_errors, out_of_fold

CLASSES, FEATURES = 4, 6


def clouds(images: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of classes that are well apart, and the classes."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, CLASSES, images)
    centres = random.normal(0, 4, (CLASSES, FEATURES))
    return (centres[codes] + random.normal(0, 1, (images, FEATURES))).astype(np.float32), codes


def scored(
    features: NDArray[np.floating], codes: NDArray[np.int64], step: int = 1000, classes: int = CLASSES
) -> NDArray[np.float64]:
    parts = [slice(first, min(first + step, len(codes))) for first in range(0, len(codes), step)]
    results = list(out_of_fold.probabilities(lambda part: features[part], codes, classes, parts))
    assert [part for part, _ in results] == parts
    return np.concatenate([shares for _, shares in results])


def test_label_of_an_image_does_not_change_its_own_scores() -> None:
    features, codes = clouds(200)
    for image in (0, 57, 199):
        # the same fold with another label: only classifiers that score other folds see the change
        changed = codes.copy()
        changed[image] = (codes[image] + 1) % CLASSES
        same_folds = out_of_fold.folds(codes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(out_of_fold, "folds", lambda _, fixed=same_folds: fixed)
            patch.setattr(out_of_fold, "_temperature", lambda *_: 1.0)
            before, after = scored(features, codes), scored(features, changed)
        fold = same_folds == same_folds[image]
        np.testing.assert_array_equal(after[fold], before[fold])
        assert not np.array_equal(after[~fold], before[~fold])


def test_each_fold_is_scored_as_scikit_learn_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_fold, "_temperature", lambda *_: 1.0)
    monkeypatch.setattr(out_of_fold, "_RIDGE", 0.0)
    features, codes = clouds(500)
    ours, fold = scored(features, codes), out_of_fold.folds(codes)
    for number in range(out_of_fold.FOLDS):
        left_out = fold == number
        other = LinearDiscriminantAnalysis("lsqr").fit(features[~left_out].astype(float), codes[~left_out])
        np.testing.assert_allclose(
            ours[left_out], other.predict_proba(features[left_out].astype(float)), atol=1e-9
        )


def test_parts_give_the_scores_of_the_whole() -> None:
    features, codes = clouds(500)
    whole, parts = scored(features, codes), scored(features, codes, step=499)
    np.testing.assert_allclose(parts, whole, atol=1e-9)


def test_planted_wrong_labels_are_ranked_first() -> None:
    features, codes = clouds(2000)
    wrong = np.arange(0, 2000, 100)
    codes[wrong] = (codes[wrong] + 1) % CLASSES
    shares = scored(features, codes, step=300)
    ranked = label_errors.rank("train", codes, shares)["index"]
    assert set(ranked[:20]) == set(wrong.tolist())


def test_temperature_gives_probabilities_that_are_right_as_often_as_they_say() -> None:
    features, codes = clouds(4000, seed=3)
    features += np.random.default_rng(1).normal(0, 3, features.shape).astype(np.float32)
    # repeated features are no independent observations: without a temperature, they make the classes certain
    shares = scored(np.tile(features, 8) + np.random.default_rng(2).normal(0, 0.3, (4000, 48)), codes)
    assert abs(shares.max(axis=1).mean() - (shares.argmax(axis=1) == codes).mean()) < 0.05


def test_folds_share_out_each_class() -> None:
    codes = np.repeat([0, 1, 2], [50, 7, 2])
    fold = out_of_fold.folds(codes)
    for code in range(3):
        counts = np.bincount(fold[codes == code], minlength=out_of_fold.FOLDS)
        assert counts.max() - counts.min() <= 1


def test_image_that_is_alone_in_its_class_and_units_that_are_always_zero_do_no_harm() -> None:
    features, codes = clouds(300)
    features[:, 2] = 0
    codes[10] = CLASSES
    shares = scored(features, codes, classes=CLASSES + 2)  # the last class has no image at all
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[10, CLASSES] == 1
    assert (shares[:, CLASSES + 1] == 0).all()
    assert 10 not in label_errors.rank("train", codes, shares)["index"].tolist()


def test_no_feature_and_few_images() -> None:
    features = np.zeros((4, 3), np.float32)
    shares = scored(features, np.array([0, 1, 0, 1]), classes=2)
    assert np.isfinite(shares).all()
    assert list(dataset.chunks(0)) == [slice(0, 0)]
