"""The origin of registered versions: what they were made from, and how two versions differ."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.registry import comparison, model_versions, promotion_history
from lenet5.registry.model_versions import Version
from lenet5.registry.promotion_history import HistoryEntry
from lenet5.stages.params import Params
from lenet5.system import environment, git
from lenet5.system.git import GitFailed
from lenet5.tracking import runs, source_code, store, tags
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    import pandas as pd

Pair = tuple[Any, Any]

_DATA_SET = {
    "name": tags.DATA_NAME,
    "licence": tags.LICENCE,
    "classes": tags.CLASSES,
    "image shape": tags.IMAGE_SHAPE,
    "conversion of pictures": tags.PICTURES,
    "sources": tags.ORIGINS,
}
"""What a version says about its data set, by its tag."""
_DATA = {"raw": tags.RAW_DATA, "processed": tags.PROCESSED_DATA, "test": tags.TEST_DATA}
"""Name of a data set → the tag with its SHA-256."""
_SHOWN = _DATA_SET | _DATA


def select(
    versions: Sequence[Version], *, data: str | None = None, commit: str | None = None
) -> list[Version]:
    """Return the versions that used some data, or that were made from a commit.

    Args:
        versions: The versions to choose from.
        data: First characters of the SHA-256 of a data set or of a source file; None for any data.
        commit: First characters of a git commit; None for any commit.
    """

    def matches(version: Version) -> bool:
        digests = [
            value
            for name, value in version.tags.items()
            if name in _DATA.values() or name.startswith(tags.PINS)
        ]
        return (data is None or any(digest.startswith(data.lower()) for digest in digests)) and (
            commit is None or version.tags.get(tags.COMMIT, "").startswith(commit.lower())
        )

    return [version for version in versions if matches(version)]


def of(paths: Paths, params: Params, wanted: str) -> dict[str, Any]:
    """Return the origin of a version and the changes of its aliases, by subject.

    Raises:
        UsageError: there is no such version.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        version = model_versions.find(client, params.register_.model_name, wanted)
        changes = promotion_history.history(paths, params)
    of_version = version.tags
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "registered": version.created.isoformat(timespec="seconds"),
        "run": {"mlflow": version.run_id, "prefect": of_version.get(tags.FLOW_RUN)},
        "code": {
            "commit": of_version.get(tags.COMMIT),
            "patch": of_version.get(tags.PATCH) or None,
            "dvc.lock": of_version.get(tags.DVC_LOCK),
        },
        "data": {name: of_version.get(tag) for name, tag in _SHOWN.items()}
        | {"files": _with_prefix(of_version, tags.PINS)},
        "validation": {
            "result": of_version.get(tags.VALIDATION),
            "data docs": f"runs:/{version.run_id}/validation/index.html",
        },
        "training": {
            "digest": of_version.get(tags.TRAINING),
            "threads": of_version.get(f"{tags.ENVIRONMENT}threads"),
        },
        "environment": _with_prefix(of_version, tags.ENVIRONMENT) | _with_prefix(of_version, tags.MACHINE),
        "model": {"weights": of_version.get(tags.WEIGHTS), "file": of_version.get(tags.MODEL_FILE)},
        "evaluation": _with_prefix(of_version, tags.METRICS),
        "parent champion": int(of_version[tags.PARENT]) if tags.PARENT in of_version else None,
        "gate": {
            "decision": of_version.get(tags.DECISION),
            "comparison": of_version.get(tags.COMPARISON),
        },
        "history": [_summary(change) for change in changes if _concerns(change, version)],
        "reproduced": of_version.get(tags.REPRODUCED),
    }


def diff(paths: Paths, params: Params, one: str, other: str) -> dict[str, Any]:
    """Return which of two versions is better, and what differs between them.

    Returns:
        ``versions``: the two numbers. ``answer``: a sentence, the better version, and the figures.
        ``differences``: by subject and name, a pair of values.

    Raises:
        UsageError: there is no such version.
        DataError: a file that was logged with a version is missing or changed.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        name = params.register_.model_name
        pair = [model_versions.find(client, name, wanted) for wanted in (one, other)]
        files = [
            {
                file: model_versions.artifact(
                    client, version, f"code/{file}", Path(folder) / str(place)
                ).read_text()
                for file in ("requirements.lock", "dvc.lock")
            }
            for place, version in enumerate(pair)
        ]
        parameters = [runs.params(client, version.run_id) for version in pair]
        known = _predictions(client, pair[0], pair[1])
        answer = comparison.answer(params.register_.gate, pair[0], pair[1], known)
    left, right = (version.tags for version in pair)
    return {
        "versions": [version.number for version in pair],
        "answer": asdict(answer),
        "differences": {
            "params": _differences(*parameters),
            "data": _differences(*({n: t.get(tag) for n, tag in _SHOWN.items()} for t in (left, right))),
            "metrics": _differences(_metrics(left), _metrics(right)),
            "packages": _differences(*(environment.pinned(texts["requirements.lock"]) for texts in files)),
            "environment": _differences(
                *(_with_prefix(t, tags.ENVIRONMENT) | _with_prefix(t, tags.MACHINE) for t in (left, right))
            ),
            "dvc.lock": _differences(*(_locked_files(texts["dvc.lock"]) for texts in files)),
            "code": _differences(
                *({"commit": t.get(tags.COMMIT), "patch": t.get(tags.PATCH) or None} for t in (left, right))
            )
            | _changed_files(paths.root, left.get(tags.COMMIT), right.get(tags.COMMIT)),
        },
    }


def _predictions(client: Client, left: Version, right: Version) -> "tuple[pd.DataFrame, pd.DataFrame] | None":
    """Return the predictions of both versions on the same test images; None when the store has none."""
    test_data = left.tags.get(tags.TEST_DATA)
    if test_data is None or test_data != right.tags.get(tags.TEST_DATA):
        return None
    # imported here, because `lenet5 versions` takes a third longer with pandas
    from lenet5.registry import predictions

    own = predictions.stored_table(client, left, model_versions.PREDICTIONS)
    other = predictions.stored_table(client, right, model_versions.PREDICTIONS)
    return None if own is None or other is None else (own, other)


def _concerns(change: HistoryEntry, version: Version) -> bool:
    return change.happened and version.number in (change.entry.before, change.entry.to)


def _summary(change: HistoryEntry) -> str:
    entry = change.entry
    return (
        f"{entry.time:%Y-%m-%d %H:%M:%S} UTC {entry.alias} {entry.before or 'none'} → {entry.to or 'none'}, "
        f"{entry.kind} by {entry.by}: {entry.reason}"
    )


def _with_prefix(version_tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the tags with a prefix in alphabetical order, by their names without the prefix."""
    return {
        name.removeprefix(prefix): version_tags[name]
        for name in sorted(version_tags)
        if name.startswith(prefix)
    }


def _metrics(version_tags: Mapping[str, str]) -> dict[str, float]:
    """Return the metrics on the test images, by dotted name."""
    return {
        f"{tags.METRICS}{name}": float(value)
        for name, value in _with_prefix(version_tags, tags.METRICS).items()
    }


def _differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Pair]:
    """Return the pair of values for each name whose values differ; None stands for a missing value."""
    names = list(dict.fromkeys([*left, *right]))
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def _locked_files(lock: str) -> dict[str, str]:
    """Return the first characters of the MD5 of every file in ``dvc.lock``, by stage, kind and path."""
    stages = (YAML(typ="safe").load(lock) or {}).get("stages", {})
    return {
        f"{stage} {kind[:-1]} {file['path']}": file["md5"][:12]
        for stage, locked in stages.items()
        for kind in ("deps", "outs")
        for file in locked.get(kind, [])
        if "md5" in file
    }


def _changed_files(root: Path, left: str | None, right: str | None) -> dict[str, Pair]:
    """Return the files that differ between two commits, if this clone has both."""
    if not left or not right or left == right:
        return {}
    try:
        changed = git.changed_files(root, left, right, exclude=[source_code.LOCK])
    except GitFailed:
        return {"files": ("a commit is not in this clone: `git fetch`", None)}
    words = {"A": ("absent", "added"), "D": ("there", "deleted")}
    return {name: words.get(status, ("one", "changed")) for name, status in changed.items()}
