import shlex

import pandas as pd

from lenet5 import files
from lenet5.params import Params, Register, load
from lenet5.paths import Paths
from lenet5.register import card, gate
from lenet5.results import Evaluation, Lineage, Training, Validation
from lenet5.terminal import console
from lenet5.tracking import record, registry, store, tags
from lenet5.tracking.registry import Version


def run(paths: Paths, params: Register) -> Version:
    """The other stages' files → a complete MLflow run, a version that is ``challenger``, a model card.

    Can be called any number of times: what the store holds already is left, what it lacks is put back.

    Raises:
        DataError: a file is missing or damaged, or files of different models lie side by side.
        Unavailable: the store does not answer.
    """
    everything = load(paths.params)
    lineage, training = Lineage.read(paths.lineage), Training.read(paths.training)
    evaluation = Evaluation.read(paths.evaluation)
    lineage.require(model_file=files.sha256(paths.model))
    lineage.require(model=evaluation.model)
    evaluation.require(predictions=files.sha256(paths.predictions)[:16], onnx_file=files.sha256(paths.onnx))
    per_class = files.read_csv(paths.per_class)
    validation = Validation.read(paths.validation)
    limits = gate.limits(params, evaluation.figures())
    text = card.build(everything, lineage, training, evaluation, per_class, limits)
    made = record.Record(
        lineage=lineage,
        facts=_facts(everything, lineage, evaluation, validation),
        params=everything.flat(),
        metrics=_metrics(validation, training, evaluation, per_class),
        history=files.read_csv(paths.history),
        description=text,
    )
    with store.reachable():
        client = store.connect(paths)
        mlflow_run = record.complete_run(client, paths, made)
        said = record.version_tags(made, mlflow_run)
        version, new = registry.register(
            client,
            params.model_name,
            run_id=mlflow_run.info.run_id,
            model_id=record.model_id(mlflow_run),
            tags=said,
            # the UI's list shows its first line, and the name already
            description=text.partition("\n\n")[2] + card.origin(said),
        )
        if registry.CHAMPION not in version.aliases:
            registry.set_alias(client, version.name, registry.CHALLENGER, version.number)
    files.write_text(paths.model_card, text)
    console.print(
        f"version {version.number} of {version.name} {'registered' if new else 'is in the registry'}, "
        f"run {mlflow_run.info.run_name} ({mlflow_run.info.run_id})"
    )
    return version


def _facts(
    params: Params, lineage: Lineage, evaluation: Evaluation, validation: Validation
) -> dict[str, str]:
    """Where it comes from, under the names that the registry shows: what `lenet5 lineage` prints."""
    environment = lineage.environment
    pins = {f"{tags.PINS}{name}": digest for name, digest in params.ingest.sha256.model_dump().items()}
    passed = sum(check.success for check in validation.checks)
    return {
        **{f"lenet5.{name}": digest for name, digest in lineage.model_dump(exclude={"environment"}).items()},
        **pins,
        tags.TEST_DATA: evaluation.test_data,
        tags.VALIDATION: f"{passed} of {len(validation.checks)} checks passed",
        f"{tags.ENVIRONMENT}requirements": environment.requirements,
        f"{tags.ENVIRONMENT}packages": ", ".join(f"{name} {at}" for name, at in environment.packages.items()),
        f"{tags.ENVIRONMENT}switches": shlex.join(environment.switches),
        f"{tags.ENVIRONMENT}device": environment.device,
        f"{tags.ENVIRONMENT}threads": str(params.train.threads),
    }


def _metrics(
    validation: Validation, training: Training, evaluation: Evaluation, per_class: pd.DataFrame
) -> dict[str, float]:
    """The final figures under the names that MLflow shows: the stage, then the metric."""
    best = training.model_dump(include={"val_loss", "val_accuracy"})
    figures = {"train.best_epoch": training.best_epoch} | {f"train.best_{k}": v for k, v in best.items()}
    figures |= {f"validate.{name}": value for name, value in validation.figures().items()}
    figures |= {f"evaluate.{name}": value for name, value in evaluation.figures().items()}
    for row in per_class.itertuples():
        figures |= {
            f"evaluate.{name}.{row.digit}": getattr(row, name) for name in ("precision", "recall", "f1")
        }
    return {name: float(value) for name, value in figures.items()}
