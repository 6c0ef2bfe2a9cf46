"""Where registered versions come from: forwards, backwards, and two beside each other."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.registry import model_versions, promotion
from lenet5.registry.model_versions import Version
from lenet5.stages.params import Params
from lenet5.system import environment
from lenet5.tracking import runs, store, tags

Pair = tuple[Any, Any]

_ALL_BUT_THE_LOCK = ("--", ".", ":(exclude)dvc.lock")

_DATA = {"raw": tags.RAW_DATA, "processed": tags.PROCESSED_DATA, "test": tags.TEST_DATA}


def select(
    versions: Sequence[Version], *, data: str | None = None, commit: str | None = None
) -> list[Version]:
    """The versions that saw some data, or come from a commit.

    Args:
        versions: to choose from.
        data: how the SHA-256 of a data set, or of one file of the source, begins.
        commit: how a git commit begins.
    """

    def fits(version: Version) -> bool:
        seen = [
            tag for name, tag in version.tags.items() if name in _DATA.values() or name.startswith(tags.PINS)
        ]
        return (data is None or any(digest.startswith(data.lower()) for digest in seen)) and (
            commit is None or version.tags.get(tags.COMMIT, "").startswith(commit.lower())
        )

    return [version for version in versions if fits(version)]


def of(paths: Paths, params: Params, wanted: str) -> dict[str, Any]:
    """Everything that is known of a version's origin and fate, by subject.

    Raises:
        UsageError: there is no such version.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        client = store.connect(paths)
        version = model_versions.find(client, params.register_.model_name, wanted)
        moves = promotion.history(paths, params)
    has = version.tags
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "registered": version.created.isoformat(timespec="seconds"),
        "run": {"mlflow": version.run_id, "prefect": has.get(tags.FLOW_RUN)},
        "code": {
            "commit": has.get(tags.COMMIT),
            "patch": has.get(tags.PATCH) or None,
            "dvc.lock": has.get(tags.DVC_LOCK),
        },
        "data": {name: has.get(tag) for name, tag in _DATA.items()} | {"files": _named(has, tags.PINS)},
        "validation": {
            "result": has.get(tags.VALIDATION),
            "data docs": f"runs:/{version.run_id}/validation/index.html",
        },
        "training": {"digest": has.get(tags.TRAINING), "threads": has.get(f"{tags.ENVIRONMENT}threads")},
        "environment": _named(has, tags.ENVIRONMENT) | _named(has, tags.MACHINE),
        "model": {"weights": has.get(tags.WEIGHTS), "file": has.get(tags.MODEL_FILE)},
        "evaluation": _named(has, tags.METRICS),
        "parent champion": int(has[tags.PARENT]) if tags.PARENT in has else None,
        "gate": {"decision": has.get(tags.DECISION), "comparison": has.get(tags.COMPARISON)},
        "history": [
            f"{line.entry.time:%Y-%m-%d %H:%M:%S} UTC {line.entry.alias} {line.entry.before or 'none'} → "
            f"{line.entry.to or 'none'}, {line.entry.kind} by {line.entry.by}: {line.entry.reason}"
            for line in moves
            if line.happened and version.number in (line.entry.before, line.entry.to)
        ],
        "reproduced": has.get(tags.REPRODUCED),
    }


def diff(paths: Paths, params: Params, one: str, other: str) -> dict[str, Any]:
    """What differs between two versions: by subject, then by name, the value in each.

    Raises:
        UsageError: there is no such version.
        DataError: a file that was logged with a version is gone or was changed.
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
    said = [version.tags for version in pair]
    return {
        "versions": [version.number for version in pair],
        "differences": {
            "params": _differing(*parameters),
            "data": _differing(*({n: t.get(tag) for n, tag in _DATA.items()} for t in said)),
            "metrics": _differing(
                *({n: float(v) for n, v in _named(t, tags.METRICS, keep=True).items()} for t in said)
            ),
            "packages": _differing(*(environment.pinned(each["requirements.lock"]) for each in files)),
            "environment": _differing(*(_named(t, tags.ENVIRONMENT) | _named(t, tags.MACHINE) for t in said)),
            "dvc.lock": _differing(*(_locked(each["dvc.lock"]) for each in files)),
            "code": _differing(
                *({"commit": t.get(tags.COMMIT), "patch": t.get(tags.PATCH) or None} for t in said)
            )
            | _changed_files(paths.root, *(t.get(tags.COMMIT) for t in said)),
        },
    }


def _named(has: Mapping[str, str], prefix: str, *, keep: bool = False) -> dict[str, str]:
    """The tags below a prefix, in alphabetical order, without it."""
    return {
        name if keep else name.removeprefix(prefix): has[name]
        for name in sorted(has)
        if name.startswith(prefix)
    }


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Pair]:
    names = list(dict.fromkeys([*left, *right]))
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def _locked(lock: str) -> dict[str, str]:
    """Every file that DVC's lock names, by stage, with the beginning of its MD5."""
    stages = (YAML(typ="safe").load(lock) or {}).get("stages", {})
    return {
        f"{stage} {kind[:-1]} {entry['path']}": entry["md5"][:12]
        for stage, said in stages.items()
        for kind in ("deps", "outs")
        for entry in said.get(kind, [])
        if "md5" in entry
    }


def _changed_files(root: Path, left: str | None, right: str | None) -> dict[str, Pair]:
    """The files that git says differ between two commits, if this clone has both."""
    if not left or not right or left == right:
        return {}
    done = subprocess.run(
        ["git", "diff", "--name-status", "--no-renames", "--end-of-options", left, right, *_ALL_BUT_THE_LOCK],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"files": ("a commit is not in this clone: `git fetch`", None)}
    words = {"A": ("absent", "added"), "D": ("there", "deleted")}
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {name: words.get(status, ("one", "changed")) for status, name in lines}
