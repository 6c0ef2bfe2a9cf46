"""Read the dependencies of stages from ``dvc.yaml``, the only place that lists them."""

import hashlib
import json
from typing import Any

from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths

_CODE = "src/"


def digests(paths: Paths, stage: str) -> dict[str, str]:
    """Return the SHA-256 of every source file that a stage depends on, by its path in the checkout.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read, or has no such stage.
        DataError: a file that ``dvc.yaml`` names does not exist.
    """
    code = [
        paths.root / dependency for dependency in dependencies(paths, stage) if dependency.startswith(_CODE)
    ]
    code_files = [
        file for path in code for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))
    ]
    return {file.relative_to(paths.root).as_posix(): files.sha256(file) for file in code_files}


def digest_by_stage(paths: Paths) -> dict[str, str]:
    """Return the first characters of a SHA-256 of the code of each stage, by stage.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read.
        DataError: a file that ``dvc.yaml`` names does not exist.
    """
    return {
        stage: hashlib.sha256(json.dumps(digests(paths, stage), sort_keys=True).encode()).hexdigest()[:16]
        for stage in _stages(paths)
    }


def dependencies(paths: Paths, stage: str) -> list[str]:
    """Return the ``deps`` of a stage in ``dvc.yaml``: files and folders, relative to the checkout.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read, or has no such stage.
    """
    stages = _stages(paths)
    if stage not in stages:
        raise UsageError(
            f"dvc.yaml has no stage {stage}.",
            expected=", ".join(stages) or "a stage",
            found=stage,
            fix="git checkout dvc.yaml",
        )
    return [str(dependency) for dependency in stages[stage].get("deps", [])]


def sources(paths: Paths) -> list[str]:
    """Return the inputs of the whole graph: ``dvc.yaml``, parameters, code and source data.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read.
    """
    inputs, outputs = _inputs_and_outputs(paths)
    return sorted({paths.graph.name, paths.params.name} | inputs - outputs)


def files_of_graph(paths: Paths) -> list[str]:
    """Return every file and folder that the graph reads or writes.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read.
    """
    inputs, outputs = _inputs_and_outputs(paths)
    return sorted({paths.graph.name, paths.params.name, paths.lock.name} | inputs | outputs)


def _inputs_and_outputs(paths: Paths) -> tuple[set[str], set[str]]:
    stages = _stages(paths).values()
    outputs = {
        str(_path(out))
        for stage in stages
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    }
    return {str(path) for stage in stages for path in stage.get("deps", [])}, outputs


def _path(out: str | dict[str, object]) -> str:
    """Return the path of an output. An output with options is a mapping, and the path is its only key."""
    return out if isinstance(out, str) else next(iter(out))


def _stages(paths: Paths) -> dict[str, Any]:
    content = files.read_yaml(paths.graph, fix="git checkout dvc.yaml")
    stages = content.get("stages", {}) if isinstance(content, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise UsageError(
            f"{paths.graph} cannot be read.", expected="a mapping with `stages`", fix="git checkout dvc.yaml"
        )
    return stages
