"""An MLflow model around the very ``.keras`` file, and the ONNX file, that were evaluated.

``mlflow.keras.log_model`` would load the model (TensorFlow, six seconds) only to save it again, as other
bytes than those that DVC tracks. The folder it writes is plain: this writes the same one around the file.
"""

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _Example
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from ruamel.yaml import YAML

from lenet5.core import files
from lenet5.core.dataset import CLASSES
from lenet5.tracking.tags import KERAS_FILE, ONNX_FILE

_PROVIDER = "CPUExecutionProvider"
_REQUIREMENTS = ("mlflow", "tensorflow", "keras", "numpy")


def write(
    folder: Path, model: Path, onnx: Path, example: NDArray[np.uint8], metadata: dict[str, Any]
) -> None:
    """Write the folder.

    Args:
        folder: where; it must not exist yet.
        model: the ``.keras`` file.
        onnx: the ONNX file of the same model.
        example: a few raw images, uint8 (N, H, W).
        metadata: what the ``MLmodel`` file says beside the flavors.
    """
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
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, CLASSES))])
    described = Model(signature=ModelSignature(inputs, outputs), metadata=metadata)
    _save_example(described, example, folder)
    described.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    described.add_flavor("onnx", data=ONNX_FILE, onnx_version=version("onnx"), providers=[_PROVIDER])
    mlflow.pyfunc.add_to_model(
        described, loader_module="mlflow.keras", conda_env="conda.yaml", python_env="python_env.yaml"
    )
    described.save(str(folder / "MLmodel"))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in found}


def _save_example(described: Model, example: NDArray[np.uint8], folder: Path) -> None:
    saved = _Example(example)
    saved.save(str(folder))
    described.saved_input_example_info = saved.info


def _write_yaml(path: Path, content: object) -> None:
    with path.open("w") as file:
        YAML().dump(content, file)
