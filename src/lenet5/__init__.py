"""LeNet-5 on MNIST, or on your own images: from raw images to a gated, reproducible, registered version."""

__version__ = "0.1.0"
