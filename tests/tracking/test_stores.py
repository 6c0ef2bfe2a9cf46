"""The operations that the project needs, on both stores: SQLite in a file, and a server on PostgreSQL."""

import psycopg
import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.tracking import runs, store

TRAINING = "a" * 64


def record(client: MlflowClient, paths: Paths, name: str) -> model_versions.Version:
    """Log a run of two epochs and register its model as champion."""
    with runs.training_run(paths, TRAINING, {"epochs": 2}) as on_epoch:
        for epoch in (1, 2):
            on_epoch(epoch, {"loss": 1 / epoch})
    [run] = client.search_runs([store.experiment(client, paths)])
    model = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
    (paths.root / "model").mkdir()
    (paths.root / "model/weights").write_text("some")
    client.log_model_artifacts(model.model_id, str(paths.root / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    version, is_new = model_versions.register(
        client, name, run_id=run.info.run_id, model_id=model.model_id, tags={"some": "tag"}, description=""
    )
    assert is_new
    model_versions.set_alias(client, name, model_versions.CHAMPION, version.number)
    return version


def test_run_epochs_version_and_alias_are_read_back(
    any_client: MlflowClient, any_paths: Paths, model_name: str
) -> None:
    version = record(any_client, any_paths, model_name)
    run = any_client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.epochs": "2"}
    losses = any_client.get_metric_history(version.run_id, "train.loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 1.0), (2, 0.5)]
    [read_back] = model_versions.versions(any_client, model_name)
    assert (read_back.number, read_back.run_id, read_back.aliases) == (1, version.run_id, ("champion",))
    assert read_back.tags["some"] == "tag"


@pytest.mark.parametrize("any_paths", ["server"], indirect=True)
def test_server_stores_its_data_in_postgresql(
    any_client: MlflowClient, any_paths: Paths, model_name: str, mlflow_database: str
) -> None:
    version = record(any_client, any_paths, model_name)
    with psycopg.connect(mlflow_database.replace("+psycopg", "")) as database:
        rows = database.execute(
            "SELECT v.version, v.run_id, a.alias FROM model_versions v"
            " JOIN registered_model_aliases a USING (name, version) WHERE name = %s",
            [model_name],
        ).fetchall()
        assert rows == [(1, version.run_id, "champion")]
        epochs = database.execute(
            "SELECT step, value FROM metrics WHERE run_uuid = %s AND key = 'train.loss' ORDER BY step",
            [version.run_id],
        ).fetchall()
    assert epochs == [(1, 1.0), (2, 0.5)]
