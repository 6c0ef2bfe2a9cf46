"""One version and its tags, asked of the store directly: MLflow's own client takes seconds to import.

For ``lenet5 predict``, which answers in less than one. Only a plain yes counts here. Whatever else comes back
(no such version, no answer, a store of another kind) is None, and the caller asks the full client, which
also knows what to say about it.
"""

import json
import os
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lenet5.tracking.tags import MODEL_FOLDER, ONNX_FILE

_ELSEWHERE = re.compile(
    "MLFLOW_(REGISTRY_URI|.*WORKSPACE.*|TRACKING_(AUTH|AWS_SIGV4|INSECURE_TLS|(SERVER|CLIENT)_CERT_PATH))"
)
"""Variables by which MLflow asks another registry, or this one in another way."""
_API = "api/2.0/mlflow"
"""https://mlflow.org/docs/latest/api_reference/rest-api.html"""
_TIMEOUT = 3
"""Seconds; the full client waits longer, and tries again."""
_QUERY = """
    SELECT v.version, t.key, t.value FROM model_versions v
    LEFT JOIN model_version_tags t ON (t.workspace, t.name, t.version) = (v.workspace, v.name, v.version)
    WHERE v.workspace = 'default' AND v.name = :name AND v.current_stage != 'Deleted_Internal' AND v.version =
"""
_OF_ALIAS = """
    (SELECT version FROM registered_model_aliases
     WHERE workspace = 'default' AND name = :name AND alias = :wanted)
"""


@dataclass(frozen=True)
class Found:
    number: int
    tags: Mapping[str, str]


def find(name: str, wanted: str) -> Found | None:
    """One version, by number (``7``) or alias (``champion``, ``@champion``), as it is at this moment."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if any(value and _ELSEWHERE.fullmatch(variable) for variable, value in os.environ.items()):
        return None
    by_number = re.fullmatch("[1-9][0-9]*", wanted) is not None
    label = wanted if by_number else wanted.removeprefix("@")
    if label.lower() in {"", "latest"}:  # `latest` is, to a server and to no one else, the newest version
        return None
    if uri.startswith(("http://", "https://")):
        return _ask_server(uri, name, label, by_number)
    if uri.startswith("sqlite:///") and "?" not in uri:
        return _ask_file(Path(uri.removeprefix("sqlite:///")), name, label, by_number)
    return None


def onnx_digest(tags: Mapping[str, str]) -> str | None:
    """SHA-256 of a version's ONNX file, as it was registered; None when it has none."""
    digest = json.loads(tags.get(MODEL_FOLDER, "{}")).get(ONNX_FILE)
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


class _Tag(BaseModel):
    key: str
    value: str = ""


class _Answer(BaseModel):
    """A server's answer, as far as it is of interest."""

    model_config = ConfigDict(extra="ignore")

    name: str
    version: int
    aliases: list[str] = []
    tags: list[_Tag] = []


def _ask_server(uri: str, name: str, label: str, by_number: bool) -> Found | None:
    import requests

    path, key = ("model-versions/get", "version") if by_number else ("registered-models/alias", "alias")
    try:
        response = requests.get(
            f"{uri.rstrip('/')}/{_API}/{path}",
            params={"name": name, key: label},
            timeout=_TIMEOUT,
            allow_redirects=False,
            **_log_in(),
        )
        if response.status_code != requests.codes.ok:
            return None
        found = _Answer.model_validate(response.json()["model_version"])
    except (requests.RequestException, ValidationError, LookupError, TypeError, ValueError):
        return None
    asked_for = str(found.version) == label if by_number else label in found.aliases
    if found.name != name or not asked_for:  # some databases tell no upper from lower case
        return None
    return Found(found.version, {tag.key: tag.value for tag in found.tags})


def _log_in() -> dict[str, Any]:
    """As MLflow's client does it: a name and password, or else a token; in UTF-8."""
    said = {word: os.environ.get(f"MLFLOW_TRACKING_{word}", "") for word in ("USERNAME", "PASSWORD", "TOKEN")}
    if said["USERNAME"] and said["PASSWORD"]:
        return {"auth": (said["USERNAME"].encode(), said["PASSWORD"].encode())}
    return {"headers": {"Authorization": f"Bearer {said['TOKEN']}"}} if said["TOKEN"] else {}


def _ask_file(database: Path, name: str, label: str, by_number: bool) -> Found | None:
    query = _QUERY + (":wanted" if by_number else _OF_ALIAS)
    wanted: int | str = int(label) if by_number else label
    try:
        # read-only: a file that is not there is not made
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT)
        ) as file:
            rows = file.execute(query, {"name": name, "wanted": wanted}).fetchall()
    except (sqlite3.Error, OverflowError):  # locked, of a release with other tables, no number it could hold
        return None
    if not rows:
        return None
    return Found(int(rows[0][0]), {key: value or "" for _, key, value in rows if key is not None})
