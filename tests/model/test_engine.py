"""The engine is what the project chose, whatever the environment and the files of Keras say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lenet5.core.errors import UsageError
from lenet5.model import engine

pytestmark = pytest.mark.slow  # `make test-fast` hides TensorFlow


@pytest.mark.integration
def test_neither_variables_nor_a_file_of_keras_change_its_configuration(tmp_path: Path) -> None:
    content = {"floatx": "float64", "epsilon": 1e-3, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(content))
    script = (
        "from lenet5.model import engine\n"
        "with engine.lean_keras(): import keras\n"
        "from lenet5.model import backend\n"
        "names = 'floatx', 'epsilon', 'image_data_format', 'max_epochs', 'max_steps_per_epoch'\n"
        "def show(): print(*(getattr(keras.config, name)() for name in names))\n"
        "show(); backend.configure(1); show()"
    )
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"KERAS_HOME": str(tmp_path), **limits},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = done.stdout.splitlines()
    assert before == "float64 0.001 channels_first 1 2", "Keras reads them"
    assert after == "float32 1e-07 channels_last None None"


@pytest.mark.parametrize("name", ["torch", "openvino", "no-backend"])
def test_a_backend_that_cannot_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(UsageError, match="KERAS_BACKEND names") as refused:
        engine.backend_name()
    assert f"KERAS_BACKEND={name}" in str(refused.value)


def test_without_a_choice_it_is_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert engine.backend_name() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert engine.backend_name() == "jax"
