"""Save and load ``.keras`` files: equal models give equal bytes, and loading never runs code."""

import hashlib
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5.core import files
from lenet5.core.errors import DataError

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a ZIP can hold


def save(model: "keras.Model", target: Path) -> None:
    """Save a model atomically, so that equal weights and layers give equal bytes.

    Keras writes times into the directory of the archive and into ``metadata.json``, and memory addresses into
    ``config.json``, where they identify shared objects. This function replaces the times by a constant and
    the addresses by numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"
        model.save(saved)
        with (
            files.replacing(target) as partial,
            zipfile.ZipFile(saved) as old,
            zipfile.ZipFile(partial, "w") as new,
        ):
            for name in sorted(old.namelist()):
                content = old.read(name)
                if name == "metadata.json":
                    content = _dump(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"})
                elif name == "config.json":
                    content = _dump(_number_shared_objects(json.loads(content), {}))
                new.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _number_shared_objects(config: Any, numbers: dict[int, int]) -> Any:
    if isinstance(config, list):
        return [_number_shared_objects(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(value, len(numbers) + 1)
        if key == "shared_object_id"
        else _number_shared_objects(value, numbers)
        for key, value in config.items()
    }


def load(path: Path) -> "keras.Model":
    """Load a model for inference in Keras' safe mode, which rejects pickles and lambdas.

    Raises:
        DataError: the file is missing or damaged, or safe mode rejects it.
    """
    # Keras reports "file not found" for a truncated file as well
    if not zipfile.is_zipfile(files.regular(path)):
        raise _unusable(path, "a damaged file" if path.exists() else "no such file")
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # the readers of the archive raise many kinds when it is damaged
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _unusable(path, lines[0]) from None


def _unusable(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} cannot be loaded as a model.",
        expected="a .keras file written by `lenet5 train`",
        found=found,
        fix="`dvc repro train` writes it again",
    )


def weights(model: "keras.Model") -> "dict[str, NDArray[np.float32]]":
    """Return the weights by ``layer/variable``, in the order of the layers."""
    return {
        f"{layer.name}/{variable.name}": variable.numpy()
        for layer in model.layers
        for variable in layer.weights
    }


def weights_digest(model: "keras.Model") -> str:
    """Return the SHA-256 over the weights, sorted by layer and name; it is independent of the file format."""
    total = hashlib.sha256()
    for name, array in sorted(weights(model).items()):
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
