"""The optimizer and its learning-rate schedule."""

import keras

from lenet5.params import Train


def build(params: Train, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training that takes ``steps`` steps in all.

    ``cosine`` warms up linearly from 0 to ``learning_rate`` over ``warmup`` of the steps, then decays to 0
    along half a cosine (Loshchilov & Hutter, SGDR, 2017); AdamW decouples the decay of the weights from
    the gradient (Loshchilov & Hutter, 2019).
    """
    rate = schedule(params, steps)
    if params.optimizer == "adam":
        return keras.optimizers.Adam(rate, beta_2=params.beta_2)
    return keras.optimizers.AdamW(rate, beta_2=params.beta_2, weight_decay=params.weight_decay)


def schedule(params: Train, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule | float":
    if params.schedule == "constant":
        return params.learning_rate
    warmup_steps = int(params.warmup * steps)
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(params.learning_rate, decay_steps=steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=steps - warmup_steps,
        warmup_target=params.learning_rate,
        warmup_steps=warmup_steps,
    )
