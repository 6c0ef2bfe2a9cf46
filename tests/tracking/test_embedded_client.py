"""The client of the embedded store: it answers what MLflow's client answers, or leaves the answer to it."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import embedded_client, runs, store
from lenet5.tracking.embedded_client import EmbeddedClient, NeedsMlflowError

TRAINING = "a" * 64
NAME = "digits"


@pytest.fixture(scope="session")
def filled_database(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The database of a store with versions, aliases, runs and what is deleted. Tests work in copies."""
    paths = Paths(tmp_path_factory.mktemp("filled"))
    database = LocalState(paths.root).mlflow_database
    database.parent.mkdir(parents=True)
    shutil.copyfile(empty_database, database)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        for name, value in settings.embedded(paths).items():
            environment.setenv(name, value)
        _fill(paths)
    return database


def _fill(paths: Paths) -> None:
    store.connect(paths)
    client = MlflowClient(settings.load(paths).mlflow_tracking_uri)
    client.create_registered_model(NAME)
    client.create_registered_model(f"{NAME}.history")
    for number in range(1, 5):
        with runs.training_run(paths, TRAINING if number < 4 else "b" * 64, {"epochs": number}) as on_epoch:
            on_epoch(1, {"loss": 1.0})
        [run, *_] = client.search_runs(["1"], order_by=["start_time DESC"])
        client.set_tag(run.info.run_id, "note of run", f"ünïcode 'quoted' {number}\n")
        for name in (NAME, f"{NAME}.history"):
            client.create_model_version(name, f"file:///m{number}", run.info.run_id, tags={"a": f"{number}"})
    client.create_model_version(NAME, "file:///m", tags={})
    client.delete_model_version(NAME, "2")
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_registered_model_alias(NAME, "challenger", "3")
    client.set_model_version_tag(NAME, "1", "empty", "")
    client.delete_run(client.search_runs(["1"])[-1].info.run_id)


@pytest.fixture
def mlflow(paths: Paths, filled_database: Path) -> MlflowClient:
    """MLflow's own client of a copy of ``filled_database``."""
    shutil.copyfile(filled_database, LocalState(paths.root).mlflow_database)
    return MlflowClient(settings.load(paths).mlflow_tracking_uri)


def reader(paths: Paths) -> EmbeddedClient:
    return EmbeddedClient(LocalState(paths.root).mlflow_database, make=None)


def change(paths: Paths, statement: str) -> None:
    with closing(sqlite3.connect(LocalState(paths.root).mlflow_database)) as database, database:
        database.execute(statement)


def test_reads_are_those_of_mlflows_client(paths: Paths, mlflow: MlflowClient) -> None:
    fast = reader(paths)
    for name in (NAME, f"{NAME}.history", "%", f"{NAME}' OR 1=1 --"):
        expected = [] if "'" in name else model_versions.search(mlflow, name)
        assert fast.read_versions(name) == expected
        assert fast.read_aliases(name) == ({} if "'" in name else model_versions.aliases(mlflow, name))
    assert {version.version for version in fast.read_versions(NAME) or ()} == {1, 3, 4, 5}
    assert fast.read_aliases(NAME) == {"champion": 1, "challenger": 3}

    experiment = mlflow.get_experiment_by_name(store.DEFAULT_EXPERIMENT)
    assert experiment is not None
    assert fast.read_experiment(store.DEFAULT_EXPERIMENT) == experiment.experiment_id
    found = fast.read_runs(experiment.experiment_id, "lenet5.training", TRAINING)
    expected_runs = mlflow.search_runs(
        [experiment.experiment_id], f"tags.`lenet5.training` = '{TRAINING}'", order_by=["start_time DESC"]
    )
    assert found
    assert [(run.info.run_id, run.info.run_name, run.info.experiment_id) for run in found] == [
        (run.info.run_id, run.info.run_name, run.info.experiment_id) for run in expected_runs
    ]
    for run, expected_run in zip(found, expected_runs, strict=True):
        assert run.data.tags == expected_run.data.tags
        assert run.data.params == expected_run.data.params


def test_each_read_sees_what_was_written_before(paths: Paths, mlflow: MlflowClient) -> None:
    connected = store.connect(paths)
    assert isinstance(connected, EmbeddedClient)
    for number in (3, 1, 4):
        model_versions.set_alias(connected, NAME, "champion", number)
        assert model_versions.aliases(connected, NAME)["champion"] == number
        assert model_versions.aliases(mlflow, NAME)["champion"] == number
    assert model_versions.versions(connected, NAME) == model_versions.versions(mlflow, NAME)


def test_the_known_schema_is_that_of_the_installed_mlflow(paths: Paths) -> None:
    store.connect(paths)
    with closing(sqlite3.connect(LocalState(paths.root).mlflow_database)) as database:
        [(schema,)] = database.execute("SELECT version_num FROM alembic_version")
    assert embedded_client.SCHEMAS[version_of("mlflow")] == schema, "check the queries, then add the schema"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = 'f00d00000000'",
        "INSERT INTO alembic_version VALUES ('f00d00000000')",
        "DELETE FROM alembic_version",
        "ALTER TABLE model_version_tags RENAME COLUMN value TO text",
    ],
)
def test_other_tables_are_left_to_mlflows_client(paths: Paths, mlflow: MlflowClient, statement: str) -> None:
    fast = reader(paths)
    assert fast.read_versions(NAME)
    change(paths, statement)
    assert fast.read_versions(NAME) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1"), ("MLFLOW_WORKSPACE", "team")],
)
def test_another_registry_is_left_to_mlflows_client(
    paths: Paths, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert not reader(paths).can_read()
    assert store.connect_read_only(paths) is None


def test_another_version_of_mlflow_reads_for_itself(
    paths: Paths, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_client, "SCHEMAS", {"3.0.0": "dc11669786a5"})  # pragma: allowlist secret
    assert not reader(paths).can_read()
    assert not isinstance(store.connect(paths), EmbeddedClient)
    assert len(model_versions.versions(store.connect(paths), NAME)) == 4


def test_another_store_has_no_client_that_only_reads(
    paths: Paths, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.connect_read_only(paths)
    uri = f"{settings.embedded(paths)['MLFLOW_TRACKING_URI']}.other"
    for address in (uri, "http://127.0.0.1:1"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert store.connect_read_only(paths) is None


def test_a_missing_or_locked_or_damaged_file_is_left_to_mlflows_client(
    paths: Paths, mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "mlflow.db"
    assert EmbeddedClient(missing, make=None).read_versions(NAME) is None
    assert not missing.exists()
    missing.write_bytes(b"no database" * 100)
    assert EmbeddedClient(missing, make=None).read_versions(NAME) is None

    monkeypatch.setattr(embedded_client, "LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(LocalState(paths.root).mlflow_database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert reader(paths).read_versions(NAME) is None
    assert reader(paths).read_versions(NAME)


def test_a_deleted_experiment_is_left_to_mlflows_client(paths: Paths, mlflow: MlflowClient) -> None:
    mlflow.delete_experiment("1")
    assert reader(paths).read_experiment(store.DEFAULT_EXPERIMENT) is None


def test_a_client_that_only_reads_refuses_to_write(paths: Paths, mlflow: MlflowClient) -> None:
    fast = store.connect_read_only(paths)
    assert fast
    assert model_versions.aliases(fast, NAME)["champion"] == 1
    with pytest.raises(NeedsMlflowError):
        model_versions.set_alias(fast, NAME, "champion", 3)
    with pytest.raises(NeedsMlflowError), store.reachable(paths):
        model_versions.create(fast, "another", "")
    assert model_versions.aliases(mlflow, NAME)["champion"] == 1


def test_reading_imports_no_mlflow(paths: Paths, mlflow: MlflowClient) -> None:
    script = (
        "import sys, pathlib\n"
        "from lenet5.core.paths import Paths\n"
        "from lenet5.registry import model_versions\n"
        "from lenet5.tracking import store\n"
        "paths = Paths(pathlib.Path(sys.argv[1]))\n"
        "with store.reachable(paths):\n"
        f"    print(len(model_versions.versions(store.connect(paths), {NAME!r})))\n"
        "print(sorted({'mlflow', 'sqlalchemy', 'pandas'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(paths.root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["4", "[]"]
