"""The usual notebook: LeNet-5 in Keras, ten epochs of all 60,000 images.

Its validation set is the test set. Threads, engine and data types are the defaults.
"""

from benchmarks.contestants.program import Epochs, answer, digits, options


def main() -> None:
    arguments = options().parse_args()
    import keras
    from keras import layers
    from keras.utils import to_categorical

    keras.utils.set_random_seed(arguments.seed)
    data = digits(arguments.images)
    x_train = data.train_images.reshape(-1, 28, 28, 1) / 255.0  # float64, as NumPy divides uint8
    x_test = data.test_images.reshape(-1, 28, 28, 1) / 255.0
    y_train = to_categorical(data.train_labels, 10)
    y_test = to_categorical(data.test_labels, 10)

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

    epochs = Epochs()

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            epochs.end(test_accuracy=(logs or {}).get("val_accuracy", 0.0))

    model.fit(
        x_train,
        y_train,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=None if arguments.mode == "rate" else (x_test, y_test),
        verbose=0,  # a progress bar would slow it down
        callbacks=[Clock()],
    )
    answer(weights=model.count_params(), **epochs.facts(len(x_train)))


if __name__ == "__main__":
    main()
