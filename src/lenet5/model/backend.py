"""Configure the package that Keras computes with: threads, precision, devices."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from lenet5.core.errors import UsageError
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine


def configure(threads: int) -> None:
    """Fix the configuration of Keras and of its engine: no variable and no ``keras.json`` decides bytes.

    Call it before the first operation.

    Args:
        threads: for one operation of TensorFlow; they decide the order of its sums, and so the last bits.

    Raises:
        AssertionError: a variable of ``ENGINE_FLAGS`` has another value. Importing Keras read it already.
    """
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)  # KERAS_MAX_EPOCHS and the next one cut a training short
    keras.config.set_max_steps_per_epoch(None)
    for variable, value in engine.ENGINE_FLAGS.items():
        assert os.environ.get(variable) == value, f"{variable} must be {value} before Keras is imported"
    if engine.backend_name() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(2)  # one for the step, one for the next batch
        with quiet_libraries():  # TensorFlow prints errors where there is no GPU
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)  # other processes may use the GPU as well
            tf.config.list_logical_devices()


def require(precision: str) -> None:
    """Check that the engine can compute in a precision on this machine's device.

    Args:
        precision: a dtype policy of Keras, as in ``train.precision``.

    Raises:
        UsageError: TensorFlow runs on a CPU and the precision is not float32. With the instruction set of
            ``ENGINE_FLAGS``, TensorFlow has no 16-bit convolutions.
    """
    if precision != "float32" and name() == "tensorflow" and device() == "CPU":
        raise UsageError(
            "This precision needs a GPU.",
            expected="train.precision float32 on a CPU",
            found=precision,
            fix="set train.precision to float32, or train on a worker of the pool `gpu`",
        )


@contextmanager
def on_cpu() -> Iterator[None]:
    """Create models and compute on the CPU of this process alone in this block.

    A GPU rounds differently and uses shorter floats by default. Of several processes, this one computes
    without the others.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        with keras.device("cpu:0"):
            yield
    finally:
        keras.distribution.set_distribution(distribution)


def name() -> str:
    """Return the package that Keras computes with: ``tensorflow`` or ``jax``."""
    return str(keras.backend.backend())


def device() -> str:
    """Return the default device: ``CPU``, or the kind of GPU."""
    if engine.backend_name() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    return str(keras.distribution.list_devices()[0]).partition(":")[0].upper()
