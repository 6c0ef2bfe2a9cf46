"""The learning rate follows its schedule, and the optimizer has the given parameters."""

from typing import Any

import keras
import numpy as np
import pytest

from lenet5.stages.train import optimizer
from lenet5.stages.train.params import Train

KNOBS: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.004,
    "weight_decay": 0.5,
    "beta_2": 0.9,
    "schedule": "constant",
    "warmup": 0.5,
}
"""Another value for each parameter that decides the optimizer."""


def rates(settings: Train, steps: int = 100, **changed: object) -> list[float]:
    """The learning rate at each step, from 0 to ``steps``."""
    schedule = optimizer.schedule(settings.model_copy(update={"learning_rate": 0.5} | changed), steps)
    assert callable(schedule)
    return [float(schedule(step)) for step in range(steps + 1)]


def test_cosine_without_warmup_starts_at_the_peak_and_ends_at_0(settings: Train) -> None:
    rate = rates(settings, warmup=0.0)
    assert rate[0] == pytest.approx(0.5)
    assert rate[50] == pytest.approx(0.25)
    assert rate[100] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rate) < 0).all()


def test_cosine_with_warmup_rises_linearly_to_the_peak_then_decays_to_0(settings: Train) -> None:
    rate = rates(settings, warmup=0.2)
    assert rate[:21] == pytest.approx(np.linspace(0, 0.5, 21))
    assert rate[60] == pytest.approx(0.25)
    assert rate[100] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rate[20:]) < 0).all()


def test_warmup_of_less_than_a_step_is_no_warmup(settings: Train) -> None:
    assert rates(settings, steps=5, warmup=0.1)[0] == pytest.approx(0.5)


def test_warmup_can_be_almost_the_whole_training(settings: Train) -> None:
    rate = rates(settings, steps=10, warmup=0.99)
    assert rate[9] == pytest.approx(0.5)
    assert rate[10] == pytest.approx(0, abs=1e-7)


def test_constant_is_the_learning_rate_throughout(settings: Train) -> None:
    constant = settings.model_copy(update={"schedule": "constant", "learning_rate": 0.25})
    assert optimizer.schedule(constant, 100) == 0.25
    assert float(optimizer.build(constant, 100).learning_rate) == 0.25


def test_adamw_takes_weight_decay_and_beta_2(settings: Train) -> None:
    made = optimizer.build(settings.model_copy(update={"weight_decay": 0.25, "beta_2": 0.75}), 100)
    assert type(made) is keras.optimizers.AdamW
    assert (made.weight_decay, made.beta_2) == (0.25, 0.75)


def test_adam_takes_beta_2_and_decays_no_weights(settings: Train) -> None:
    made = optimizer.build(
        settings.model_copy(update={"optimizer": "adam", "weight_decay": 0.25, "beta_2": 0.75}), 100
    )
    assert type(made) is keras.optimizers.Adam
    assert (made.weight_decay, made.beta_2) == (None, 0.75)


def test_kernels_decay_and_biases_do_not(settings: Train) -> None:
    made = optimizer.build(
        settings.model_copy(update={"schedule": "constant", "learning_rate": 0.5, "weight_decay": 0.5}), 1
    )
    layer = keras.layers.Dense(2, bias_initializer="ones", kernel_initializer="ones")
    layer.build((None, 3))
    made.apply([keras.ops.zeros_like(variable) for variable in layer.variables], layer.variables)
    kernel, bias = (keras.ops.convert_to_numpy(variable) for variable in layer.variables)
    assert kernel == pytest.approx(0.75)
    assert bias == pytest.approx(1)


def test_learning_rate_of_each_epoch_is_that_of_its_last_step(settings: Train) -> None:
    made = optimizer.build(settings.model_copy(update={"learning_rate": 0.5, "warmup": 0.5}), 10)
    made.iterations.assign(5)
    assert float(made.learning_rate) == pytest.approx(0.5)


@pytest.mark.parametrize("name", KNOBS)
def test_parameter_decides_the_optimizer(settings: Train, name: str) -> None:
    assert getattr(settings, name) != KNOBS[name]
    changed = settings.model_copy(update={name: KNOBS[name]})
    default, other = (optimizer.build(params, 100).get_config() for params in (settings, changed))
    assert default != other
