"""The optimizer and its learning-rate schedule."""

import keras

from lenet5.stages.train.params import Train


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
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=params.learning_rate, warmup_steps=warmup
    )
