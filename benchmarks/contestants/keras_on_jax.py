"""The notebook's model and recipe in Keras on JAX, as Keras' guides write it: float32 arrays, ``fit``."""

import os
import time

import numpy as np

from benchmarks.contestants.program import Epochs, Stopwatch, answer, digits, options, time_saving


def main() -> None:
    wanted = options().parse_args()
    os.environ["KERAS_BACKEND"] = "jax"
    if wanted.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    watch = Stopwatch()
    import keras
    from keras import layers

    watch.lap("import")
    keras.utils.set_random_seed(wanted.seed)
    data = digits(wanted.images)
    x_train, x_test = (
        images[..., None].astype(np.float32) / np.float32(255)
        for images in (data.train_images, data.test_images)
    )
    watch.lap("data")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=8)
    watch.lap("build")
    if wanted.what == "fixed":
        model.train_on_batch(x_train[: wanted.batch_size], data.train_labels[: wanted.batch_size])
        watch.lap("first step")
        time_saving(watch, "model.keras", model.save, keras.models.load_model)
        return

    epochs = Epochs()

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            reached = (logs or {}).get("val_accuracy", 0.0)
            epochs.end(test_accuracy=reached)
            self.model.stop_training = bool(wanted.until and reached >= wanted.until)

    started = time.perf_counter()
    model.fit(
        x_train,
        data.train_labels,
        batch_size=wanted.batch_size,
        epochs=wanted.epochs,
        validation_data=None if wanted.what == "rate" else (x_test, data.test_labels),
        validation_batch_size=1000,
        verbose=0,
        callbacks=[Clock()],
    )
    answer(
        fit_s=time.perf_counter() - started,
        import_s=watch.laps["import"],
        weights=model.count_params(),
        epochs=epochs.rows,
        **(epochs.steady(len(x_train)) if wanted.what == "rate" else {}),
    )


if __name__ == "__main__":
    main()
