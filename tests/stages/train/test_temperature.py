"""Temperature scaling makes confidence accuracy, and changes no answer."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from lenet5.core.dataset import Split
from lenet5.core.errors import TrainingError, UsageError
from lenet5.stages.train import stage, temperature
from tests.training_fixtures import Fitted


def drawn(images: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from their softmax; the logits are then multiplied by ``sharpness``."""
    rng = np.random.default_rng(11)
    logits = 2 * rng.standard_normal((images, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_logits_that_are_too_small_or_too_large(sharpness: float) -> None:
    assert temperature.fit(*drawn(5000, sharpness)) == pytest.approx(sharpness, rel=0.05)


def test_temperature_has_the_lowest_cross_entropy() -> None:
    logits, labels = drawn(500, 1.7)
    rows = np.arange(500)
    loss = {t: -log_softmax(logits / t, axis=1)[rows, labels].mean() for t in np.arange(0.5, 4, 0.01)}
    assert temperature.fit(logits, labels) == pytest.approx(min(loss, key=lambda t: loss[t]), abs=0.006)


def test_without_a_mistake_the_temperature_is_the_lowest_one() -> None:
    assert temperature.fit(np.eye(10), np.arange(10)) == temperature.LIMITS[0]


def test_logits_are_those_of_the_network(once: Fitted, validation: Split) -> None:
    logits = temperature.logits(once.model, validation.images)
    assert logits.dtype == np.float64
    assert logits.shape == (200, 10)
    expected = np.log(once.model.predict_on_batch(validation.images))
    np.testing.assert_allclose(log_softmax(logits, axis=1), expected, atol=1e-4)


def test_calibration_folds_the_temperature_into_the_last_layer(once: Fitted, validation: Split) -> None:
    copy = keras.models.clone_model(once.model)
    copy.set_weights(once.model.get_weights())
    before = once.model.predict_on_batch(validation.images)
    fitted = stage.calibrate(copy, validation)
    assert fitted != 1
    assert fitted == round(fitted, 4)
    after = copy.predict_on_batch(validation.images)
    scaled = np.exp(log_softmax(np.log(before.astype(np.float64)) / fitted, axis=1))
    np.testing.assert_allclose(after, scaled, atol=1e-5)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    labels = validation.labels.argmax(axis=1)
    rows = np.arange(len(labels))
    assert -np.log(after[rows, labels]).mean() < -np.log(before[rows, labels]).mean()
    for old, new in zip(once.model.get_weights()[:-2], copy.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(new, old)


def test_calibration_that_changes_an_answer_is_an_error(
    once: Fitted, validation: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = keras.models.clone_model(once.model)
    copy.set_weights(once.model.get_weights())
    monkeypatch.setattr(temperature, "fit", lambda *_: -1.0)
    with pytest.raises(TrainingError, match=r"does not give the classes(.|\n)*for \d+ images"):
        stage.calibrate(copy, validation)


def test_too_few_validation_images_are_an_error(validation: Split) -> None:
    temperature.require_images(Split(validation.images[:100], validation.labels[:100]))
    with pytest.raises(UsageError, match=r"too few validation images(.|\n)*found: +99"):
        temperature.require_images(Split(validation.images[:99], validation.labels[:99]))
