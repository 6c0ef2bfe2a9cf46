import pandas as pd

from lenet5 import files
from lenet5.params import Register, load
from lenet5.paths import Paths
from lenet5.register import card, gate
from lenet5.results import Evaluation, Lineage, Training, Validation
from lenet5.terminal import console
from lenet5.tracking import record, registry, store


def run(paths: Paths, params: Register) -> None:
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
    per_class = files.read_csv(paths.per_class)
    floors = gate.judge(params.floors, evaluation.figures(), champion=None)
    text = card.build(everything, lineage, training, evaluation, per_class, floors)
    made = record.Record(
        lineage=lineage,
        params=everything.flat(),
        metrics=_metrics(Validation.read(paths.validation), training, evaluation, per_class),
        history=files.read_csv(paths.history),
        description=text,
    )
    with store.reachable():
        client = store.connect(paths)
        mlflow_run = record.complete_run(client, paths, made)
        version, new = registry.register(
            client,
            params.model_name,
            run_id=mlflow_run.info.run_id,
            model_id=record.model_id(mlflow_run),
            tags=record.version_tags(made, mlflow_run),
            description=text.partition("\n\n")[2],  # the UI's list shows its first line, and the name already
        )
        if registry.CHAMPION not in version.aliases:
            registry.set_alias(client, version, registry.CHALLENGER)
    files.write_text(paths.model_card, text)
    console.print(
        f"version {version.number} of {version.name} {'registered' if new else 'is in the registry'}, "
        f"run {mlflow_run.info.run_name} ({mlflow_run.info.run_id})"
    )


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
