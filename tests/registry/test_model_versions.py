"""Versions, aliases and files in real stores."""

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
    versions = model_versions.versions(any_client, model_name)
    assert [(v.number, v.aliases) for v in versions] == [(3, ("challenger",)), (2, ()), (1, ())]
    assert model_versions.aliases(any_client, model_name) == {"challenger": 3}


def test_version_is_found_by_number_and_by_alias(client: MlflowClient, paths: Paths, model_name: str) -> None:
    add(client, paths, model_name)
    for wanted in ("1", "challenger", "@challenger"):
        assert model_versions.find(client, model_name, wanted).number == 1
    with pytest.raises(UsageError, match=r"has no version '@champion'(.|\n)*an alias \(@challenger\)"):
        model_versions.find(client, model_name, "@champion")


def test_version_names_its_parent_champion(client: MlflowClient, paths: Paths, model_name: str) -> None:
    first = add(client, paths, model_name)
    model_versions.set_alias(client, model_name, model_versions.CHAMPION, 1)
    add(client, paths, model_name)
    assert tags.PARENT not in first.tags
    assert model_versions.find(client, model_name, "2").tags[tags.PARENT] == "1"


def test_alias_is_set_and_removed(any_client: MlflowClient, any_paths: Paths, model_name: str) -> None:
    add(any_client, any_paths, model_name)
    model_versions.set_alias(any_client, model_name, "staging", 1)
    assert model_versions.aliases(any_client, model_name)["staging"] == 1
    model_versions.set_alias(any_client, model_name, "staging", None)
    assert "staging" not in model_versions.aliases(any_client, model_name)


def test_files_are_downloaded_and_verified(
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


def test_file_without_a_digest_is_an_error(
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


def test_missing_file_is_reported_as_missing_and_not_as_a_failed_connection(
    any_client: MlflowClient, any_paths: Paths, model_name: str, tmp_path: Path
) -> None:
    digests = json.dumps({"code/gone.txt": "f" * 64})
    extra_tags = {tags.ARTIFACTS: digests, tags.MODEL_FOLDER: digests}
    version = add(any_client, any_paths, model_name, extra_tags=extra_tags)
    with store.reachable(any_paths), pytest.raises(DataError, match=r"code/gone.txt(.|\n)*found:    none"):
        model_versions.artifact(any_client, version, "code/gone.txt", tmp_path)
    with store.reachable(any_paths), pytest.raises(DataError, match=r"model folder(.|\n)*code/gone.txt"):
        model_versions.verify(any_client, version)
