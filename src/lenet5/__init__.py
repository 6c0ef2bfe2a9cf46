"""LeNet-5 on MNIST: from raw digits to a gated, reproducible, registered model version."""

__version__ = "0.1.0"
