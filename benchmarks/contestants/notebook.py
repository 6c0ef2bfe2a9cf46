"""The notebook that everybody writes: LeNet-5 in Keras, ten epochs of all 60,000 images.

The test set is its validation set.
Nothing is set: threads, engine and data types are what they are by default.
"""

import time

from benchmarks.contestants.program import Epochs, Stopwatch, answer, digits, options, time_saving


def main() -> None:
    wanted = options().parse_args()
    watch = Stopwatch()
    import keras
    from keras import layers
    from keras.utils import to_categorical

    watch.lap("import")
    keras.utils.set_random_seed(wanted.seed)
    data = digits(wanted.images)
    x_train = data.train_images.reshape(-1, 28, 28, 1) / 255.0  # float64: what dividing bytes gives
    x_test = data.test_images.reshape(-1, 28, 28, 1) / 255.0
    y_train = to_categorical(data.train_labels, 10)
    y_test = to_categorical(data.test_labels, 10)
    watch.lap("data")

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(16, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    watch.lap("build")

    if wanted.what == "fixed":
        model.train_on_batch(x_train[: wanted.batch_size], y_train[: wanted.batch_size])
        watch.lap("first step")
        time_saving(watch, "model.keras", model.save, keras.models.load_model)
        return

    epochs = Epochs()
    is_rate = wanted.what == "rate"

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            epochs.end(test_accuracy=(logs or {}).get("val_accuracy", 0.0))

    started = time.perf_counter()
    model.fit(
        x_train,
        y_train,
        batch_size=wanted.batch_size,
        epochs=wanted.epochs,
        validation_data=None if is_rate else (x_test, y_test),
        verbose=0,  # a progress bar would cost it more than its own speed
        callbacks=[Clock()],
    )
    fit = time.perf_counter() - started
    answer(
        fit_s=fit,
        import_s=watch.laps["import"],
        weights=model.count_params(),
        epochs=epochs.rows,
        **(epochs.steady(len(x_train)) if is_rate else {}),
    )


if __name__ == "__main__":
    main()
