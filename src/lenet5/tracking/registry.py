"""Versions of the registered model, and the aliases that say which one is which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lenet5 import files
from lenet5.errors import DataError, UsageError
from lenet5.tracking import model_folder

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"


@dataclass(frozen=True)
class Version:
    """One registered version."""

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: Mapping[str, str]

    def figure(self, metric: str) -> float:
        """A metric it was registered with, such as ``evaluate.accuracy``.

        Raises:
            DataError: it carries no such metric, so it was not registered by this project.
        """
        try:
            return float(self.tags[metric])
        except KeyError:
            raise DataError(
                f"Version {self.number} of {self.name} cannot be judged.",
                expected=f"a tag {metric}",
                found="none: it was not registered by `lenet5 register`",
            ) from None


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Every version, the newest first; none when the model is not registered."""
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    found = client.search_model_versions(f"name = '{name}'", max_results=10_000)
    return sorted((_version(v, aliases) for v in found), key=lambda v: v.number, reverse=True)


def holder(versions: Sequence[Version], alias: str) -> Version | None:
    """The version that has an alias."""
    return next((version for version in versions if alias in version.aliases), None)


def find(client: MlflowClient, name: str, wanted: str) -> Version:
    """One version, by number (``7``) or alias (``champion``, ``@champion``).

    Raises:
        UsageError: there is no such version.
    """
    known = versions(client, name)
    label = wanted.removeprefix("@")
    for version in known:
        if label == str(version.number) or label in version.aliases:
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

    What a version says of itself is brought up to date: the gate judges it by its tags.
    """
    for version in versions(client, name):
        if version.run_id == run_id:
            changed = {key: value for key, value in tags.items() if version.tags.get(key) != value}
            for key, value in changed.items():
                client.set_model_version_tag(name, str(version.number), key, value)
            if changed:
                client.update_model_version(name, str(version.number), description)
            return replace(version, tags={**version.tags, **changed}), False
    try:
        client.create_registered_model(
            name, description="LeNet-5 on MNIST. Takes raw pixels: uint8 (N, 28, 28), 0 to 255."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, f"models:/{model_id}", run_id, tags=dict(tags), description=description, model_id=model_id
    )
    return _version(made, {}), True


def set_alias(client: MlflowClient, version: Version, alias: str) -> None:
    client.set_registered_model_alias(version.name, alias, str(version.number))


def drop_alias(client: MlflowClient, name: str, alias: str) -> None:
    client.delete_registered_model_alias(name, alias)


def download(client: MlflowClient, version: Version, folder: Path) -> Path:
    """Fetch a version's ``.keras`` file and compare it with the digest it was registered with.

    Raises:
        DataError: the file is gone, or its bytes are not those that were registered.
    """
    uri = f"models:/{version.name}/{version.number}/{model_folder.KERAS_FILE}"
    try:
        path = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=client.tracking_uri))
        found = files.sha256(path)
    except (MlflowException, OSError) as error:
        found = f"no file ({str(error).splitlines()[0]})"
    expected = version.tags.get("lenet5.model_file")
    if found != expected:
        raise DataError(
            f"The model file of {version.name} version {version.number} is not the one that was registered.",
            expected=expected,
            found=found,
            do="restore the artifact store; until then this version is neither loaded nor promoted",
        )
    return path


def _version(version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = int(version.version)  # an int on SQLite, a str over HTTP
    return Version(
        name=version.name,
        number=number,
        aliases=tuple(sorted(alias for alias, at in aliases.items() if int(at) == number)),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=version.run_id or "",
        tags=version.tags,
    )
