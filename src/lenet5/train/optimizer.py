"""The optimizer and its learning-rate schedule."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lenet5.params import Train


def build(params: Train, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training that takes ``steps`` steps in all.

    AdamW decouples the decay of the weights from the gradient (Loshchilov & Hutter, 2019); biases, as is
    usual, do not decay.
    """
    rate = schedule(params, steps)
    if params.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_2=params.beta_2)
    adamw = keras.optimizers.AdamW(rate, beta_2=params.beta_2, weight_decay=params.weight_decay)
    adamw.exclude_from_weight_decay(var_names=["bias"])
    return adamw


def schedule(params: Train, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule | float":
    """The learning rate of each of ``steps`` steps, and of the end.

    ``cosine`` warms up linearly from 0 to ``learning_rate`` over ``warmup`` of the steps, then decays to 0
    along half a cosine (Loshchilov & Hutter, SGDR, 2017).
    """
    if params.schedule == "constant":
        return params.learning_rate
    warmup = int(params.warmup * steps)
    step = np.arange(steps + 1)
    rising = step / max(warmup, 1)
    falling = (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
    rates = params.learning_rate * np.where(step < warmup, rising, falling)
    return _Tabled(rates.astype(np.float32))


class _Tabled(keras.optimizers.schedules.LearningRateSchedule):
    """Looks the rate up: Keras asks for it many times a step, and its own schedule branches each time."""

    def __init__(self, rates: NDArray[np.float32]) -> None:
        self._rates = keras.ops.convert_to_tensor(rates)  # one tensor, however often a graph asks

    def __call__(self, step: Any) -> Any:
        return keras.ops.take(self._rates, step)

    def get_config(self) -> dict[str, Any]:
        return {"rates": keras.ops.convert_to_numpy(self._rates).tolist()}
