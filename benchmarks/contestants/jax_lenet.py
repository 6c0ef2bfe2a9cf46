"""LeNet-5 in JAX with the notebook's recipe, as somebody who wants it fast on a processor writes it."""

import os
import pickle
import time

import numpy as np

from benchmarks.contestants.program import Epochs, Stopwatch, answer, digits, options, time_saving


def main() -> None:
    wanted = options().parse_args()
    if wanted.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    watch = Stopwatch()
    import jax

    from benchmarks.contestants import jax_model

    watch.lap("import")
    data = digits(wanted.images)
    x_train, x_test = (
        images[..., None].astype(np.float32) / np.float32(255)
        for images in (data.train_images, data.test_images)
    )
    y_train, y_test = data.train_labels.astype(np.int32), data.test_labels.astype(np.int32)
    watch.lap("data")
    params, state = jax_model.init(wanted.seed)
    watch.lap("build")

    if wanted.what == "fixed":
        few = wanted.batch_size
        params, state = jax_model.step(params, state, x_train[:few], y_train[:few])
        jax.block_until_ready(params)
        watch.lap("first step")
        time_saving(
            watch,
            "model.pkl",
            lambda file: file.write_bytes(pickle.dumps(jax.device_get(params))),
            lambda file: jax.device_put(pickle.loads(file.read_bytes())),
        )
        return

    random = np.random.default_rng(wanted.seed)
    started, epochs = time.perf_counter(), Epochs()
    for _ in range(wanted.epochs):
        order = random.permutation(len(x_train))
        for begin in range(0, len(order), wanted.batch_size):
            rows = order[begin : begin + wanted.batch_size]
            params, state = jax_model.step(params, state, x_train[rows], y_train[rows])
        jax.block_until_ready(params)
        if wanted.what == "rate":
            epochs.end()
            continue
        batches = [slice(at, at + 1000) for at in range(0, len(x_test), 1000)]
        counted = sum(int(jax_model.right(params, x_test[some], y_test[some])) for some in batches)
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
