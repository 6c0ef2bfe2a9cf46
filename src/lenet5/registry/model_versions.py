"""Versions of the registered model, their aliases, and their files."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lenet5.core import files
from lenet5.core.errors import DataError, UsageError
from lenet5.core.text import did_you_mean, fitted
from lenet5.registry import fast_lookup
from lenet5.tracking import model_package, store
from lenet5.tracking.embedded_client import Client, EmbeddedClient, StoredVersion
from lenet5.tracking.source_code import PATCH_FILE
from lenet5.tracking.tags import (
    ABOUT,
    ARTIFACTS,
    DECISION,
    KERAS_FILE,
    MODEL_FILE,
    MODEL_FOLDER,
    ONNX_FILE,
    PARENT,
    PATCH,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
FIRST_VERSION = (
    "`lenet5 run` makes one; `lenet5 register` brings back the one of results that `dvc repro` restored from "
    "its cache"
)
"""What the user can do when a model has no versions. DVC skips ``register`` when its output is cached."""
PREDICTIONS = "results/predictions.parquet"
"""Path of the predictions on the test images, one row for each image, in the run of a version."""
ROBUSTNESS = "results/robustness.parquet"
"""Path of the answers on corrupted images, one row for each corruption, severity and image."""
SLICES = "results/slices.parquet"
"""Path of the bins of each test image, one row for each image."""
REPORT = "results/report.html"
"""Path of the report page that the stage ``evaluate`` wrote, in the run of a version."""

_GATE = "Gate: "
_LONGEST_VERDICT = 500
"""Characters of the gate's answer in a description; the stage ``register`` leaves room for them."""
_EARLIER = "LeNet-5 on MNIST. Takes raw pixels: uint8 (N, 28, 28), 0 to 255."
"""What earlier releases said about every registered model, whatever its data."""


@dataclass(frozen=True)
class Version:
    """One registered version."""

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: Mapping[str, str]


def aliases(client: Client, name: str) -> dict[str, int]:
    """Return the version number of each alias; empty when the model is not registered."""
    if isinstance(client, EmbeddedClient):
        known = client.read_aliases(name)
        if known is not None:
            return known
    from mlflow.exceptions import MlflowException

    try:
        registered_model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: int(number) for alias, number in registered_model.aliases.items()}


def versions(client: Client, name: str) -> list[Version]:
    """Return every version, the newest first; empty when the model is not registered."""
    numbers = aliases(client, name)
    unsorted = (_version(entity, numbers) for entity in search(client, name))
    return sorted(unsorted, key=lambda version: version.number, reverse=True)


def search(client: Client, name: str) -> list[StoredVersion]:
    """Return every version as the store holds it, from all pages of the answer."""
    if isinstance(client, EmbeddedClient):
        known = client.read_versions(name)
        if known is not None:
            return known
    entities: list[StoredVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        entities += map(_stored, page)
        if not (token := page.token):
            return entities


def holder(versions: Sequence[Version], alias: str) -> Version | None:
    """Return the version that has an alias."""
    return next((version for version in versions if alias in version.aliases), None)


def find(client: Client, name: str, reference: str) -> Version:
    """Return one version, by its number (``7``) or by an alias (``champion``, ``@champion``).

    Raises:
        UsageError: there is no such version.
    """
    return choose(versions(client, name), name, reference)


def choose(versions: Sequence[Version], name: str, reference: str) -> Version:
    """Return one of the versions of the model ``name``, by its number or by an alias.

    Raises:
        UsageError: there is no such version.
    """
    for version in versions:
        if reference == str(version.number):  # first, because other clients can set an alias such as "1"
            return version
    if with_alias := holder(versions, reference.removeprefix("@")):
        return with_alias
    raise not_found(versions, name, reference)


def not_found(versions: Sequence[Version], name: str, reference: str) -> UsageError:
    """Return the error for a version that does not exist. It lists the existing ones."""
    numbers = ", ".join(str(version.number) for version in versions) or "none"
    aliases = ", ".join(sorted(f"@{alias}" for version in versions for alias in version.aliases)) or "none"
    question = did_you_mean(reference, (f"@{alias}" for version in versions for alias in version.aliases))
    fix = question or ("`lenet5 versions` lists them" if versions else FIRST_VERSION)
    return UsageError(
        f"{name} has no version {reference!r}.",
        expected=f"a version ({numbers}) or an alias ({aliases})",
        found=reference,
        fix=fix,
    )


def register(
    client: Client,
    name: str,
    *,
    run_id: str,
    model_id: str,
    tags: Mapping[str, str],
    description: str,
    about: str = "",
) -> tuple[Version, bool]:
    """Register the model of a run. A run has one version, however often this is called.

    When the version exists already, this updates its tags and its description.

    Args:
        client: The registry.
        name: Name of the registered model. It is created when it does not exist.
        run_id: The run that holds the model.
        model_id: The logged model of the run.
        tags: Tags of the version.
        description: Description of the version, in Markdown.
        about: Description of the registered model; empty for none. One that a user wrote stays.

    Returns:
        The version, and whether it is new.
    """
    existing = versions(client, name)
    for version in existing:
        if version.run_id == run_id:
            changed = {key: value for key, value in tags.items() if version.tags.get(key) != value}
            for key, value in changed.items():
                client.set_model_version_tag(name, str(version.number), key, value)
            if changed:
                description = with_verdict(description, version.tags.get(DECISION))
                client.update_model_version(name, str(version.number), description)
                _describe(client, name, about)
            return replace(version, tags={**version.tags, **changed}), False
    create(client, name, about)
    _describe(client, name, about)
    champion = holder(existing, CHAMPION)
    parent = {PARENT: str(champion.number)} if champion else {}
    entity = client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id,
        tags={**tags, **parent},
        description=description,
        model_id=model_id,
    )
    return _version(_stored(entity), {}), True


def create(client: Client, name: str, description: str) -> None:
    """Create a registered model, unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _describe(client: Client, name: str, about: str) -> None:
    """Describe a registered model, unless a user has edited its description."""
    registered_model = client.get_registered_model(name)
    current = registered_model.description or ""
    if not about or current not in ("", about, _EARLIER, registered_model.tags.get(ABOUT)):
        return
    if current != about:
        client.update_registered_model(name, about)
    if registered_model.tags.get(ABOUT) != about:
        client.set_registered_model_tag(name, ABOUT, about)


def with_verdict(description: str, decision: str | None) -> str:
    """Return the description of a version with the answer of the gate in its first line.

    MLflow's list of versions shows the first line.

    Args:
        description: The description, in Markdown, with or without an earlier answer.
        decision: The value of the tag ``gate.decision``; None before the gate was asked.
    """
    if description.startswith(_GATE):
        description = description.partition("\n\n")[2]
    first = f"{_GATE}{fitted(decision, _LONGEST_VERDICT)}\n\n" if decision else ""
    return first + description


def set_verdict(client: Client, version: Version, decision: str) -> None:
    """Store the answer of the gate in the version's tags and description, and in the tags of its run."""
    tag(client, version, DECISION, decision)
    number = str(version.number)
    description = client.get_model_version(version.name, number).description or ""
    client.update_model_version(version.name, number, with_verdict(description, decision))
    client.set_tag(version.run_id, DECISION, decision)


def set_alias(client: Client, name: str, alias: str, number: int | None) -> None:
    """Move an alias to a version, unless the version has it; None removes the alias."""
    if aliases(client, name).get(alias) == number:
        return
    if number is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(number))


def tag(client: Client, version: Version, key: str, value: str) -> None:
    """Set a tag of a version."""
    client.set_model_version_tag(version.name, str(version.number), key, value)


def download(client: Client, version: Version, folder: Path) -> Path:
    """Download the ``.keras`` file of a version into ``folder`` and verify its SHA-256.

    Raises:
        DataError: the file is missing or differs from the registered one.
    """
    expected = version.tags.get(MODEL_FILE)
    return _download_file(client, version, f"{_uri(version)}/{KERAS_FILE}", folder, "model file", expected)


def download_onnx(client: Client, version: Version, folder: Path) -> Path:
    """Download the ONNX file of a version into ``folder`` and verify its SHA-256.

    Raises:
        DataError: the file is missing or differs from the registered one.
    """
    expected = fast_lookup.onnx_digest(version.tags)
    return _download_file(client, version, f"{_uri(version)}/{ONNX_FILE}", folder, "ONNX file", expected)


def verify(client: Client, version: Version) -> None:
    """Download the whole model folder and compare every file with the registered digests.

    Other clients use more than the ``.keras`` file: ``MLmodel`` names the Python module that loads the model.

    Raises:
        DataError: a file is missing, changed or added.
    """
    with tempfile.TemporaryDirectory() as temporary:
        download(client, version, Path(temporary))
        expected = _digests(version, MODEL_FOLDER)
        folder, problem = _fetch(client, _uri(version), Path(temporary) / "whole")
        actual = model_package.digests(folder) if folder else {}
    actual.pop("registered_model_meta", None)  # MLflow's client adds this file to a download
    if folder is None or not expected or actual != expected:
        differing = {path for path in expected | actual if expected.get(path) != actual.get(path)}
        raise _not_as_registered(
            version,
            "model folder",
            expected=f"{len(expected)} files" if expected else None,
            found=problem or f"other bytes in {', '.join(sorted(differing))}",
        )


def artifact(client: Client, version: Version, path: str, folder: Path) -> Path:
    """Download an artifact of the run of a version, such as ``results/predictions.parquet``.

    Raises:
        DataError: the file is missing or differs from the logged one.
    """
    expected = artifacts(version).get(path)
    return _download_file(client, version, f"runs:/{version.run_id}/{path}", folder, path, expected)


def artifacts(version: Version) -> dict[str, str]:
    """Return the SHA-256 of the artifacts that were logged for a version, by their path in the run."""
    return _digests(version, ARTIFACTS)


def patch(client: Client, version: Version, folder: Path) -> Path | None:
    """Download the uncommitted changes that a version was made with; None when there were none.

    Raises:
        DataError: the file is missing or differs from the logged one.
    """
    expected = version.tags.get(PATCH)
    if not expected:
        return None
    uri = f"runs:/{version.run_id}/{PATCH_FILE}"
    return _download_file(client, version, uri, folder, PATCH_FILE, expected)


def _download_file(
    client: Client, version: Version, uri: str, folder: Path, title: str, expected: str | None
) -> Path:
    """Download one file and compare its SHA-256 with the expected one; errors call the file ``title``."""
    path, found = _fetch(client, uri, folder)
    if path is None or found != expected:
        raise _not_as_registered(version, title, expected, found)
    return path


def _fetch(client: Client, uri: str, folder: Path) -> tuple[Path | None, str]:
    """Download a file or a folder.

    Returns:
        The local path, and the SHA-256 of a file or an empty text for a folder. When the source is missing:
        None, and the reason.

    Raises:
        MlflowException, requests.RequestException: the store does not answer, or refuses this user.
    """
    tracking_uri = client.tracking_uri  # before the imports: a client that only reads has none
    import requests
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=tracking_uri))
        return path, "" if path.is_dir() else files.sha256(path)
    except (MlflowException, OSError, DataError) as error:
        response = getattr(error, "response", None)
        is_missing = getattr(response, "status_code", None) == requests.codes.not_found
        if (store.is_connection_error(error) or store.is_refused(error)) and not is_missing:
            raise
        return None, f"none ({str(error).splitlines()[0]})"


def _uri(version: Version) -> str:
    return f"models:/{version.name}/{version.number}"


def _digests(version: Version, tag: str) -> dict[str, str]:
    return dict(json.loads(version.tags.get(tag, "{}")))


def _not_as_registered(version: Version, title: str, expected: str | None, found: str) -> DataError:
    if expected is None:
        return DataError(
            f"The {title} of {version.name} version {version.number} cannot be trusted.",
            expected="the SHA-256 from its registration",
            found="none: this release of `lenet5 register` did not register the version",
            fix="`lenet5 run` registers a version with digests",
        )
    return DataError(
        f"The {title} of {version.name} version {version.number} is not the one that was registered.",
        expected=expected,
        found=found,
        fix="restore the artifact store; until then this version is neither loaded nor promoted",
    )


def _stored(entity: "ModelVersion") -> StoredVersion:
    """Convert MLflow's entity."""
    return StoredVersion(
        name=entity.name,
        version=int(entity.version),  # an int on SQLite, a str over HTTP
        creation_timestamp=entity.creation_timestamp,
        run_id=entity.run_id,
        source=str(entity.source),
        tags=entity.tags,
    )


def _version(stored: StoredVersion, numbers: Mapping[str, int]) -> Version:
    """Convert what the store holds; ``numbers`` holds the version number of each alias."""
    return Version(
        name=stored.name,
        number=stored.version,
        aliases=tuple(sorted(alias for alias, at in numbers.items() if at == stored.version)),
        created=datetime.fromtimestamp(stored.creation_timestamp / 1000, UTC),
        run_id=stored.run_id or "",
        tags=stored.tags,
    )
