"""Look up one version and its tags without MLflow's client, which takes seconds to import.

``lenet5 predict`` uses it to answer in less than a second. A lookup returns a version only when the store
reports exactly that version. In all other cases (no such version, no answer, another kind of store) it
returns None, and the caller asks MLflow's client, which also reports the error.
"""

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lenet5.system import sqlite
from lenet5.system.settings import Settings, any_variable_matches
from lenet5.tracking.embedded_client import LOCKED_SECONDS, OTHER_REGISTRY
from lenet5.tracking.tags import MODEL_FOLDER, ONNX_FILE

_API = "api/2.0/mlflow"
"""https://mlflow.org/docs/latest/api_reference/rest-api.html"""
_TIMEOUT = 3
"""Seconds. MLflow's client waits longer and tries again."""
_QUERY = """
    SELECT v.version, t.key, t.value FROM model_versions v
    LEFT JOIN model_version_tags t ON (t.workspace, t.name, t.version) = (v.workspace, v.name, v.version)
    WHERE v.workspace = 'default' AND v.name = :name AND v.current_stage != 'Deleted_Internal' AND v.version =
"""
_VERSION_OF_ALIAS = """
    (SELECT version FROM registered_model_aliases
     WHERE workspace = 'default' AND name = :name AND alias = :label)
"""


_NUMBERS = """
    SELECT version FROM model_versions
    WHERE workspace = 'default' AND name = :name AND current_stage != 'Deleted_Internal' ORDER BY version DESC
"""
_ALIASES = """
    SELECT alias, version FROM registered_model_aliases
    WHERE workspace = 'default' AND name = :name ORDER BY alias
"""


@dataclass(frozen=True)
class Labels:
    """What the versions of a model are called."""

    numbers: tuple[int, ...]
    """Newest first."""
    aliases: Mapping[str, int]
    """The number of the version that has the alias."""


@dataclass(frozen=True)
class VersionTags:
    """The number and the tags of one version."""

    number: int
    tags: Mapping[str, str]


def find(settings: Settings, name: str, reference: str) -> VersionTags | None:
    """Look up the current state of one version.

    Args:
        settings: Address of the store and log-in.
        name: Name of the registered model.
        reference: A number (``7``) or an alias (``champion``, ``@champion``).

    Returns:
        The version; None when MLflow's client has to decide.
    """
    if any_variable_matches(OTHER_REGISTRY):
        return None
    by_number = re.fullmatch("[1-9][0-9]*", reference) is not None
    label = reference if by_number else reference.removeprefix("@")
    if label.lower() in {"", "latest"}:  # only servers read `latest` as the newest version
        return None
    uri = settings.mlflow_tracking_uri
    if uri.startswith(("http://", "https://")):
        return _query_server(settings, name, label, by_number)
    if uri.startswith("sqlite:///") and "?" not in uri:
        return _query_file(Path(uri.removeprefix("sqlite:///")), name, label, by_number)
    return None


def onnx_digest(tags: Mapping[str, str]) -> str | None:
    """Return the registered SHA-256 of a version's ONNX file; None when the version has no such file."""
    digest = json.loads(tags.get(MODEL_FOLDER, "{}")).get(ONNX_FILE)
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def labels(settings: Settings, name: str) -> Labels:
    """Return the numbers and aliases of a model in a SQLite store, for completion in a shell.

    Args:
        settings: Address of the store.
        name: Name of the registered model.

    Returns:
        No numbers and no aliases for another kind of store, which could let the user wait.
    """
    uri = settings.mlflow_tracking_uri
    if not uri.startswith("sqlite:///") or "?" in uri:
        return Labels((), {})
    try:
        with closing(
            sqlite.open_for_reading(Path(uri.removeprefix("sqlite:///")), LOCKED_SECONDS)
        ) as connection:
            numbers = connection.execute(_NUMBERS, {"name": name}).fetchall()
            aliases = connection.execute(_ALIASES, {"name": name}).fetchall()
    except sqlite3.Error:  # no store yet, locked, or other tables
        return Labels((), {})
    return Labels(tuple(number for (number,) in numbers), dict(aliases))


class _Tag(BaseModel):
    key: str
    value: str = ""


class _ServerVersion(BaseModel):
    """The fields that are needed of a server's response."""

    model_config = ConfigDict(extra="ignore")

    name: str
    version: int
    aliases: list[str] = []
    tags: list[_Tag] = []


def _query_server(settings: Settings, name: str, label: str, by_number: bool) -> VersionTags | None:
    import requests

    path, key = ("model-versions/get", "version") if by_number else ("registered-models/alias", "alias")
    try:
        response = requests.get(
            f"{settings.mlflow_tracking_uri.rstrip('/')}/{_API}/{path}",
            params={"name": name, key: label},
            timeout=_TIMEOUT,
            allow_redirects=False,
            **login(settings),
        )
        if response.status_code != requests.codes.ok:
            return None
        version = _ServerVersion.model_validate(response.json()["model_version"])
    except (requests.RequestException, ValidationError, LookupError, TypeError, ValueError):
        return None
    matches = str(version.version) == label if by_number else label in version.aliases
    if version.name != name or not matches:  # some databases ignore case
        return None
    return VersionTags(version.version, {tag.key: tag.value for tag in version.tags})


def login(settings: Settings) -> dict[str, Any]:
    """Return arguments for requests. As in MLflow's client, a name and password precede a token."""
    user, password = settings.mlflow_tracking_username, settings.mlflow_tracking_password
    if user and password:
        return {"auth": (user.encode(), password.get_secret_value().encode())}
    if token := settings.mlflow_tracking_token:
        return {"headers": {"Authorization": f"Bearer {token.get_secret_value()}"}}
    return {}


def _query_file(database: Path, name: str, label: str, by_number: bool) -> VersionTags | None:
    query = _QUERY + (":label" if by_number else _VERSION_OF_ALIAS)
    try:
        with closing(sqlite.open_for_reading(database, LOCKED_SECONDS)) as connection:
            parameters = {"name": name, "label": int(label) if by_number else label}
            rows = connection.execute(query, parameters).fetchall()
    except (sqlite3.Error, OverflowError, ValueError):  # locked, other tables, or too large a number
        return None
    if not rows:
        return None
    return VersionTags(int(rows[0][0]), {key: value or "" for _, key, value in rows if key is not None})
