"""Comparison of a registered version with its reproduction: digests, numeric differences, likely causes."""

import re
import shlex
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from lenet5.core import dataset, files
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.core.results import Lineage
from lenet5.registry import fast_lookup, model_versions
from lenet5.registry.model_versions import Version
from lenet5.system import environment
from lenet5.tracking import tags
from lenet5.tracking.embedded_client import Client


@dataclass(frozen=True)
class DigestComparison:
    """The digests of one output: at registration, and in the reproduction."""

    what: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Return whether the digests are equal."""
        return self.recorded == self.found


def compare_digests(
    version: Version, made: Paths, lock: str, stages: Collection[str]
) -> list[DigestComparison]:
    """Compare the digests of all outputs.

    Args:
        version: The registered version.
        made: The checkout that holds the reproduction.
        lock: Content of the version's ``dvc.lock``.
        stages: The stages that ran again.
    """
    recorded, artifacts = version.tags, model_versions.artifacts(version)
    lineage = Lineage.read(made.lineage)
    rows = [
        DigestComparison("raw data", recorded[tags.RAW_DATA], dataset.load_manifest(made.raw).digest),
        DigestComparison(
            "processed data", recorded[tags.PROCESSED_DATA], dataset.load_manifest(made.processed).digest
        ),
        DigestComparison("weights", recorded[tags.WEIGHTS], lineage.weights),
        DigestComparison("model file", recorded[tags.MODEL_FILE], files.sha256(made.model)),
    ]
    if onnx_digest := fast_lookup.onnx_digest(recorded):  # versions of earlier releases have no ONNX file
        rows.append(DigestComparison("ONNX file", onnx_digest, files.sha256(made.onnx)))
    rows += [
        DigestComparison(
            "predictions", artifacts[model_versions.PREDICTIONS], files.sha256(made.predictions)
        ),
        DigestComparison("metrics", artifacts["results/evaluation.json"], files.sha256(made.evaluation)),
    ]
    if details := artifacts.get("results/evaluation_details.json"):  # earlier releases had one file
        rows.append(DigestComparison("metrics in detail", details, files.sha256(made.evaluation_details)))
    return [*rows, _compare_outputs(_outputs(lock, stages), _outputs(files.read_text(made.lock), stages))]


def describe_differences(client: Client, version: Version, made: Paths) -> list[str]:
    """Measure how far a reproduction with other digests is from the version: weights, predictions, accuracy.

    Args:
        client: The registry.
        version: The registered version.
        made: The checkout that holds the reproduction.
    """
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        from lenet5.model import keras_file

        old = keras_file.weights(keras_file.load(model_versions.download(client, version, Path(folder))))
        new = keras_file.weights(keras_file.load(made.model))
        stored = model_versions.artifact(client, version, model_versions.PREDICTIONS, Path(folder))
        old_predictions = pd.read_parquet(stored)
    new_predictions = pd.read_parquet(files.regular(made.predictions))
    return [
        _weights_difference(old, new),
        _predictions_difference(old_predictions, new_predictions),
        _accuracy_difference(old_predictions, new_predictions),
    ]


def causes(
    version: Version, made: Paths, rows: list[DigestComparison], packages: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return the recorded differences between the machine that made a version and this one, likeliest first.

    Args:
        version: The registered version.
        made: The checkout that holds the reproduction.
        rows: The compared digests.
        packages: The pinned and the installed version of each package that differs, by name.
    """
    recorded, current = version.tags, Lineage.read(made.lineage).environment
    different = {row.what for row in rows if not row.same}
    machine = environment.machine()
    # not through the schema: the parameters can be those of another release
    threads = files.read_yaml(made.params, fix="git checkout params.yaml")["train"]["threads"]
    properties = [
        ("device", f"{tags.ENVIRONMENT}device", current.device),
        ("engine variable", tags.SWITCHES, shlex.join(current.switches)),
        ("number of threads", f"{tags.ENVIRONMENT}threads", str(threads)),
        ("instruction set", f"{tags.MACHINE}instruction_set", machine["instruction_set"]),
        ("Python", f"{tags.MACHINE}python", machine["python"]),
    ]
    likely = ["the data is not the same"] if "raw data" in different else []
    likely += [
        f"another {name}: {recorded[tag] or 'none'} then, {value or 'none'} now"
        for name, tag, value in properties
        if tag in recorded and recorded[tag] != value
    ]
    likely += [
        f"another {name}: {pinned} then, {installed} now" for name, (pinned, installed) in packages.items()
    ]
    if "weights" not in different:
        likely.insert(0, "not the machine that trained: the weights are the same")
    return likely or ["unknown: everything that was recorded of the machine is the same here"]


def _compare_outputs(recorded: Mapping[str, str], found: Mapping[str, str]) -> DigestComparison:
    """Compare the MD5 of all outputs in two ``dvc.lock`` files, by path."""
    paths = recorded.keys() | found.keys()
    differing = sorted(path for path in paths if recorded.get(path) != found.get(path))
    same = f"{len(paths) - len(differing)} of {len(paths)}"
    return DigestComparison(
        "outputs in dvc.lock",
        f"{len(paths)} of {len(paths)}",
        f"{same}, not {', '.join(differing)}" if differing else same,
    )


def _outputs(lock: str, stages: Collection[str]) -> dict[str, str]:
    """Return the MD5 of each output of some stages in a ``dvc.lock``, by path."""
    locked_stages = (YAML(typ="safe").load(lock) or {}).get("stages", {})
    return {
        out["path"]: out["md5"]
        for stage, locked in locked_stages.items()
        if stage in stages
        for out in locked.get("outs", [])
    }


def _weights_difference(
    old: Mapping[str, NDArray[np.float32]], new: Mapping[str, NDArray[np.float32]]
) -> str:
    shapes = [{name: array.shape for name, array in weights.items()} for weights in (old, new)]
    if shapes[0] != shapes[1]:
        return "weights: other layers or shapes"
    differences = {name: float(np.abs(old[name] - new[name]).max()) for name in old}
    largest = max(differences, key=lambda name: differences[name])
    scale = max(float(np.abs(array).max()) for array in old.values())
    return (
        f"weights: at most {differences[largest]:.3g} apart (in {largest}; the largest weight is {scale:.3g})"
    )


def _predictions_difference(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Compare two frames with one row for each test image: ``predicted``, ``p0``, ``p1``, …"""
    if set(old.columns) != set(new.columns):
        return f"predictions: of {_classes(old)} classes then, of {_classes(new)} now"
    if len(old) != len(new):
        return f"predictions: {len(old):,} images then, {len(new):,} now"
    changed = int((old["predicted"] != new["predicted"]).sum())
    columns = [name for name in old.columns if re.fullmatch(r"p\d+", name)]
    largest = float(np.abs(old[columns].to_numpy() - new[columns].to_numpy()).max())
    return (
        f"predictions: {changed:,} of {len(old):,} images have another class; "
        f"probabilities at most {largest:.3g} apart"
    )


def _classes(predictions: pd.DataFrame) -> int:
    return sum(re.fullmatch(r"p\d+", name) is not None for name in predictions.columns)


def _accuracy_difference(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Compare two frames with one row for each test image: ``label``, ``predicted``."""
    then, now = (float((frame["label"] == frame["predicted"]).mean()) for frame in (old, new))
    return f"accuracy: {then:.4f} then, {now:.4f} now"
