"""Real stores for the tests of the registry: an embedded one, and the server of ``tests/tracking``."""

from pathlib import Path

import pytest

from lenet5.core.paths import Paths
from lenet5.system import settings
from tests.registry.embedded_store import EmbeddedStore
from tests.tracking.conftest import any_client, any_paths, client, model_name

__all__ = ["any_client", "any_paths", "client", "model_name"]


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> EmbeddedStore:
    """The embedded store that all tests of this process share."""
    return EmbeddedStore(tmp_path_factory.mktemp("registry"), empty_database)


@pytest.fixture
def paths(embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout with an empty embedded store."""
    for name, value in settings.embedded(embedded_store.paths).items():
        monkeypatch.setenv(name, value)
    embedded_store.clear()
    return embedded_store.paths
