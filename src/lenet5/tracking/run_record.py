"""The complete MLflow run of one model, written from the files that DVC tracks."""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lenet5.core import dataset, files
from lenet5.core.dataset import Dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage
from lenet5.core.text import mask_urls
from lenet5.system import dvc, settings
from lenet5.tracking import experiment_page, model_package, run_name, runs, source_code, tags
from lenet5.tracking.data_set import DataSet
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    from mlflow.entities import Run
else:
    Run = Any

_HIDDEN = {"evaluate.calibration_error_low", "evaluate.calibration_error_high", "evaluate.images"}
"""Metrics that the report page shows with what they belong to."""
_LONGEST_NOTE = 8000
"""Characters of the description of a run."""


@dataclass(frozen=True)
class Record:
    """What the run of a model holds besides files."""

    lineage: Lineage
    data: DataSet
    origin_tags: Mapping[str, str]
    """What the model was made from, and its digests."""
    params: Mapping[str, Any]
    """Every parameter, by dotted name."""
    metrics: Mapping[str, float]
    """Every final metric, by dotted name."""
    epochs: pd.DataFrame
    """One row for each epoch: ``epoch``, counted from 1, then one column for each metric (``loss``, …)."""
    description: str
    """The model card, in Markdown."""

    @property
    def digest(self) -> str:
        """Return a SHA-256 of all that the run and the version show; it changes when any of that changes."""
        content = [dict(self.origin_tags), dict(self.params), dict(self.metrics), self.description]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_recorded(paths: Paths, *results: Path) -> None:
    """Compare files that will be registered with the digests in ``dvc.lock``.

    Raises:
        DataError: a file is missing, or is not the one that its stage wrote under DVC.
    """
    recorded = dvc.recorded_outputs(paths.lock)
    for path in results:
        name = path.relative_to(paths.root).as_posix()
        found = files.md5(path) if path.exists() else "no such file"
        if found != recorded.get(name):
            raise DataError(
                f"{name} is not the file that DVC recorded, so it is not registered.",
                expected=f"the digest in dvc.lock, {recorded.get(name, 'which has none')}",
                found=found,
                fix="`dvc repro` records what changed; `dvc checkout --force` restores the recorded file",
            )


def complete_run(client: Client, paths: Paths, record: Record) -> Run:
    """Complete the run of a model. Creates the run when the store has none.

    A complete run stays unchanged until the record changes, for example after another evaluation.

    Args:
        client: The store.
        paths: The checkout with the outputs of all stages.
        record: What to log besides files.

    Returns:
        The run as it is afterwards.
    """
    lineage = record.lineage
    run = runs.find_complete(client, paths, lineage.training, lineage.weights)
    if run and run.data.tags.get(tags.RECORD) == record.digest:
        return run
    run = (
        run
        or runs.find_unfinished(client, paths, lineage.training, record.params)
        or runs.create(client, paths, lineage.training, record.params)
    )
    run_id = run.info.run_id
    earlier_name = f"lenet5-{lineage.training[:8]}"  # of earlier releases; a name that a user chose stays
    name = run_name.name(paths, record.params) if run.info.run_name == earlier_name else None
    client.update_run(run_id, "RUNNING", name)
    status = "FAILED"
    try:
        runs.log_params(client, run, record.params)
        _log_missing_epochs(client, run_id, record.epochs)
        source_code.record(client, run_id, source_code.find(paths, result=paths.evaluation))
        run_tags = dict(record.origin_tags)
        run_tags |= {"mlflow.note.content": record.description[:_LONGEST_NOTE], tags.RECORD: record.digest}
        run_tags |= runs.labels(paths, record.params)
        run_tags[tags.DATA] = f"{record.data.card.name} {lineage.raw_data[:12]}"
        run_tags |= _log_files(client, run_id, paths)
        client.log_text(run_id, record.description, "model_card.md")
        if flow_run := settings.load(paths).lenet5_flow_run_id:
            run_tags.setdefault(tags.FLOW_RUN, run.data.tags.get(tags.FLOW_RUN, flow_run))
        raw, processed = dataset.load(paths.raw), dataset.load(paths.processed)
        _log_datasets(client, run_id, raw, processed, record)
        model_id = _log_model(client, run, paths, raw, lineage)
        runs.log_metrics(client, run_id, _shown(record.metrics), model_id=model_id)
        runs.set_tags(client, run_id, run_tags)
        client.set_tag(run_id, tags.WEIGHTS, lineage.weights)  # last, because it marks the run as complete
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return client.get_run(run_id)


def model_id(run: Run) -> str:
    """Return the id of the logged model of a complete run."""
    return str(run.data.tags[tags.MODEL_ID])


def links(run: Run) -> str:
    """Return links from the page of a version to the pages of its run, in Markdown."""
    return experiment_page.version_links(run.info.experiment_id, run.info.run_id)


def version_tags(record: Record, run: Run) -> dict[str, str]:
    """Return the tags of a registered version: those of its run, and the parameters in one tag.

    Args:
        record: What the run was completed with.
        run: The complete run.
    """
    names = {tags.COMMIT, tags.DIRTY, tags.PATCH, tags.FLOW_RUN, tags.WEIGHTS}
    names |= {tags.ARTIFACTS, tags.DVC_LOCK, tags.MODEL_FOLDER}
    of_run = {
        name: value for name, value in run.data.tags.items() if name in names or name.startswith(tags.MACHINE)
    }
    metrics = {name: repr(value) for name, value in record.metrics.items() if _is_of_the_whole(name)}
    params = json.dumps(runs.as_logged(record.params))
    return {**of_run, **record.origin_tags, tags.PARAMS: params, **metrics}


def _is_of_the_whole(metric: str) -> bool:
    """Return whether a metric is of a whole set, such as evaluate.accuracy, and not of one class or check."""
    return metric.count(".") == 1


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that MLflow draws as charts. Tables in the artifacts hold the others.

    MLflow draws a chart for each metric of a run, in alphabetical order, so metrics of each class would come
    before the curves of the training.
    """
    shown = {name: value for name, value in metrics.items() if _is_of_the_whole(name) and name not in _HIDDEN}
    if (accuracy := metrics.get(f"{tags.METRICS}accuracy")) is not None:
        shown[experiment_page.ERROR] = round(100 * (1 - accuracy), 6)  # without the noise of the subtraction
    return shown


def _log_missing_epochs(client: Client, run_id: str, epochs: pd.DataFrame) -> None:
    """Log the epochs that the training could not log.

    Args:
        client: The store.
        run_id: The run.
        epochs: One row for each epoch: ``epoch``, then one column for each metric.
    """
    logged = runs.known_epochs(client, run_id)
    for epoch, row in epochs.set_index("epoch").iterrows():
        if epoch not in logged:
            runs.log_metrics(
                client, run_id, {f"train.{k}": float(v) for k, v in row.items()}, int(str(epoch))
            )


def _log_files(client: Client, run_id: str, paths: Paths) -> dict[str, str]:
    """Log inputs and results as artifacts; return tags with the digests of the files."""
    code = [path for path in (paths.params, paths.graph, paths.lock, paths.requirements) if path.exists()]
    results = [
        *(paths.lineage, paths.validation, paths.training, paths.evaluation, paths.predictions),
        *(paths.evaluation_details, paths.robustness, paths.slices, paths.report),
        *(paths.per_class, paths.robustness_plot),
    ]
    digests = {}
    for folder, logged_files in (("code", code), ("results", results)):
        for path in logged_files:
            client.log_artifact(run_id, str(path), folder)
            digests[f"{folder}/{path.name}"] = files.sha256(path)
    client.log_artifacts(run_id, str(paths.figures), "figures")
    client.log_artifacts(run_id, str(paths.data_docs), "validation")
    lock = digests.get(f"code/{paths.lock.name}", "")
    return {tags.ARTIFACTS: json.dumps(digests), tags.DVC_LOCK: lock}


def _log_datasets(client: Client, run_id: str, raw: Dataset, processed: Dataset, record: Record) -> None:
    import mlflow.data
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    source, inputs = mask_urls(str(record.params["ingest.source"])), []
    for data, split, context in (
        (processed, "train", "training"),
        (processed, "validation", "validation"),
        (raw, "test", "testing"),
    ):
        arrays = data.splits[split]
        digest = data.manifest.splits[split].images.sha256
        with warnings.catch_warnings():
            # MLflow has two classes for a local path, and warns that the choice is ambiguous
            warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
            logged = mlflow.data.from_numpy(
                arrays.images,
                # MLflow resolves paths and URLs, and not data of a package, such as sklearn:digits
                source if "://" in source or ":" not in source else CodeDatasetSource({"source": source}),
                targets=arrays.labels,
                name=f"{record.data.slug}-{split}",
                digest=digest[:12],
            )
        inputs.append(DatasetInput(logged._to_mlflow_entity(), [InputTag("mlflow.data.context", context)]))
    client.log_inputs(run_id, inputs)


def _log_model(client: Client, run: Run, paths: Paths, raw: Dataset, lineage: Lineage) -> str:
    """Log the model folder, unless the run has one; return the id of the logged model."""
    if tags.MODEL_ID in run.data.tags:
        return model_id(run)
    from mlflow.entities import LoggedModelOutput

    logged = client.create_logged_model(
        run.info.experiment_id,
        name="lenet5",
        source_run_id=run.info.run_id,
        params={name: str(value) for name, value in run.data.params.items()},
        tags={tags.WEIGHTS: lineage.weights},
        model_type="classifier",
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        model_package.write(
            folder,
            paths.model,
            paths.onnx,
            raw.splits["test"].images[:3],
            raw.manifest.description,
            lineage.model_dump(),
        )
        digests = model_package.digests(folder)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.set_tag(run.info.run_id, tags.MODEL_FOLDER, json.dumps(digests))
    client.set_tag(run.info.run_id, tags.MODEL_ID, logged.model_id)
    return str(logged.model_id)
