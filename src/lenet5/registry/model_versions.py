"""Versions of the registered model, and the aliases that say which one is which."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lenet5.core import files
from lenet5.core.errors import DataError, UsageError
from lenet5.registry import fast_lookup
from lenet5.tracking import model_package, store
from lenet5.tracking.source_code import PATCH_FILE
from lenet5.tracking.tags import ARTIFACTS, KERAS_FILE, MODEL_FILE, MODEL_FOLDER, ONNX_FILE, PARENT, PATCH

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
PREDICTIONS = "results/predictions.parquet"
"""Where a version's run keeps one prediction a test image."""


@dataclass(frozen=True)
class Version:
    """One registered version."""

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: Mapping[str, str]


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Which version has each alias; none when the model is not registered."""
    try:
        return {alias: int(at) for alias, at in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Every version, the newest first; none when the model is not registered."""
    given = aliases(client, name)
    found = (_version(version, given) for version in search(client, name))
    return sorted(found, key=lambda version: version.number, reverse=True)


def search(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Every version as MLflow has it, on however many pages."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        if not (token := page.token):
            return found


def holder(versions: Sequence[Version], alias: str) -> Version | None:
    """The version that has an alias."""
    return next((version for version in versions if alias in version.aliases), None)


def find(client: MlflowClient, name: str, wanted: str) -> Version:
    """One version, by number (``7``) or alias (``champion``, ``@champion``).

    Raises:
        UsageError: there is no such version.
    """
    known = versions(client, name)
    for version in known:
        if wanted == str(version.number):  # an alias of digits may be given by other means
            return version
    label = wanted.removeprefix("@")
    for version in known:
        if label in version.aliases:
            return version
    numbers = ", ".join(str(v.number) for v in known) or "none"
    aliases = ", ".join(sorted(f"@{alias}" for v in known for alias in v.aliases)) or "none"
    raise UsageError(
        f"{name} has no version {wanted!r}.",
        expected=f"a version ({numbers}) or an alias ({aliases})",
        found=wanted,
        do="`lenet5 versions` lists them; `lenet5 run` makes one"
        if not known
        else "`lenet5 versions` lists them",
    )


def register(
    client: MlflowClient,
    name: str,
    *,
    run_id: str,
    model_id: str,
    tags: Mapping[str, str],
    description: str,
) -> tuple[Version, bool]:
    """The version of a run, and whether it is new; a run has one version, however often this is called.

    What a version says of itself is brought up to date.
    """
    known = versions(client, name)
    for version in known:
        if version.run_id == run_id:
            changed = {key: value for key, value in tags.items() if version.tags.get(key) != value}
            for key, value in changed.items():
                client.set_model_version_tag(name, str(version.number), key, value)
            if changed:
                client.update_model_version(name, str(version.number), description)
            return replace(version, tags={**version.tags, **changed}), False
    create(client, name, "LeNet-5 on MNIST. Takes raw pixels: uint8 (N, 28, 28), 0 to 255.")
    parent = holder(known, CHAMPION)
    born = {PARENT: str(parent.number)} if parent else {}
    made = client.create_model_version(
        name, f"models:/{model_id}", run_id, tags={**tags, **born}, description=description, model_id=model_id
    )
    return _version(made, {}), True


def create(client: MlflowClient, name: str, description: str) -> None:
    """Create a registered model, unless it is there."""
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def set_alias(client: MlflowClient, name: str, alias: str, number: int | None) -> None:
    """Give an alias to a version, whoever had it; or to none."""
    if number is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, str(number))


def tag(client: MlflowClient, version: Version, key: str, value: str) -> None:
    client.set_model_version_tag(version.name, str(version.number), key, value)


def download(client: MlflowClient, version: Version, folder: Path) -> Path:
    """Fetch a version's ``.keras`` file and compare it with the digest it was registered with.

    Raises:
        DataError: the file is gone, or its bytes are not those that were registered.
    """
    expected = version.tags.get(MODEL_FILE)
    path, found = _fetch(client, f"{_uri(version)}/{KERAS_FILE}", folder)
    if path is None or found != expected:
        raise _not_as_registered(version, "model file", expected, found)
    return path


def download_onnx(client: MlflowClient, version: Version, folder: Path) -> Path:
    """Fetch a version's ONNX file and compare it with the digest it was registered with.

    Raises:
        DataError: the file is gone, or its bytes are not those that were registered.
    """
    expected = fast_lookup.onnx_digest(version.tags)
    path, found = _fetch(client, f"{_uri(version)}/{ONNX_FILE}", folder)
    if path is None or found != expected:
        raise _not_as_registered(version, "ONNX file", expected, found)
    return path


def verify(client: MlflowClient, version: Version) -> None:
    """Fetch the whole model folder and compare every file with what was registered.

    Other clients load more than the ``.keras`` file: ``MLmodel`` names the Python module that is to load it.

    Raises:
        DataError: a file is gone, was changed, or was added.
    """
    with tempfile.TemporaryDirectory() as folder:
        download(client, version, Path(folder))
        expected = _digests(version, MODEL_FOLDER)
        path, found = _fetch(client, _uri(version), Path(folder) / "whole")
        files_there = model_package.digests(path) if path else {}
        files_there.pop("registered_model_meta", None)  # MLflow's client adds it as it downloads
    if path is None or not expected or files_there != expected:
        differ = {
            name
            for name in expected.keys() | files_there.keys()
            if expected.get(name) != files_there.get(name)
        }
        said = f"{len(expected)} files" if expected else None
        raise _not_as_registered(version, "model folder", said, found or _named(differ))


def artifact(client: MlflowClient, version: Version, name: str, folder: Path) -> Path:
    """Fetch a file of the run that made a version, such as ``results/predictions.parquet``.

    Raises:
        DataError: the file is gone, or its bytes are not those that were logged.
    """
    expected = artifacts(version).get(name)
    path, found = _fetch(client, f"runs:/{version.run_id}/{name}", folder)
    if path is None or found != expected:
        raise _not_as_registered(version, name, expected, found)
    return path


def artifacts(version: Version) -> dict[str, str]:
    """SHA-256 of the files that were logged with a version, by their path in the run."""
    return _digests(version, ARTIFACTS)


def patch(client: MlflowClient, version: Version, folder: Path) -> Path | None:
    """Fetch the patch on top of the version's commit, if there was one.

    Raises:
        DataError: the file is gone, or its bytes are not those that were logged.
    """
    expected = version.tags.get(PATCH)
    if not expected:
        return None
    path, found = _fetch(client, f"runs:/{version.run_id}/{PATCH_FILE}", folder)
    if path is None or found != expected:
        raise _not_as_registered(version, PATCH_FILE, expected, found)
    return path


def _uri(version: Version) -> str:
    return f"models:/{version.name}/{version.number}"


def _fetch(client: MlflowClient, uri: str, folder: Path) -> tuple[Path | None, str]:
    """Where it was put and, of a file, its SHA-256; or None and why it is not there.

    A store that does not answer is another matter: that passes through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=client.tracking_uri))
        return path, "" if path.is_dir() else files.sha256(path)
    except (MlflowException, OSError, DataError) as error:
        response = getattr(error, "response", None)
        if (
            store.is_connection_error(error)
            and getattr(response, "status_code", None) != requests.codes.not_found
        ):
            raise
        return None, f"none ({str(error).splitlines()[0]})"


def _digests(version: Version, tag: str) -> dict[str, str]:
    return dict(json.loads(version.tags.get(tag, "{}")))


def _named(names: set[str]) -> str:
    return f"other bytes in {', '.join(sorted(names))}"


def _not_as_registered(version: Version, what: str, expected: str | None, found: str) -> DataError:
    if expected is None:
        return DataError(
            f"The {what} of {version.name} version {version.number} cannot be trusted.",
            expected="the SHA-256 it was registered with",
            found="none: it was not registered by this release of `lenet5 register`",
            do="`lenet5 run` registers a version that can be",
        )
    return DataError(
        f"The {what} of {version.name} version {version.number} is not the one that was registered.",
        expected=expected,
        found=found,
        do="restore the artifact store; until then this version is neither loaded nor promoted",
    )


def _version(version: ModelVersion, given: Mapping[str, int]) -> Version:
    number = int(version.version)  # an int on SQLite, a str over HTTP
    return Version(
        name=version.name,
        number=number,
        aliases=tuple(sorted(alias for alias, at in given.items() if at == number)),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=version.run_id or "",
        tags=version.tags,
    )
