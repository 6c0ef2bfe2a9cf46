"""Versions, aliases and files, in a real store."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.tracking import store, tags
from tests.registry.factory import add


def test_versions_are_listed_newest_first_with_their_aliases(
    any_client: MlflowClient, any_paths: Paths, model_name: str
) -> None:
    for _ in range(3):
        add(any_client, any_paths, model_name)
    found = model_versions.versions(any_client, model_name)
    assert [(v.number, v.aliases) for v in found] == [(3, ("challenger",)), (2, ()), (1, ())]
    assert model_versions.aliases(any_client, model_name) == {"challenger": 3}


def test_a_version_is_found_by_number_and_by_alias(
    client: MlflowClient, paths: Paths, model_name: str
) -> None:
    add(client, paths, model_name)
    for wanted in ("1", "challenger", "@challenger"):
        assert model_versions.find(client, model_name, wanted).number == 1
    with pytest.raises(UsageError, match=r"has no version '@champion'(.|\n)*an alias \(@challenger\)"):
        model_versions.find(client, model_name, "@champion")


def test_a_version_knows_who_was_champion_when_it_was_made(
    client: MlflowClient, paths: Paths, model_name: str
) -> None:
    first = add(client, paths, model_name)
    model_versions.set_alias(client, model_name, model_versions.CHAMPION, 1)
    add(client, paths, model_name)
    assert tags.PARENT not in first.tags
    assert model_versions.find(client, model_name, "2").tags[tags.PARENT] == "1"


def test_an_alias_is_given_and_taken(any_client: MlflowClient, any_paths: Paths, model_name: str) -> None:
    add(any_client, any_paths, model_name)
    model_versions.set_alias(any_client, model_name, "staging", 1)
    assert model_versions.aliases(any_client, model_name)["staging"] == 1
    model_versions.set_alias(any_client, model_name, "staging", None)
    assert "staging" not in model_versions.aliases(any_client, model_name)


def test_files_are_fetched_and_compared(
    any_client: MlflowClient, any_paths: Paths, model_name: str, tmp_path: Path
) -> None:
    version = add(any_client, any_paths, model_name)
    assert model_versions.download(any_client, version, tmp_path / "model").read_text() == version.run_id
    predictions = model_versions.artifact(
        any_client, version, "results/predictions.parquet", tmp_path / "file"
    )
    assert predictions.read_bytes().startswith(b"PAR1")
    onnx = model_versions.download_onnx(any_client, version, tmp_path / "onnx")
    assert onnx.read_text() == f"{version.run_id} for others"
    model_versions.verify(any_client, version)
    assert model_versions.patch(any_client, version, tmp_path / "patch") is None


def test_a_file_that_was_never_logged_cannot_be_trusted(
    client: MlflowClient, paths: Paths, model_name: str, tmp_path: Path
) -> None:
    version = add(client, paths, model_name)
    with pytest.raises(DataError, match=r"code/params.yaml of .* cannot be trusted(.|\n)*found:    none"):
        model_versions.artifact(client, version, "code/params.yaml", tmp_path)
    client.delete_model_version_tag(model_name, "1", "lenet5.model_folder")
    with pytest.raises(DataError, match="ONNX file of .* cannot be trusted"):
        model_versions.download_onnx(client, model_versions.find(client, model_name, "1"), tmp_path)
    with pytest.raises(DataError, match="model folder of .* cannot be trusted"):
        model_versions.verify(client, model_versions.find(client, model_name, "1"))


def test_a_file_that_is_gone_is_told_as_such_and_not_as_an_outage(
    any_client: MlflowClient, any_paths: Paths, model_name: str, tmp_path: Path
) -> None:
    gone = {"code/gone.txt": "f" * 64}
    files = {tags.ARTIFACTS: json.dumps(gone), tags.MODEL_FOLDER: json.dumps(gone)}
    version = add(any_client, any_paths, model_name, tags=files)
    with store.reachable(any_paths), pytest.raises(DataError, match=r"code/gone.txt(.|\n)*found:    none"):
        model_versions.artifact(any_client, version, "code/gone.txt", tmp_path)
    with store.reachable(any_paths), pytest.raises(DataError, match=r"model folder(.|\n)*code/gone.txt"):
        model_versions.verify(any_client, version)
