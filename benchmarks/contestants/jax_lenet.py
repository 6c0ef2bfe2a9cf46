"""LeNet-5 in JAX and Optax with the notebook's recipe: one compiled step, nothing but arrays.

A whole epoch in one `lax.scan` was twice as slow: convolutions in a loop do not reach the fast kernels.
"""

import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.program import Epochs, Stopwatch, answer, digits, options


def main() -> None:
    wanted = options().parse_args()
    if wanted.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    watch = Stopwatch()
    import jax
    import jax.numpy as jnp
    import optax

    watch.lap("import")
    data = digits(wanted.images)
    x_train, x_test = (
        images[..., None].astype(np.float32) / np.float32(255)
        for images in (data.train_images, data.test_images)
    )
    y_train, y_test = data.train_labels.astype(np.int32), data.test_labels.astype(np.int32)
    watch.lap("data")

    glorot = jax.nn.initializers.glorot_uniform()
    shapes = [(3, 3, 1, 6), (3, 3, 6, 16), (400, 120), (120, 84), (84, 10)]
    keys = jax.random.split(jax.random.key(wanted.seed), len(shapes))
    params: Any = [
        (glorot(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)
    ]
    adam = optax.adam(1e-3, eps=1e-7)  # Keras' defaults
    state: Any = adam.init(params)
    watch.lap("build")

    def halve(hidden: Any) -> Any:
        """2x2 max pooling as four slices: a quarter faster here than ``lax.reduce_window``."""
        height, width = (side // 2 * 2 for side in hidden.shape[1:3])
        corners = [hidden[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
        return jnp.maximum(jnp.maximum(*corners[:2]), jnp.maximum(*corners[2:]))

    def logits(params: Any, images: Any) -> Any:
        hidden = images  # (B, 28, 28, 1)
        for weight, bias in params[:2]:
            hidden = jax.lax.conv_general_dilated(
                hidden, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            hidden = halve(jax.nn.relu(hidden + bias))
        hidden = hidden.reshape(len(hidden), -1)  # (B, 400)
        for weight, bias in params[2:-1]:
            hidden = jax.nn.relu(hidden @ weight + bias)
        weight, bias = params[-1]
        return hidden @ weight + bias

    def loss(params: Any, images: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()

    @jax.jit
    def step(params: Any, state: Any, images: Any, labels: Any) -> Any:
        updates, state = adam.update(jax.grad(loss)(params, images, labels), state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def right(params: Any, images: Any, labels: Any) -> Any:
        return (logits(params, images).argmax(1) == labels).sum()

    if wanted.what == "fixed":
        rows = slice(wanted.batch_size)
        params, state = step(params, state, x_train[rows], y_train[rows])
        jax.block_until_ready(params)
        watch.lap("first step")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.pkl"
            file.write_bytes(pickle.dumps(jax.device_get(params)))
            watch.lap("save")
            jax.device_put(pickle.loads(file.read_bytes()))
            watch.lap("load")
        answer(**watch.laps)
        return

    random = np.random.default_rng(wanted.seed)
    started, epochs = time.perf_counter(), Epochs()
    for _ in range(wanted.epochs):
        order = random.permutation(len(x_train))
        for begin in range(0, len(order), wanted.batch_size):
            rows = order[begin : begin + wanted.batch_size]
            params, state = step(params, state, x_train[rows], y_train[rows])
        jax.block_until_ready(params)
        if wanted.what == "rate":
            epochs.end()
            continue
        counted = sum(
            int(right(params, x_test[i : i + 1000], y_test[i : i + 1000]))
            for i in range(0, len(x_test), 1000)
        )
        epochs.end(test_accuracy=(reached := counted / len(x_test)))
        if wanted.until and reached >= wanted.until:
            break
    answer(
        fit_s=time.perf_counter() - started,
        import_s=watch.laps["import"],
        weights=sum(leaf.size for leaf in jax.tree.leaves(params)),
        epochs=epochs.rows,
        **(epochs.steady(len(x_train)) if wanted.what == "rate" else {}),
    )


if __name__ == "__main__":
    main()
