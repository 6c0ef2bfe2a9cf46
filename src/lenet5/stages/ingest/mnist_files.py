"""The four arrays of MNIST, and what each container calls them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MnistFile:
    key: str
    """``params.yaml`` pins the array under ``ingest.sha256.<key>``."""
    file: str
    """In a folder of IDX files, where it may also end in ``.gz``."""
    member: str
    """In Keras' ``mnist.npz``."""
    dimensions: int


MNIST_FILES = (
    MnistFile("train_images", "train-images-idx3-ubyte", "x_train", 3),
    MnistFile("train_labels", "train-labels-idx1-ubyte", "y_train", 1),
    MnistFile("test_images", "t10k-images-idx3-ubyte", "x_test", 3),
    MnistFile("test_labels", "t10k-labels-idx1-ubyte", "y_test", 1),
)

KERAS_FILE = "mnist.npz"
