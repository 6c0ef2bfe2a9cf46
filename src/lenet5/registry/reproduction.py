"""A version beside what came out when it was made again: the same to the byte, or how far apart and why."""

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
from lenet5.stages.params import load
from lenet5.system import environment
from lenet5.tracking import tags
from lenet5.tracking.store import Client


@dataclass(frozen=True)
class DigestComparison:
    """One thing that is to be the same."""

    what: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        return self.recorded == self.found


def compare(version: Version, made: Paths, lock: str, stages: Collection[str]) -> list[DigestComparison]:
    """Compare digests.

    Args:
        version: as it was registered.
        made: the checkout in which it was made again.
        lock: the content of the version's ``dvc.lock``.
        stages: those that were run again.
    """
    recorded, artifacts = version.tags, model_versions.artifacts(version)
    again = Lineage.read(made.lineage)
    rows = [
        DigestComparison("raw data", recorded[tags.RAW_DATA], dataset.load_manifest(made.raw).digest),
        DigestComparison(
            "processed data", recorded[tags.PROCESSED_DATA], dataset.load_manifest(made.processed).digest
        ),
        DigestComparison("weights", recorded[tags.WEIGHTS], again.weights),
        DigestComparison("model file", recorded[tags.MODEL_FILE], files.sha256(made.model)),
        *_onnx(recorded, made),
        DigestComparison(
            "predictions", artifacts[model_versions.PREDICTIONS], files.sha256(made.predictions)
        ),
        DigestComparison("metrics", artifacts["results/evaluation.json"], files.sha256(made.evaluation)),
    ]
    there, here = _outputs(lock, stages), _outputs(made.lock.read_text(), stages)
    names = there.keys() | here.keys()
    other = sorted(name for name in names if there.get(name) != here.get(name))
    told = f"{len(names) - len(other)} of {len(names)}" + (f", not {', '.join(other)}" if other else "")
    return [*rows, DigestComparison("outputs in dvc.lock", f"{len(names)} of {len(names)}", told)]


def numbers(client: Client, version: Version, made: Paths) -> list[str]:
    """How far apart two models are that are not the same to the byte."""
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        from lenet5.model import keras_file

        old = keras_file.weights(keras_file.load(model_versions.download(client, version, Path(folder))))
        new = keras_file.weights(keras_file.load(made.model))
        stored = model_versions.artifact(client, version, model_versions.PREDICTIONS, Path(folder))
        predictions = pd.read_parquet(stored)
    again = pd.read_parquet(made.predictions)
    return [_weights(old, new), _predictions(predictions, again), _accuracy(predictions, again)]


def causes(
    version: Version, made: Paths, rows: list[DigestComparison], other: Mapping[str, tuple[str, str]]
) -> list[str]:
    """What is known to differ between the machine that made a version and this one, the likeliest first."""
    recorded, here = version.tags, Lineage.read(made.lineage).environment
    different = {row.what for row in rows if not row.same}
    found = []
    if "raw data" in different:
        found.append("the data is not the same")
    machine = environment.machine()
    for name, tag, said in (
        ("device", f"{tags.ENVIRONMENT}device", here.device),
        ("engine variable", tags.SWITCHES, shlex.join(here.switches)),
        ("number of threads", f"{tags.ENVIRONMENT}threads", str(load(made.params).train.threads)),
        ("instruction set", f"{tags.MACHINE}instruction_set", machine["instruction_set"]),
        ("Python", f"{tags.MACHINE}python", machine["python"]),
    ):
        if tag in recorded and recorded[tag] != said:
            found.append(f"another {name}: {recorded[tag] or 'none'} then, {said or 'none'} now")
    found += [
        f"another {name}: {pinned} then, {installed} now" for name, (pinned, installed) in other.items()
    ]
    if "weights" not in different:
        found.insert(0, "not the machine that trained: the weights are the same")
    return found or ["unknown: everything that was recorded of the machine is the same here"]


def _onnx(recorded: Mapping[str, str], made: Paths) -> list[DigestComparison]:
    """Versions of earlier releases have none."""
    digest = fast_lookup.onnx_digest(recorded)
    return [DigestComparison("ONNX file", digest, files.sha256(made.onnx))] if digest else []


def _outputs(lock: str, stages: Collection[str]) -> dict[str, str]:
    locked = (YAML(typ="safe").load(lock) or {}).get("stages", {})
    ran = (said for stage, said in locked.items() if stage in stages)
    return {out["path"]: out["md5"] for said in ran for out in said.get("outs", [])}


def _weights(old: Mapping[str, NDArray[np.float32]], new: Mapping[str, NDArray[np.float32]]) -> str:
    shapes = [{name: array.shape for name, array in each.items()} for each in (old, new)]
    if shapes[0] != shapes[1]:
        return "weights: other layers or shapes"
    apart = {name: float(np.abs(old[name] - new[name]).max()) for name in old}
    worst = max(apart, key=lambda name: apart[name])
    scale = max(float(np.abs(array).max()) for array in old.values())
    return f"weights: at most {apart[worst]:.3g} apart (in {worst}; the largest weight is {scale:.3g})"


def _predictions(old: pd.DataFrame, new: pd.DataFrame) -> str:
    if len(old) != len(new):
        return f"predictions: {len(old):,} images then, {len(new):,} now"
    other = int((old["predicted"] != new["predicted"]).sum())
    columns = [f"p{digit}" for digit in range(dataset.CLASSES)]
    apart = float(np.abs(old[columns].to_numpy() - new[columns].to_numpy()).max())
    told = f"{other:,} of {len(old):,} images read as another digit"
    return f"predictions: {told}; probabilities at most {apart:.3g} apart"


def _accuracy(old: pd.DataFrame, new: pd.DataFrame) -> str:
    then, now = ((frame["label"] == frame["predicted"]).mean() for frame in (old, new))
    return f"accuracy: {then:.4f} then, {now:.4f} now"
