"""The engine under Keras."""

import keras

from lenet5.terminal import quiet_libraries


def use_threads(threads: int) -> None:
    """Fix how many threads an operation may use: the order of its sums, and so the bytes, depend on it.

    Comes before the first operation. Only TensorFlow can be told.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        with quiet_libraries():  # the search for GPUs complains where there is none
            tf.config.list_logical_devices()
