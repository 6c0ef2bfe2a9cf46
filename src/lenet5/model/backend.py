"""The engine under Keras."""

import os

import keras

from lenet5.core.errors import UsageError
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine


def use_threads(threads: int) -> None:
    """Fix how many threads an operation may use: the order of its sums, and so the bytes, depend on it.

    Comes before the first operation. Only TensorFlow can be told.
    """
    for variable, value in engine.ENGINE_FLAGS.items():
        assert os.environ.get(variable) == value, f"{variable} must be {value} before Keras is imported"
    if engine.backend_name() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(2)  # one trains, one prepares the next batches
        with quiet_libraries():  # the search for GPUs complains where there is none
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)  # a GPU may have other users
            tf.config.list_logical_devices()


def require(precision: str) -> None:
    """Refuse a precision that the engine cannot do on the device at hand.

    Raises:
        UsageError: TensorFlow on a processor: its kernels have no 16-bit convolutions in ``ENGINE``'s set.
    """
    if precision != "float32" and name() == "tensorflow" and device() == "CPU":
        raise UsageError(
            "This precision needs a GPU.",
            expected="train.precision float32 on a processor",
            found=precision,
            fix="set train.precision to float32, or train on a worker of the pool `gpu`",
        )


def use_cpu() -> None:
    """Leave GPUs alone, however many there are: their sums, of shorter floats by default, are others.

    Comes before the first operation. Only TensorFlow can be told.
    """
    if engine.backend_name() == "tensorflow":
        import tensorflow as tf

        with quiet_libraries():
            tf.config.set_visible_devices([], "GPU")


def name() -> str:
    """The package that does the sums: ``tensorflow``, ``jax``, ``torch``."""
    return str(keras.backend.backend())


def device() -> str:
    """What operations run on by default: ``CPU``, or the kind of GPU where the engine tells it."""
    if engine.backend_name() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    return str(keras.distribution.list_devices()[0]).partition(":")[0].upper()
