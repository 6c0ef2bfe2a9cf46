"""Everything about one model, from the files that DVC tracks into its MLflow run."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.data
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Run
from numpy.typing import NDArray

from lenet5.core import dataset, files
from lenet5.core.dataset import Dataset
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage
from lenet5.tracking import model_package, runs, source_code, tags


@dataclass(frozen=True)
class Record:
    """What a run says about its model, beside the files."""

    lineage: Lineage
    facts: Mapping[str, str]
    """What it was made from, and what it is: tags, by name."""
    params: Mapping[str, Any]
    """Every parameter under its dotted name."""
    metrics: Mapping[str, float]
    """Every final metric under its dotted name."""
    history: pd.DataFrame
    """One row an epoch: ``epoch``, then the metrics."""
    description: str
    """Markdown."""

    @property
    def digest(self) -> str:
        """Changes when anything that the run or the version says of itself does."""
        said = [dict(self.facts), dict(self.params), dict(self.metrics), self.description]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def complete_run(client: MlflowClient, paths: Paths, record: Record) -> Run:
    """Complete the run of a model, or make it anew when the store has none.

    A complete run stays as it is, until the model is evaluated in another way: then it is brought up to date.
    """
    lineage = record.lineage
    run = runs.find_complete(client, paths, lineage.training, lineage.weights)
    if run and run.data.tags.get(tags.RECORD) == record.digest:
        return run
    run = (
        run
        or runs.find_unfinished(client, paths, lineage.training, record.params)
        or runs.create(client, paths, lineage.training)
    )
    run_id = run.info.run_id
    client.update_run(run_id, "RUNNING")
    status = "FAILED"
    try:
        runs.log_params(client, run, record.params)
        _log_history(client, run_id, record.history)
        source_code.record(client, run_id, source_code.find(paths, result=paths.evaluation))
        said = dict(record.facts) | {"mlflow.note.content": record.description, tags.RECORD: record.digest}
        said |= _log_files(client, run_id, paths)
        if flow_run := os.environ.get("LENET5_FLOW_RUN_ID"):
            said.setdefault(tags.FLOW_RUN, run.data.tags.get(tags.FLOW_RUN, flow_run))
        raw, processed = dataset.load(paths.raw), dataset.load(paths.processed)
        _log_datasets(client, run_id, raw, processed, str(record.params["ingest.source"]))
        model_id = _log_model(client, run, paths, raw.splits["test"].images[:3], lineage)
        runs.log_metrics(client, run_id, record.metrics, model_id=model_id)
        for name, value in said.items():
            client.set_tag(run_id, name, value)
        client.set_tag(run_id, tags.WEIGHTS, lineage.weights)  # last: it says that all of the above is there
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return client.get_run(run_id)


def model_id(run: Run) -> str:
    """The logged model of a complete run."""
    return str(run.data.tags[tags.MODEL_ID])


def _log_history(client: MlflowClient, run_id: str, history: pd.DataFrame) -> None:
    """Fill in the epochs that the store did not hear of while training."""
    known = runs.known_epochs(client, run_id)
    for epoch, row in history.set_index("epoch").iterrows():
        if epoch not in known:
            runs.log_metrics(
                client, run_id, {f"train.{k}": float(v) for k, v in row.items()}, int(str(epoch))
            )


def _log_files(client: MlflowClient, run_id: str, paths: Paths) -> dict[str, str]:
    """Log what the model was made with and what came of it; tags by which a later reader knows the files."""
    code = [path for path in (paths.params, paths.graph, paths.lock, paths.requirements) if path.exists()]
    results = [paths.lineage, paths.validation, paths.training, paths.evaluation, paths.predictions]
    digests = {}
    for folder, kept in (("code", code), ("results", results)):
        for path in kept:
            client.log_artifact(run_id, str(path), folder)
            digests[f"{folder}/{path.name}"] = files.sha256(path)
    client.log_artifacts(run_id, str(paths.figures), "figures")
    client.log_artifacts(run_id, str(paths.data_docs), "validation")
    lock = digests.get(f"code/{paths.lock.name}", "")
    return {tags.ARTIFACTS: json.dumps(digests), tags.DVC_LOCK: lock}


def _log_datasets(client: MlflowClient, run_id: str, raw: Dataset, processed: Dataset, source: str) -> None:
    inputs = []
    for loaded, split, context in (
        (processed, "train", "training"),
        (processed, "validation", "validation"),
        (raw, "test", "testing"),
    ):
        arrays = loaded.splits[split]
        digest = loaded.manifest.splits[split].images.sha256
        with warnings.catch_warnings():
            # MLflow finds its own class for local paths twice, and calls that ambiguous
            warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
            logged = mlflow.data.from_numpy(
                arrays.images, source, targets=arrays.labels, name=f"mnist-{split}", digest=digest[:12]
            )
        inputs.append(DatasetInput(logged._to_mlflow_entity(), [InputTag("mlflow.data.context", context)]))
    client.log_inputs(run_id, inputs)


def _log_model(
    client: MlflowClient, run: Run, paths: Paths, example: NDArray[np.uint8], lineage: Lineage
) -> str:
    if tags.MODEL_ID in run.data.tags:
        return model_id(run)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name="lenet5",
        source_run_id=run.info.run_id,
        params={name: str(value) for name, value in run.data.params.items()},
        tags={tags.WEIGHTS: lineage.weights},
        model_type="classifier",
    )
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model"
        model_package.write(whole, paths.model, paths.onnx, example, lineage.model_dump())
        digests = model_package.digests(whole)
        client.log_model_artifacts(logged.model_id, str(whole))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.set_tag(run.info.run_id, tags.MODEL_FOLDER, json.dumps(digests))
    client.set_tag(run.info.run_id, tags.MODEL_ID, logged.model_id)
    return str(logged.model_id)


def version_tags(record: Record, run: Run) -> dict[str, str]:
    """What a registered version says of itself: everything of its run but the parameters and the history."""
    code = {tags.COMMIT, tags.DIRTY, tags.PATCH}
    ours = code | {tags.FLOW_RUN, tags.WEIGHTS, tags.ARTIFACTS, tags.DVC_LOCK, tags.MODEL_FOLDER}
    kept = {name: value for name, value in run.data.tags.items() if name in ours}
    kept |= {name: value for name, value in run.data.tags.items() if name.startswith(tags.MACHINE)}
    figures = {name: repr(value) for name, value in record.metrics.items() if name.count(".") == 1}
    return {**kept, **record.facts, **figures}
