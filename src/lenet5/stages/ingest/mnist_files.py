"""Name the four arrays of MNIST and their files in each container."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MnistFile:
    """One array of MNIST."""

    key: str
    """``params.yaml`` pins the checksum of the array under ``ingest.sha256.<key>``."""
    file: str
    """Name in a folder of IDX files; ``.gz`` may follow."""
    member: str
    """Name in Keras' ``mnist.npz``."""
    dimensions: int
    """3 for images (N, 28, 28), 1 for labels (N,)."""


MNIST_FILES = (
    MnistFile("train_images", "train-images-idx3-ubyte", "x_train", 3),
    MnistFile("train_labels", "train-labels-idx1-ubyte", "y_train", 1),
    MnistFile("test_images", "t10k-images-idx3-ubyte", "x_test", 3),
    MnistFile("test_labels", "t10k-labels-idx1-ubyte", "y_test", 1),
)

KERAS_FILE = "mnist.npz"
