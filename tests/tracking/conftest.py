"""A real store in a temporary folder."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5 import settings
from lenet5.paths import Paths
from lenet5.tracking import store


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout whose store is the embedded one."""
    for name, value in settings.embedded(Paths(tmp_path)).items():
        monkeypatch.setenv(name, value)
    return Paths(tmp_path)


@pytest.fixture
def client(paths: Paths) -> MlflowClient:
    return store.connect(paths)
