"""Build the optimizer and its learning-rate schedule."""

import keras

from lenet5.stages.train.params import Train


def build(params: Train, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer for a training of ``steps`` steps.

    AdamW decouples weight decay from the gradient (Loshchilov & Hutter, 2019). Biases do not decay, as usual.
    """
    rate = schedule(params, steps)
    if params.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_2=params.beta_2)
    adamw = keras.optimizers.AdamW(rate, beta_2=params.beta_2, weight_decay=params.weight_decay)
    adamw.exclude_from_weight_decay(var_names=["bias"])
    return adamw


def schedule(params: Train, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule | float":
    """Return the learning rate of each step.

    ``cosine`` rises linearly from 0 to ``learning_rate`` over the share ``warmup`` of the steps, then decays
    to 0 along half a cosine (Loshchilov & Hutter, SGDR, 2017).

    Args:
        params: for ``schedule``, ``learning_rate`` and ``warmup``.
        steps: the number of steps of the whole training.
    """
    if params.schedule == "constant":
        return params.learning_rate
    warmup = int(params.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=params.learning_rate, warmup_steps=warmup
    )
