"""Describe the engine that computes: its flags, variables and versions. This module imports no engine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from lenet5.core.errors import UsageError

ENGINE_FLAGS = {
    # TensorFlow turns oneDNN off on a processor without AVX-512, and the results of its own kernels then
    # depend on the size of the processor's cache
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # with one instruction set there is one code path, which gives the same bytes on every processor
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""Environment variables that decide bytes. They override the user's variables of the same name."""

BACKENDS = ("tensorflow", "jax")
"""What Keras can compute with here; the first one is the default."""

# these prefixes are longer than TF_, because other programs, such as Terraform, use TF_ as well
_PREFIXES = (
    *("ONEDNN_", "DNNL_", "XLA_FLAGS", "TF_XLA_", "TF_ENABLE_", "TF_DISABLE_", "TF_DETERMINISTIC_"),
    *("TF_CUDNN_", "TF_CUBLAS", "CUBLAS_", "NVIDIA_TF32_"),
    # choose kernels, or rewrite the graph
    *(
        "TF_USE_",
        "TF_ONEDNN_",
        "TF_SET_ONEDNN_",
        "TF_MKL_",
        "TF_AUTO_MIXED_PRECISION_",
        "TF_DATA_EXPERIMENT_",
    ),
    *("TF_FP16_", "TF_CONV2D_", "TF_MATMUL_", "TF_AUTOTUNE_", "TF_CUFFT_", "TF_JITRT_", "TFXLA_"),
    *("JAX_ENABLE_", "JAX_DISABLE_", "JAX_DEFAULT_", "JAX_NUMPY_", "JAX_RANDOM_", "JAX_THREEFRY_"),
)


def variables() -> list[str]:
    """Return the engine's own variables that are set and can change a result, as ``NAME=value``."""
    names = sorted(name for name in os.environ if name.startswith(_PREFIXES))
    return [f"{name}={os.environ[name]}" for name in names]


def backend_name() -> str:
    """Return the package that Keras computes with: ``tensorflow`` or ``jax``.

    Raises:
        UsageError: ``KERAS_BACKEND`` names another package, or one that is not installed.
    """
    name = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if name not in BACKENDS or find_spec(name) is None:
        raise UsageError(
            "Keras cannot compute with the package that KERAS_BACKEND names.",
            expected=" or ".join(each for each in BACKENDS if find_spec(each)),
            found=f"KERAS_BACKEND={name}" + (", which is not installed" if name in BACKENDS else ""),
            fix="unset KERAS_BACKEND",
        )
    return name


def versions(*extra: str) -> dict[str, str]:
    """Return the installed versions of Keras, of the package it computes with, and of further packages."""
    return {name: version(name) for name in ("keras", backend_name(), *extra)}


@contextmanager
def lean_keras() -> Iterator[None]:
    """Import Keras in this block without its optional imports, which take seconds.

    Keras imports JAX under TensorFlow when JAX is installed, and scikit-learn and matplotlib.
    """
    unneeded = [*(["jax"] if backend_name() == "tensorflow" else []), "sklearn", "matplotlib"]
    hidden = [name for name in unneeded if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import then fails as if it were not installed
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
