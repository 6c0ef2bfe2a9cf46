"""Bills of materials follow the schema of CycloneDX, are complete and are reproducible."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from mlflow import MlflowClient
from rfc3986_validator import validate_rfc3986  # type: ignore[import-untyped]

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.registry import bom, model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.params import load
from lenet5.tracking import tags
from lenet5.tracking.data_set import DataSet
from tests.conftest import REPOSITORY
from tests.data_sets import MNIST, SHOES
from tests.registry.factory import add

REQUIREMENTS = REPOSITORY / "requirements.lock"
LOCK = REQUIREMENTS.read_text()
PACKAGES = bom.packages(LOCK)
PARAMS = load(REPOSITORY / "params.yaml").flat()
TRAINED_WITH = {f"{tags.ENVIRONMENT}requirements": files.sha256(REQUIREMENTS)}
VERSION = Version(
    name="lenet5-mnist",
    number=7,
    aliases=("challenger",),
    created=datetime(2026, 1, 1, tzinfo=UTC),
    run_id="1" * 32,
    tags={
        **{name: value for name, value in PARAMS.items() if name.startswith(tags.PINS)},
        **TRAINED_WITH,
        tags.COMMIT: "c" * 40,
        tags.PATCH: "e" * 64,
        tags.RAW_DATA: "a" * 64,
        tags.PROCESSED_DATA: "b" * 64,
        tags.TEST_DATA: "d" * 64,
        tags.MODEL_FILE: "f" * 64,
        tags.MODEL_FOLDER: json.dumps({tags.KERAS_FILE: "f" * 64, tags.ONNX_FILE: "0" * 64}),
        tags.WEIGHTS: "9" * 64,
        "evaluate.accuracy": "0.9912",
        "machine.host": "laptop",
    },
)


@Draft7Validator.FORMAT_CHECKER.checks("iri-reference")  # type: ignore[untyped-decorator]
def is_reference(value: object) -> bool:
    """Whether an address of the schema is one in ASCII. jsonschema's own check takes 1.6 s to import."""
    return not isinstance(value, str) or bool(validate_rfc3986(value, rule="URI_reference"))


def model(source: str = "data/mnist", data: DataSet = MNIST) -> dict[str, Any]:
    return dict(json.loads(bom.model(VERSION, {**PARAMS, "ingest.source": source}, LOCK, data)))


def packages() -> dict[str, Any]:
    return dict(json.loads(PACKAGES))


def references(tree: object, key: str) -> Iterator[str]:
    """Every value of a key, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key and isinstance(value, str):
                yield value
            yield from references(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from references(value, key)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PACKAGES, marks=pytest.mark.slow),
        bom.model(VERSION, PARAMS, LOCK, MNIST),
        bom.model(replace(VERSION, tags={}), {"ingest.source": "s3://bucket/some digits"}, LOCK, MNIST),
    ],
    ids=["packages", "model", "model-of-an-early-release"],
)
def test_files_follow_the_schema(text: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    problem = validator.validate_str(text)
    assert problem is None, problem
    broken = json.loads(text)
    broken["components"] = [broken["components"][0] | {"type": "gadget"}]
    assert validator.validate_str(json.dumps(broken)) is not None


def test_the_schema_refuses_an_address_with_a_space_and_a_time_without_a_zone() -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    reference = {"type": "website", "url": "https://example.invalid/some digits"}
    assert validator.validate_str(json.dumps(model() | {"externalReferences": [reference]})) is not None
    broken = model()
    broken["metadata"]["timestamp"] = "2026-01-01 00:00"
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("document", [packages(), model()], ids=["packages", "model"])
def test_every_dependency_is_a_component_of_the_document(document: dict[str, Any]) -> None:
    known = list(references(document, "bom-ref"))
    assert len(known) == len(set(known))
    depends = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert set(depends) == set(known)
    assert {name for on in depends.values() for name in on} | {
        document["metadata"]["component"]["bom-ref"]
    } == set(known)


def test_packages_are_those_of_the_lock_for_all_platforms_with_their_hashes() -> None:
    found = {
        f"{each['name']}=={each['version']}": {
            hashed["content"] for file in each["externalReferences"] for hashed in file["hashes"]
        }
        for each in packages()["components"]
    }
    pinned = {line.split()[0] for line in LOCK.splitlines() if line[:1].isalnum()}
    assert set(found) == pinned
    assert sum(map(len, found.values())) == LOCK.count("--hash=sha256:")
    assert any(each.get("properties") for each in packages()["components"])  # only for some platforms


def test_model_names_files_data_parameters_metrics_and_code() -> None:
    document = model()
    this = document["metadata"]["component"]
    assert (this["type"], this["name"], this["version"]) == ("machine-learning-model", "lenet5-mnist", "7")
    assert this["hashes"] == [{"alg": "SHA-256", "content": "f" * 64}]
    assert {each["name"]: each["hashes"][0]["content"] for each in this["components"]} == {
        tags.KERAS_FILE: "f" * 64,
        tags.ONNX_FILE: "0" * 64,
    }
    assert this["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    card = this["modelCard"]
    parameters = {each["name"]: each["value"] for each in card["properties"]}
    assert parameters["train.learning_rate"] == str(PARAMS["train.learning_rate"])
    [accuracy] = card["quantitativeAnalysis"]["performanceMetrics"]
    assert (accuracy["type"], accuracy["value"]) == ("accuracy", "0.9912")
    components = {each["bom-ref"]: each for each in document["components"]}
    assert components["lenet5"]["pedigree"]["commits"] == [{"uid": "c" * 40}]
    assert {"name": tags.PATCH, "value": "e" * 64} in components["lenet5"]["properties"]
    digests = {name: each["hashes"][0]["content"] for name, each in components.items() if each.get("hashes")}
    sources = {f"data:{key}": PARAMS[f"{tags.PINS}{key}"] for key in ("train_images", "test_labels")}
    assert digests.items() >= {"data:raw": "a" * 64, "data:processed": "b" * 64, **sources}.items()
    assert components["data:raw"]["licenses"] == [{"license": {"id": "CC-BY-SA-3.0"}}]
    [link] = this["externalReferences"]
    assert link["url"] == packages()["serialNumber"].replace("urn:uuid:", "urn:cdx:") + "/1"


def test_licence_of_other_data_is_not_claimed() -> None:
    document = model("https://me:hidden@digits.example/mnist", SHOES)
    assert "licenses" not in next(each for each in document["components"] if each["bom-ref"] == "data:raw")
    assert "hidden" not in json.dumps(document)
    shown = json.dumps(document["metadata"]["component"])
    assert "photos of shoes" in shown
    assert "uint8 (N, 16, 16, 3), RGB" in shown
    assert "float32 (N, 3)" in shown
    assert not re.search("digit|MNIST", shown.replace("lenet5-mnist", ""))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": {"id": "CC-BY-4.0"}}),
        ("MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
        ("our own terms", {"license": {"name": "our own terms"}}),
    ],
)
def test_licence_of_the_data_is_that_of_the_card(licence: str, expected: dict[str, Any]) -> None:
    data = replace(SHOES, card=SHOES.card.model_copy(update={"licence": licence}))
    text = bom.model(VERSION, PARAMS, LOCK, data)
    raw = next(each for each in json.loads(text)["components"] if each["bom-ref"] == "data:raw")
    assert raw["licenses"] == [expected]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_addition_is_a_source_of_its_own() -> None:
    params = {**PARAMS, "ingest.additions": [{"source": "s3://bucket/collected"}]}
    version = replace(VERSION, tags={**VERSION.tags, f"{tags.ADDITION}1.images": "7" * 64})
    document = json.loads(bom.model(version, params, LOCK, MNIST))
    components = {each["bom-ref"]: each for each in document["components"]}
    [content] = components["data:addition_1.images"]["data"]
    assert content["contents"]["url"] == "s3://bucket/collected"
    assert components["data:addition_1.images"]["hashes"][0]["content"] == "7" * 64


def test_equal_versions_have_equal_bytes_whoever_made_them() -> None:
    text = bom.model(VERSION, PARAMS, LOCK, MNIST)
    elsewhere = replace(
        VERSION,
        aliases=("champion",),
        created=datetime(2027, 1, 1, tzinfo=UTC),
        run_id="2" * 32,
        tags={
            **dict(reversed(list(VERSION.tags.items()))),
            "machine.host": "server",
            tags.FLOW_RUN: "another",
        },
    )
    assert bom.model(elsewhere, dict(reversed(PARAMS.items())), LOCK, MNIST) == text
    other = bom.model(replace(VERSION, tags={**VERSION.tags, tags.WEIGHTS: "8" * 64}), PARAMS, LOCK, MNIST)
    assert json.loads(other)["serialNumber"] != json.loads(text)["serialNumber"]


def test_artifacts_are_logged_once_and_verified(client: MlflowClient, paths: Paths, model_name: str) -> None:
    version = add(client, paths, model_name, extra_tags=TRAINED_WITH)
    bom.attach(client, version, PARAMS, REQUIREMENTS, MNIST)
    version = model_versions.find(client, model_name, "1")
    assert model_versions.artifacts(version).keys() >= {bom.MODEL, bom.PACKAGES, model_versions.PREDICTIONS}
    assert client.get_run(version.run_id).data.tags[tags.ARTIFACTS] == version.tags[tags.ARTIFACTS]
    assert bom.read(paths, model_name, "@challenger", bom.PACKAGES) == PACKAGES
    assert bom.read(paths, model_name, "1", bom.MODEL) == bom.model(version, PARAMS, LOCK, MNIST)
    [file] = paths.root.rglob(bom.MODEL)
    file.write_text(file.read_text().replace("CC-BY-SA-3.0", "MIT"))
    bom.attach(client, version, PARAMS, REQUIREMENTS, MNIST)
    assert "MIT" in file.read_text(), "it is logged already, so it is not logged again"
    with pytest.raises(DataError, match="is not the one that was registered"):
        bom.read(paths, model_name, "1", bom.MODEL)


def test_another_lock_than_that_of_the_training_is_not_described(
    client: MlflowClient, paths: Paths, model_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = add(client, paths, model_name, extra_tags=TRAINED_WITH)
    other = tmp_path / "requirements.lock"
    other.write_text(LOCK.replace("absl-py==", "absl-py==0."))
    with caplog.at_level(logging.WARNING, logger="lenet5"):
        bom.attach(client, version, PARAMS, other, MNIST)
    assert "requirements.lock is not the one that the model was trained with" in caplog.text
    with pytest.raises(DataError, match=r"has no bill of materials(.|\n)*fix:      `lenet5 register`"):
        bom.read(paths, model_name, "1", bom.MODEL)
