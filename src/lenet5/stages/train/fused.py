"""Train with fewer and larger operations of TensorFlow than Keras' own step.

A call gets the images of several steps at once. Keras instead takes each batch from the iterator of a dataset
inside the graph, updates its metrics in each step, and updates each weight with about ten operations.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

import keras
import tensorflow as tf

from lenet5.core.dataset import Split
from lenet5.stages.train.batches import Batches, ValidationBatches, endless

_ITEMS_AHEAD = 2
"""Items that wait for the training. Each has up to 32 MB of images, or one batch if that is larger."""


class FusedSequential(keras.Sequential):
    """The layers of a network, with a ``train_step`` of several steps.

    Each update of the weights is that of Keras' own step up to rounding. Rounding differences grow with the
    steps. Layers, optimizer, loss, metrics and callbacks are Keras' own. The optimizer is Adam or AdamW,
    without clipping and without averages of the weights. On a GPU, Keras lets XLA compile the step, once for
    each number of images in a call.
    """

    def __init__(self, network: keras.Sequential, batch_size: int) -> None:
        """Share the layers of a network.

        Args:
            network: a network whose layers compute in training as in prediction.
            batch_size: images of one step.
        """
        super().__init__([keras.Input(network.input_shape[1:]), *network.layers], name=network.name)
        self._batch_size = batch_size

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train on whole batches, one after the other, or on one batch with fewer images.

        Args:
            data: images (N, H, W, channels) and labels (N, classes); N is a multiple of the batch size, or
                smaller than it.
        """
        images, labels = data
        size = tf.minimum(self._batch_size, tf.shape(images)[0])
        batches = [tf.reshape(array, (-1, size, *array.shape[1:])) for array in data]

        def step(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch, expected = (array[number] for array in batches)
            with tf.GradientTape() as tape:
                probabilities = _probabilities(self.layers, batch)
                loss = self.compute_loss(batch, expected, probabilities)
            update(self.optimizer, tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return loss, probabilities

        losses, probabilities = tf.map_fn(
            step,
            tf.range(tf.shape(batches[0])[0]),
            parallel_iterations=1,  # a step needs the weights of the one before
            fn_output_signature=(tf.float32, tf.float32),
        )
        loss_of_epoch = self.metrics[0]  # the mean over the images of the epoch, as in Keras' own step
        loss_of_epoch.update_state(
            tf.reduce_mean(losses), sample_weight=tf.cast(tf.shape(images)[0], tf.float32)
        )
        metrics: dict[str, tf.Tensor] = self.compute_metrics(
            images, labels, tf.reshape(probabilities, tf.shape(labels))
        )
        return metrics


@contextmanager
def drawn_ahead(batches: Batches | ValidationBatches, split: Split) -> Iterator[tf.data.Dataset]:
    """Yield a dataset of all epochs, whose next items a thread draws while others are trained on.

    Keras itself makes a ``Dataset.from_generator`` of a ``PyDataset``. That has three faults:

    - A thread that tunes it may miss its wake-up call at the end of an epoch. The next epoch waits for it, up
      to a minute.
    - On Python 3.11 and later, it makes glibc return each freed array of 128 kB or more to the kernel
      (``mallopt``). The page faults then take longer than the distortion that causes them.
    - It calls Python in a thread of TensorFlow. That thread can wait for the GIL while the main thread holds
      the GIL and waits for it, as after Ctrl-C.

    Args:
        batches: the items of an epoch.
        split: the images and labels that the items are taken from.

    Raises:
        Exception: the error of drawing an item, after the block.
    """
    shapes = [(None, *array.shape[1:]) for array in (split.images, split.labels)]
    queue = tf.queue.FIFOQueue(_ITEMS_AHEAD, [tf.float32] * len(shapes))
    errors: list[Exception] = []

    def draw() -> None:
        try:
            for item in endless(batches):
                queue.enqueue(item)
        except tf.errors.CancelledError:  # the block ended
            pass
        except Exception as error:  # it belongs to the thread that trains
            errors.append(error)
            queue.close()  # a step that waits for an item fails

    def take(_: tf.Tensor) -> list[tf.Tensor]:
        return [tf.ensure_shape(array, shape) for array, shape in zip(queue.dequeue(), shapes, strict=True)]

    options = tf.data.Options()
    options.autotune.enabled = False
    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield tf.data.Dataset.counter().map(take).with_options(options)
    finally:
        queue.close(cancel_pending_enqueues=True)
        thread.join()
        if errors:
            raise errors[0]


def update(
    optimizer: keras.optimizers.Adam, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
) -> None:
    """Do one step of Adam or AdamW with TensorFlow's kernel for it, on Keras' variables of the optimizer.

    Args:
        optimizer: built for these variables.
        gradients: one for each variable.
        variables: the trainable weights, in the order in which the optimizer was built.
    """
    iteration = tf.cast(optimizer.iterations.value + 1, tf.float32)
    rate = tf.convert_to_tensor(optimizer.learning_rate, tf.float32)
    powers = [tf.pow(tf.constant(beta), iteration) for beta in (optimizer.beta_1, optimizer.beta_2)]
    for variable, gradient, momentum, velocity in zip(
        variables, gradients, optimizer._momentums, optimizer._velocities, strict=True
    ):
        if optimizer.weight_decay and optimizer._use_weight_decay(variable):
            variable.value.assign_sub(variable.value * (rate * optimizer.weight_decay))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.value.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=rate,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )
    optimizer.iterations.value.assign_add(1)


def _probabilities(layers: Sequence[keras.layers.Layer], images: tf.Tensor) -> tf.Tensor:
    """Call the layers, but add the bias of a convolution and apply ReLU after the maximum is taken.

    Both are monotonic, so the result is the same, and they get a quarter of the values.
    """
    features, bias = images, None
    for layer, following in zip_longest(layers, layers[1:]):
        if _is_before_maximum(layer, following):
            # as a layer does when it is called; it matters for 16 bits
            features, kernel, bias = (
                tf.cast(each, layer.compute_dtype) for each in (features, layer.kernel, layer.bias)
            )
            features = layer.convolution_op(features, kernel)
        else:
            features = layer(features)
            if bias is not None:
                features, bias = tf.nn.relu(tf.nn.bias_add(features, bias)), None
    return features


def _is_before_maximum(layer: keras.layers.Layer, following: keras.layers.Layer | None) -> bool:
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.activation is keras.activations.relu
        and isinstance(following, keras.layers.MaxPooling2D)
    )
