"""Run the stage ``register``: complete the MLflow run, register a version, describe it.

The description is the model card, and the bills of materials in the run.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lenet5.core import card as data_card
from lenet5.core import dataset, files, stage_code
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails, Lineage, Training, Validation
from lenet5.registry import bom, model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.register import card
from lenet5.stages.register.params import Register
from lenet5.tracking import run_record, store, tags
from lenet5.tracking.data_set import DataSet
from lenet5.tracking.embedded_client import Client


@dataclass(frozen=True)
class Registered:
    """A version of the model in the registry."""

    version: Version
    is_new: bool
    """Whether this call registered it; otherwise it was registered already."""
    run: str
    """Name and id of its MLflow run."""

    def __str__(self) -> str:
        state = "registered" if self.is_new else "is in the registry"
        return f"version {self.version.number} of {self.version.name} {state}, run {self.run}"


def run(
    paths: Paths, params: Register, all_params: Mapping[str, Any], *, client: Client | None = None
) -> Registered:
    """Log the files of the other stages, register the version as ``challenger``, write the model card.

    A second call adds only what the store lacks. Every file is compared with ``dvc.lock`` first, because a
    result that was edited by hand must not be registered.

    Args:
        paths: the checkout.
        params: the name of the model and the limits that the card lists.
        all_params: every parameter of ``params.yaml`` by its dotted name, for the MLflow run.
        client: a connection to the store; None to open one.

    Raises:
        DataError: a file is missing or damaged, differs from what DVC recorded, or belongs to another model.
        Unavailable: the store does not answer.
    """
    run_record.require_recorded(
        paths,
        *(paths.validation, paths.model, paths.lineage, paths.training, paths.history),
        *(paths.evaluation, paths.evaluation_details, paths.per_class, paths.predictions, paths.onnx),
        *(paths.robustness, paths.slices, paths.report, paths.slice_accuracy, paths.label_errors),
    )
    lineage, training = Lineage.read(paths.lineage), Training.read(paths.training)
    evaluation = Evaluation.read(paths.evaluation)
    details = EvaluationDetails.read(paths.evaluation_details)
    lineage.require(model_file=files.sha256(paths.model), onnx_file=files.sha256(paths.onnx))
    lineage.require(model=details.model, onnx_file=details.onnx_file)
    details.require(predictions=files.sha256(paths.predictions)[:16])
    manifest = dataset.load_manifest(paths.raw)
    lineage.require(raw_data=manifest.digest)
    data = DataSet(data_card.load(paths.data_card), manifest)
    results = card.Results(
        lineage=lineage,
        training=training,
        evaluation=evaluation,
        details=details,
        per_class=files.read_csv(paths.per_class, names=["class"]),
        slices=files.read_csv(paths.slice_accuracy, names=["bin"]),
        label_errors=files.read_csv(paths.label_errors, names=["label", "likely"]),
        predictions=pd.read_parquet(paths.predictions, columns=["label", "predicted"]),
    )
    validation = Validation.read(paths.validation)
    text = card.build(params, all_params, data, results)
    record = run_record.Record(
        lineage=lineage,
        data=data,
        origin_tags=_origin_tags(paths, all_params, lineage, details, validation) | data.tags(),
        params=all_params,
        metrics=_metrics(validation, results),
        epochs=files.read_csv(paths.history),
        description=text,
    )
    with store.reachable(paths):
        client = client or store.connect(paths)
        mlflow_run = run_record.complete_run(client, paths, record)
        version_tags = run_record.version_tags(record, mlflow_run)
        version, is_new = model_versions.register(
            client,
            params.model_name,
            run_id=mlflow_run.info.run_id,
            model_id=run_record.model_id(mlflow_run),
            tags=version_tags,
            description=card.of_version(text, card.origin(version_tags), run_record.links(mlflow_run)),
            about=card.of_registered_model(data),
        )
        if model_versions.CHAMPION not in version.aliases:
            model_versions.set_alias(client, version.name, model_versions.CHALLENGER, version.number)
        bom.attach(client, version, all_params, paths.requirements, data)
    files.write_text(paths.model_card, card.front_matter(params, data, results) + text)
    return Registered(version, is_new, f"{mlflow_run.info.run_name} ({mlflow_run.info.run_id})")


def _origin_tags(
    paths: Paths,
    all_params: Mapping[str, Any],
    lineage: Lineage,
    details: EvaluationDetails,
    validation: Validation,
) -> dict[str, str]:
    """Return where the model comes from, under the tag names that ``lenet5 lineage`` prints."""
    environment = lineage.environment
    passed = sum(check.success for check in validation.checks)
    return {
        **{f"lenet5.{name}": digest for name, digest in lineage.model_dump(exclude={"environment"}).items()},
        **{name: digest for name, digest in all_params.items() if name.startswith(tags.PINS)},
        **{
            f"{tags.ADDITION}{number}.{name}": digest
            for number, addition in enumerate(all_params["ingest.additions"], 1)
            for name, digest in addition["sha256"].items()
        },
        tags.CODE: json.dumps(stage_code.digest_by_stage(paths), sort_keys=True),
        tags.TEST_DATA: details.test_data,
        tags.CORRUPTED_IMAGES: details.corrupted_images,
        tags.VALIDATION: f"{passed} of {len(validation.checks)} checks passed",
        f"{tags.ENVIRONMENT}requirements": environment.requirements,
        f"{tags.ENVIRONMENT}packages": ", ".join(f"{name} {at}" for name, at in environment.packages.items()),
        f"{tags.ENVIRONMENT}switches": shlex.join(environment.switches),
        f"{tags.ENVIRONMENT}device": environment.device,
        f"{tags.ENVIRONMENT}threads": str(all_params["train.threads"]),
    }


def _metrics(validation: Validation, results: card.Results) -> dict[str, float]:
    """Return the final metrics under the names that MLflow shows: the stage, then the metric.

    Args:
        validation: the result of the checks of the raw data.
        results: the metrics of the training and of the evaluation.
    """
    training, evaluation = results.training, results.evaluation
    metrics = {"train.best_epoch": training.best_epoch, "train.temperature": training.temperature}
    metrics |= {"train.best_val_loss": training.val_loss, "train.best_val_accuracy": evaluation.val_accuracy}
    metrics |= {f"validate.{name}": value for name, value in validation.metrics().items()}
    metrics |= {f"evaluate.{name}": value for name, value in evaluation.metrics().items()}
    metrics |= {f"evaluate.{name}": value for name, value in results.details.metrics().items()}
    for row in results.per_class.to_dict("records"):
        # MLflow allows letters, digits, spaces and ./_:- in a name, and makes folders of slashes
        name = re.sub(r"[^\w.: -]", "_", row["class"])
        if f"evaluate.recall.{name}" in metrics:  # of another class that differs in such characters only
            name += f" ({len(metrics)})"
        metrics |= {f"evaluate.{metric}.{name}": row[metric] for metric in ("precision", "recall", "f1")}
    return {name: float(value) for name, value in metrics.items()}
