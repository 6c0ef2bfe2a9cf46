"""Where registered versions come from: forwards, backwards, and two beside each other."""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from ruamel.yaml import YAML

from lenet5 import promotion
from lenet5.params import Params
from lenet5.paths import Paths
from lenet5.tracking import registry, runs, store
from lenet5.tracking.registry import Version

Pair = tuple[Any, Any]

DATA = {
    "raw": "lenet5.raw_data",
    "processed": "lenet5.processed_data",
    "test": "lenet5.test_data",
}
_PIN = "ingest.sha256."
COMMIT = "mlflow.source.git.commit"


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
        seen = [tag for name, tag in version.tags.items() if name in DATA.values() or name.startswith(_PIN)]
        return (data is None or any(digest.startswith(data.lower()) for digest in seen)) and (
            commit is None or version.tags.get(COMMIT, "").startswith(commit.lower())
        )

    return [version for version in versions if fits(version)]


def of(paths: Paths, params: Params, wanted: str) -> dict[str, Any]:
    """Everything that is known of a version's origin and fate, by subject.

    Raises:
        UsageError: there is no such version.
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        version = registry.find(client, params.section("register").model_name, wanted)
        moves = promotion.history(paths, params)
    tags = version.tags
    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "registered": version.created.isoformat(timespec="seconds"),
        "run": {"mlflow": version.run_id, "prefect": tags.get(runs.FLOW_RUN)},
        "code": {
            "commit": tags.get(COMMIT),
            "patch": tags.get("git.patch") or None,
            "dvc.lock": tags.get("lenet5.dvc_lock"),
        },
        "data": {name: tags.get(tag) for name, tag in DATA.items()}
        | {"files": {name.removeprefix(_PIN): tag for name, tag in tags.items() if name.startswith(_PIN)}},
        "validation": {
            "result": tags.get("lenet5.validation"),
            "data docs": f"runs:/{version.run_id}/validation/index.html",
        },
        "training": {"digest": tags.get("lenet5.training"), "threads": tags.get("environment.threads")},
        "environment": _named(tags, "environment.") | _named(tags, runs.MACHINE),
        "model": {"weights": tags.get("lenet5.weights"), "file": tags.get("lenet5.model_file")},
        "evaluation": _named(tags, "evaluate."),
        "parent champion": int(tags[registry.PARENT]) if registry.PARENT in tags else None,
        "gate": {"decision": tags.get("gate.decision"), "comparison": tags.get("gate.comparison")},
        "history": [
            f"{line.move.time:%Y-%m-%d %H:%M:%S} UTC {line.move.alias} {line.move.before or 'none'} → "
            f"{line.move.to or 'none'}, {line.move.kind} by {line.move.by}: {line.move.reason}"
            for line in moves
            if line.happened and version.number in (line.move.before, line.move.to)
        ],
        "reproduced": tags.get("reproduced"),
    }


def diff(paths: Paths, params: Params, one: str, other: str) -> dict[str, Any]:
    """What differs between two versions: by subject, then by name, the value in each.

    Raises:
        UsageError: there is no such version.
        DataError: a file that was logged with a version is gone or was changed.
        Unavailable: the store does not answer.
    """
    with store.reachable(), tempfile.TemporaryDirectory() as folder:
        client = store.connect(paths)
        name = params.section("register").model_name
        pair = [registry.find(client, name, wanted) for wanted in (one, other)]
        files = [
            {
                file: registry.artifact(
                    client, version, f"code/{file}", Path(folder) / str(place)
                ).read_text()
                for file in ("requirements.lock", "dvc.lock")
            }
            for place, version in enumerate(pair)
        ]
        parameters = [runs.params(client, version.run_id) for version in pair]
    tags = [version.tags for version in pair]
    return {
        "versions": [version.number for version in pair],
        "differences": {
            "params": _differing(*parameters),
            "data": _differing(*({n: t.get(tag) for n, tag in DATA.items()} for t in tags)),
            "metrics": _differing(
                *({n: float(v) for n, v in _named(t, "evaluate.", keep=True).items()} for t in tags)
            ),
            "packages": _differing(*(pins(each["requirements.lock"]) for each in files)),
            "environment": _differing(*(_named(t, "environment.") | _named(t, runs.MACHINE) for t in tags)),
            "dvc.lock": _differing(*(_locked(each["dvc.lock"]) for each in files)),
            "code": _differing(
                *({"commit": t.get(COMMIT), "patch": t.get("git.patch") or None} for t in tags)
            )
            | _changed_files(paths.root, *(t.get(COMMIT) for t in tags)),
        },
    }


def _named(tags: Mapping[str, str], prefix: str, *, keep: bool = False) -> dict[str, str]:
    """The tags below a prefix, in alphabetical order, without it."""
    return {
        name if keep else name.removeprefix(prefix): tags[name]
        for name in sorted(tags)
        if name.startswith(prefix)
    }


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Pair]:
    names = list(dict.fromkeys([*left, *right]))
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def pins(requirements: str) -> dict[str, str]:
    """The versions that a lock pins for this platform and Python, by package."""
    lines = re.findall(r"^[A-Za-z0-9].*?(?=\s*\\?$)", requirements, re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


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
        ["git", "diff", "--name-status", "--no-renames", left, right, "--", ".", ":(exclude)dvc.lock"],
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
