"""Bills of materials of a version in CycloneDX 1.6: the locked packages (SBOM) and the model (ML-BOM).

They hold no clock and no random number: a serial number is derived from the content, so equal contents give
equal bytes. The objects are written as plain dictionaries, because the Python library of CycloneDX has no
classes for model cards and would be one more package of the pipeline. A test validates the files against the
schema.
"""

import hashlib
import json
import logging
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.tracking import store, tags
from lenet5.tracking.data_set import DataSet, spdx
from lenet5.tracking.embedded_client import Client

log = logging.getLogger(__name__)

FOLDER = "bom"
MODEL = f"{FOLDER}/model.cdx.json"
PACKAGES = f"{FOLDER}/packages.cdx.json"

_PROJECT = "lenet5"

Json = dict[str, Any]


def attach(
    client: Client, version: Version, params: Mapping[str, Any], requirements: Path, data: DataSet
) -> None:
    """Log both files as artifacts of the run of a version, unless the run has them already.

    Without the lock that the model was trained with, this logs a warning and nothing else.

    Args:
        client: The registry.
        version: A registered version.
        params: Every parameter of ``params.yaml``, by dotted name.
        requirements: The lock of the packages.
        data: The data set of the version.
    """
    expected = version.tags.get(f"{tags.ENVIRONMENT}requirements")
    if not requirements.exists() or files.sha256(requirements) != expected:
        log.warning(
            "version %d gets no bill of materials: %s is not the one that the model was trained with",
            version.number,
            requirements.name,
        )
        return
    lock = files.read_text(requirements)
    texts = {PACKAGES: packages(lock), MODEL: model(version, params, lock, data)}
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
    logged = model_versions.artifacts(version)
    if digests.items() <= logged.items():
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, text in texts.items():
            file = Path(folder) / Path(path).name
            file.write_text(text)
            client.log_artifact(version.run_id, str(file), FOLDER)
    value = json.dumps(logged | digests)
    client.set_tag(version.run_id, tags.ARTIFACTS, value)
    model_versions.tag(client, version, tags.ARTIFACTS, value)


def read(paths: Paths, name: str, wanted: str, path: str) -> str:
    """Return one of the files of a version, compared with its digest.

    Args:
        paths: The checkout, for the store.
        name: The registered model.
        wanted: A version number or an alias.
        path: ``MODEL`` or ``PACKAGES``.

    Raises:
        UsageError: there is no such version.
        DataError: the version has no such file, or the file was changed.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        version = model_versions.find(client, name, wanted)
        if path not in model_versions.artifacts(version):
            raise DataError(
                f"Version {version.number} of {version.name} has no bill of materials.",
                expected=f"the artifact {path} of its run",
                found="none: an earlier release registered it, or requirements.lock had changed since",
                fix="`lenet5 register` in a checkout of its commit adds it",
            )
        return files.read_text(model_versions.artifact(client, version, path, Path(folder)))


def packages(lock: str) -> str:
    """Return the SBOM: every package that a lock pins, for all platforms, with the hashes of its files.

    Args:
        lock: The text of a requirements file with hashes, as ``requirements.lock``.
    """
    components = []
    for component, hashes in _locked(lock):
        component["externalReferences"] = [
            {
                "type": "distribution",
                "url": component["purl"],
                "comment": "the files of this release: a wheel for each platform, and the source",
                "hashes": [_sha256(digest) for digest in hashes],
            }
        ]
        components.append(component)
    project = _project()
    dependencies = [_depends(project, *components), *(_depends(component) for component in components)]
    return _document(project, components, dependencies)


def model(version: Version, params: Mapping[str, Any], lock: str, data_set: DataSet) -> str:
    """Return the ML-BOM: a version with its files, data, hyper-parameters, metrics, code and packages.

    Args:
        version: A registered version.
        params: Every parameter of ``params.yaml``, by dotted name.
        lock: The text of ``requirements.lock``, whose packages trained the model.
        data_set: The data set of the version.
    """
    is_convolutional = params.get("train.architecture", "lenet5") == "lenet5"
    architecture = "LeNet-5" if is_convolutional else "MLP"
    of_version = version.tags
    sbom = json.loads(packages(lock))
    project = _project()
    project["pedigree"] = {
        "commits": [{"uid": of_version[name]} for name in (tags.COMMIT,) if of_version.get(name)]
    }
    project["properties"] = _properties(of_version, tags.PATCH, tags.DVC_LOCK, tags.TRAINING)
    libraries = [component for component, _ in _locked(lock)]
    sources, raw, processed, test = _data(of_version, params, data_set)
    this: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"{version.name}@{version.number}",
        "name": version.name,
        "version": str(version.number),
        "description": f"{architecture} for {data_set.card.subject}",
        "hashes": _hashes(of_version.get(tags.MODEL_FILE)),
        "licenses": project["licenses"],
        "components": [
            {"type": "file", "name": name, "hashes": [_sha256(digest)]}
            for name, digest in sorted(json.loads(of_version.get(tags.MODEL_FOLDER, "{}")).items())
        ],
        "externalReferences": [
            {
                "type": "bom",
                "url": sbom["serialNumber"].replace("urn:uuid:", "urn:cdx:") + "/1",
                "comment": f"the packages, with the hashes of their files: {PACKAGES}",
            }
        ],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "classification",
                "architectureFamily": "convolutional neural network"
                if is_convolutional
                else "dense neural network",
                "modelArchitecture": architecture,
                "datasets": [{"ref": processed["bom-ref"]}, {"ref": test["bom-ref"]}],
                "inputs": [{"format": data_set.takes}],
                "outputs": [{"format": data_set.gives}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {"type": name.removeprefix(tags.METRICS), "value": value, "slice": "all test images"}
                    for name, value in sorted(of_version.items())
                    if name.startswith(tags.METRICS)
                ]
            },
            "considerations": {
                "useCases": [use for use in (data_set.card.intended_use,) if use],
                "technicalLimitations": data_set.card.limits,
            },
            "properties": [
                {"name": name, "value": mask_urls(str(value))}
                for name, value in sorted(params.items())
                if name.startswith(("preprocess.", "train."))
            ],
        },
        "properties": _properties(
            of_version,
            tags.WEIGHTS,
            *(name for name in sorted(of_version) if name.startswith(tags.ENVIRONMENT)),
        ),
    }
    dependencies = [
        _depends(this, project, processed, test),
        _depends(project, *libraries),
        _depends(processed, raw),
        _depends(test, raw),
        _depends(raw, *sources),
        *(_depends(component) for component in (*sources, *libraries)),
    ]
    return _document(this, [project, *sources, raw, processed, test, *libraries], dependencies)


def _data(
    of_version: Mapping[str, str], params: Mapping[str, Any], data_set: DataSet
) -> tuple[list[Json], Json, Json, Json]:
    """Return the arrays of the sources, and the raw, the processed and the test data."""
    card = data_set.card
    shared: Json = {"licenses": [_licence(card.licence)]} if card.licence else {}
    shared |= {"authors": [{"name": creator} for creator in card.creators]} if card.creators else {}
    if card.url:
        about = {"type": "website", "url": _url(card.url)}
        shared["externalReferences"] = [about | ({"comment": card.citation} if card.citation else {})]

    def data(name: str, digest: str | None, **more: object) -> Json:
        content: Json = {"type": "dataset", "name": name, **more}
        component = {"type": "data", "bom-ref": f"data:{name}", "name": name, "hashes": _hashes(digest)}
        return {**component, **shared, "data": [content]}

    sources = [
        data(
            name.removeprefix(tags.PINS),
            of_version[name],
            contents={"url": _url(_source(name, params))},
            description="an array of the source; the hash is that of its IDX content",
        )
        for name in sorted(of_version)
        if name.startswith(tags.PINS)
    ]
    described = {
        "raw": (tags.RAW_DATA, f"{card.name}: all images and labels, unchanged"),
        "processed": (tags.PROCESSED_DATA, f"{card.name}: train and validation images, padded and rescaled"),
        "test": (tags.TEST_DATA, f"{card.name}: test images and labels, unchanged"),
    }
    raw, processed, test = (
        data(name, of_version.get(tag), description=text) for name, (tag, text) in described.items()
    )
    return sources, raw, processed, test


def _source(tag: str, params: Mapping[str, Any]) -> str:
    """Return the source of a pinned array: the main one, or an addition."""
    if match := re.fullmatch(rf"{re.escape(tags.ADDITION)}(\d+)\..*", tag):
        return str(params["ingest.additions"][int(match[1]) - 1]["source"])
    return str(params["ingest.source"])


def _url(address: str) -> str:
    return quote(mask_urls(address, replacement=""), safe="/:?&=#%")


def _licence(name: str) -> Json:
    """Return a licence: an SPDX identifier or expression, or a name that is neither."""
    known = spdx(name)
    if known is None:
        return {"license": {"name": name}}
    return {"expression": known} if " " in known else {"license": {"id": known}}


def _locked(lock: str) -> Iterator[tuple[Json, list[str]]]:
    """Yield each package of a lock as a component, and the SHA-256 of its files."""
    for block in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        requirement = Requirement(re.split(r"\s*\\?\n", block, maxsplit=1)[0])
        pinned = str(requirement.specifier).removeprefix("==")
        purl = f"pkg:pypi/{requirement.name}@{quote(pinned, safe='')}"
        component: Json = {
            "type": "library",
            "bom-ref": purl,
            "name": requirement.name,
            "version": pinned,
            "purl": purl,
        }
        if requirement.marker:
            component["properties"] = [{"name": "marker", "value": str(requirement.marker)}]
        yield component, sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))


def _project() -> Json:
    """Return this project's own package as a component."""
    about = metadata.metadata(_PROJECT)
    return {
        "type": "application",
        "bom-ref": _PROJECT,
        "name": _PROJECT,
        "version": about["Version"],
        "licenses": [{"license": {"id": about["License-Expression"]}}],
    }


def _depends(component: Json, *on: Json) -> Json:
    return {"ref": component["bom-ref"], "dependsOn": sorted(each["bom-ref"] for each in on)}


def _properties(of_version: Mapping[str, str], *names: str) -> list[Json]:
    return [{"name": name, "value": of_version[name]} for name in names if of_version.get(name)]


def _hashes(digest: str | None) -> list[Json]:
    return [_sha256(digest)] if digest else []


def _sha256(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest}


def _document(about: Json, components: list[Json], dependencies: list[Json]) -> str:
    """Return the text of a file whose serial number is derived from the rest of it."""
    content = {
        "metadata": {"component": about},
        "components": components,
        "dependencies": sorted(dependencies, key=lambda each: each["ref"]),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
    }
    return json.dumps(head | content, indent=1) + "\n"
