"""The four arrays of MNIST, and what each container calls them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    key: str
    """``params.yaml`` pins the array under ``ingest.sha256.<key>``."""
    file: str
    """In a folder of IDX files, where it may also end in ``.gz``."""
    member: str
    """In Keras' ``mnist.npz``."""
    dimensions: int


ITEMS = (
    Item("train_images", "train-images-idx3-ubyte", "x_train", 3),
    Item("train_labels", "train-labels-idx1-ubyte", "y_train", 1),
    Item("test_images", "t10k-images-idx3-ubyte", "x_test", 3),
    Item("test_labels", "t10k-labels-idx1-ubyte", "y_test", 1),
)

KERAS_FILE = "mnist.npz"
