"""Equal models give equal ``.keras`` bytes, loading runs no code, and errors describe the damage."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from lenet5.core.errors import DataError
from lenet5.model import backend, keras_file, onnx_export
from lenet5.model.network import build, with_preprocessing

backend.configure(1)  # the stages do the same; this must come before the first operation of the process

SAVE = """
import sys
from pathlib import Path
from lenet5.model import engine
with engine.lean_keras():
    import keras
    from lenet5.model import keras_file, onnx_export
    from lenet5.model.network import build, with_preprocessing
noise = [object() for _ in range(10_000)]  # changes the memory addresses
keras.utils.set_random_seed(3)
build(28, 28, 5, classes=10)  # changes the counters in automatic names
keras.utils.set_random_seed(3)
model = with_preprocessing(build(28, 28, 3, classes=10), 0)
keras_file.save(model, Path(sys.argv[1]))
Path(f"{sys.argv[1]}.onnx").write_bytes(onnx_export.export(model))
"""


def lenet(seed: int = 3) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    return with_preprocessing(build(28, 28, 3, classes=10), padding=0)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the saved model."""
    path = tmp_path_factory.mktemp("saved") / "lenet5.keras"
    keras_file.save(lenet(), path)
    return path.read_bytes()


@pytest.fixture
def saved(tmp_path: Path, content: bytes) -> Path:
    """A file of the saved model, which a test may change."""
    path = tmp_path / "models" / "lenet5.keras"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.mark.integration
def test_same_model_gives_the_same_bytes_in_any_process(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere"
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"  # another one than in this process
    writer = subprocess.run(
        [sys.executable, "-c", SAVE, str(path)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert writer.returncode == 0, writer.stderr
    assert saved.read_bytes() == path.read_bytes()
    assert onnx_export.export(lenet()) == path.with_suffix(".onnx").read_bytes()


def test_same_model_gives_the_same_bytes_twice_in_one_process(saved: Path, tmp_path: Path) -> None:
    keras_file.save(lenet(), tmp_path / "again.keras")
    assert (tmp_path / "again.keras").read_bytes() == saved.read_bytes()


def test_loaded_model_saves_to_the_same_weights(saved: Path) -> None:
    loaded = keras_file.load(saved)
    assert keras_file.weights_digest(loaded) == keras_file.weights_digest(lenet())
    pixels = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    np.testing.assert_array_equal(loaded.predict_on_batch(pixels), lenet().predict_on_batch(pixels))


def test_weights_digest_changes_with_one_weight_of_any_layer() -> None:
    model = lenet()
    digests = {keras_file.weights_digest(model)}
    for variable in model.weights:
        value = variable.numpy()
        value.flat[-1] += 1e-3
        variable.assign(value)
        digests.add(keras_file.weights_digest(model))
    assert len(digests) == len(model.weights) + 1
    assert keras_file.weights_digest(lenet(seed=4)) not in digests


def test_file_holds_no_time_and_no_memory_address(saved: Path) -> None:
    with zipfile.ZipFile(saved) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b'"date_saved": "1980-01-01@00:00:00"' in file.read("metadata.json")
        shared = re.findall(rb'"shared_object_id": (\d+)', file.read("config.json"))
    assert max(map(int, shared), default=0) < 1000


def test_layer_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ran = tmp_path / "evil.keras", tmp_path / "ran"
    monkeypatch.setenv("RAN", str(ran))
    # Keras stores only the code of the function, so it cannot use names of this module
    code = keras.layers.Lambda(
        lambda pixels: __import__("os").makedirs(__import__("os").environ["RAN"], exist_ok=True) or pixels
    )
    keras.Sequential([keras.Input((28, 28)), code]).save(path)
    ran.rmdir()  # building the model ran the code once

    def run(model: keras.Model) -> None:
        model.predict_on_batch(np.zeros((1, 28, 28)))

    with pytest.raises(DataError, match=r"evil\.keras cannot be loaded"):
        run(keras_file.load(path))
    assert not ran.exists()
    run(keras.saving.load_model(path, safe_mode=False))
    assert ran.exists()  # this shows that the file does run code without safe mode


def test_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found: +no such file"):
        keras_file.load(tmp_path / "lenet5.keras")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file_is_reported_as_damaged(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"found: +a damaged file"):
        keras_file.load(saved)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_flipped_byte_is_refused(saved: Path, place: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(place * len(content))] ^= 1
    saved.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        keras_file.load(saved)


def test_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no model")
    with pytest.raises(DataError, match=r"config\.json"):
        keras_file.load(path)


def test_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    model = lenet(seed=4)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", disk_full)
    with pytest.raises(OSError, match="No space"):
        keras_file.save(model, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
