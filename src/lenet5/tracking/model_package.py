"""The MLflow model folder around the ``.keras`` file and the ONNX file that were evaluated.

``mlflow.keras.log_model`` would load the model (TensorFlow, six seconds) and save it again with other bytes
than DVC tracks. This module writes the same folder, and copies the two files into it unchanged.
"""

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from lenet5.core import files
from lenet5.core.dataset import Description
from lenet5.tracking.tags import KERAS_FILE, ONNX_FILE

if TYPE_CHECKING:
    from mlflow.models import Model

_PROVIDER = "CPUExecutionProvider"
_REQUIREMENTS = ("mlflow", "tensorflow", "keras", "numpy")


def write(
    folder: Path,
    model: Path,
    onnx: Path,
    example: NDArray[np.uint8],
    description: Description,
    metadata: dict[str, Any],
) -> None:
    """Write the folder.

    Args:
        folder: The folder to create. It must not exist.
        model: The ``.keras`` file.
        onnx: The ONNX file of the same model.
        example: A few raw images, uint8 (N, H, W) or (N, H, W, 3).
        description: What the images show. The ``MLmodel`` file holds it as metadata.
        metadata: Additional entries for the ``MLmodel`` file.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    (folder / "data").mkdir(parents=True)
    shutil.copyfile(model, folder / KERAS_FILE)
    shutil.copyfile(onnx, folder / ONNX_FILE)
    (folder / "data" / "keras_module.txt").write_text("keras")
    pins = [f"{name}=={version(name)}" for name in _REQUIREMENTS]
    (folder / "requirements.txt").write_text("\n".join(pins) + "\n")
    python = platform.python_version()
    _write_yaml(
        folder / "python_env.yaml",
        {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]},
    )
    _write_yaml(
        folder / "conda.yaml",
        {
            "name": "lenet5",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": pins}],
        },
    )
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, len(description.classes)))])
    ml_model = Model(
        signature=ModelSignature(inputs, outputs),
        metadata={**metadata, **description.model_dump(mode="json")},
    )
    _save_example(ml_model, example, folder)
    ml_model.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    ml_model.add_flavor("onnx", data=ONNX_FILE, onnx_version=version("onnx"), providers=[_PROVIDER])
    mlflow.pyfunc.add_to_model(
        ml_model, loader_module="mlflow.keras", conda_env="conda.yaml", python_env="python_env.yaml"
    )
    ml_model.save(str(folder / "MLmodel"))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}


def _save_example(ml_model: "Model", example: NDArray[np.uint8], folder: Path) -> None:
    from mlflow.models.utils import _Example

    input_example = _Example(example)
    input_example.save(str(folder))
    ml_model.saved_input_example_info = input_example.info


def _write_yaml(path: Path, content: object) -> None:
    with path.open("w") as file:
        YAML().dump(content, file)
