"""Real stores: an embedded one in a temporary folder, and a server on PostgreSQL."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import store


@pytest.fixture
def bare_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout whose embedded store does not exist yet."""
    for name, value in settings.embedded(Paths(tmp_path)).items():
        monkeypatch.setenv(name, value)
    return Paths(tmp_path)


@pytest.fixture
def paths(bare_paths: Paths, empty_database: Path) -> Paths:
    """A checkout with an empty embedded store."""
    folder = LocalState(bare_paths.root).mlflow
    folder.mkdir(parents=True)
    shutil.copyfile(empty_database, folder / empty_database.name)
    return bare_paths


@pytest.fixture
def client(paths: Paths) -> MlflowClient:
    return store.connect(paths)


ON_SERVER = [pytest.mark.integration, pytest.mark.xdist_group("servers")]
SERVER = pytest.param("server", marks=ON_SERVER)
long_on_server = pytest.mark.parametrize(
    "any_paths", ["sqlite", pytest.param("server", marks=[*ON_SERVER, pytest.mark.long])], indirect=True
)
"""For a test that takes a minute or more with a server."""


@pytest.fixture(params=["sqlite", SERVER])
def any_paths(request: pytest.FixtureRequest, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout with an empty embedded store; then a checkout that uses a server on PostgreSQL.

    All tests share the server. Each test has its own experiment, and must use ``model_name`` for its model.
    """
    if request.param == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"test-{uuid4().hex}")
    return paths


@pytest.fixture
def any_client(any_paths: Paths) -> MlflowClient:
    return store.connect(any_paths)


@pytest.fixture
def model_name() -> str:
    """A name that no other test uses."""
    return f"digits-{uuid4().hex}"
