"""What MLflow's page of the experiment shows first: columns, charts, and a note that says how to read them.

MLflow keeps a shared view of an experiment as a tag of it, in JSON; the link to the page names the view.
"""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lenet5.tracking import tags
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    from mlflow.entities import Experiment

VIEW = "lenet5"
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_MODE = "workflowType=machine_learning"
_NOTE_TAG = "mlflow.note.content"
_LONGEST_TAG = 5000
"""Characters of a tag of an experiment in MLflow's database."""

ERROR = f"{tags.METRICS}error_percent"
TRAIN_ACCURACY = f"{tags.METRICS}train_accuracy"
VALIDATION_ACCURACY = f"{tags.METRICS}val_accuracy"
_COLUMNS = {
    f"tags.`{tags.DECISION}`": 185,
    f"tags.`{tags.CHANGES}`": 215,
    f"tags.`{tags.DATA}`": 160,
    f"metrics.`{ERROR}`": 170,
    "metrics.`evaluate.mean_corruption_accuracy`": 245,
    "metrics.`evaluate.calibration_error`": 205,
    f"metrics.`{TRAIN_ACCURACY}`": 185,
    f"metrics.`{VALIDATION_ACCURACY}`": 175,
    f"metrics.`{tags.ACCURACY}`": 160,
    "attributes.`Models`": 170,
}
"""Widths in pixels by column, in their order."""
_CHARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "Results on the test images": (
        ("BAR", ERROR),
        ("BAR", "evaluate.mean_corruption_accuracy"),
        ("BAR", "evaluate.calibration_error"),
    ),
    "Training, by epoch": (
        ("LINE", "train.val_accuracy"),
        ("LINE", "train.accuracy"),
        ("LINE", "train.val_loss"),
    ),
}
"""Kind and metric of each chart, by section. MLflow adds sections for other metrics; they are collapsed."""
NOTE = f"""\
Each run is one trained model. The arrow on the right opens what the columns mean.

The name of a run says what differs from the default parameters; `{tags.CHANGES}` has all differences.

| column | meaning |
|---|---|
| `{ERROR}` | share of the test images that the model reads wrong, in %; lower is better |
| `evaluate.mean_corruption_accuracy` | accuracy on corrupted test images, mean of all corruptions, 0 to 1 |
| `evaluate.calibration_error` | mean distance between confidence and accuracy, 0 to 1; lower is better |
| `{TRAIN_ACCURACY}`, `{VALIDATION_ACCURACY}` | accuracy on the train and on the validation images |
| `evaluate.accuracy` | accuracy on the test images |
| `{tags.DECISION}` | answer of the promotion gate, and why |
| Models | the registered version; its page has the aliases, the model card and a link to the report page |

A run has one row for each class in `results/per_class.csv`, one for each corruption in
`results/robustness.csv`, and the report page in `results/report.html`, all below Artifacts. Runs of a sweep
have the tag `{tags.SWEEP}`. `lenet5 versions`, `lenet5 diff` and `lenet5 lineage` print the same.
"""


def version_links(experiment_id: str, run_id: str) -> str:
    """Return links for the description of a version, in Markdown. They work on every server."""
    pages = {
        "Report page": "results/report.html",
        "classes": "results/per_class.csv",
        "corruptions": "results/robustness.csv",
        "checks of the data": "validation/index.html",
    }
    links = [
        f"[{title}]({run_link(experiment_id, run_id, path).removeprefix('/')})"
        for title, path in pages.items()
    ]
    return " · ".join([*links, f"[run]({run_link(experiment_id, run_id).removeprefix('/')})"])


def describe(client: Client, experiment: "Experiment") -> None:
    """Write the view and the note of an experiment, unless it has them. A note that a user edited stays.

    A deleted experiment is left alone: the request that needs it reports it.
    """
    if experiment.lifecycle_stage != "active":
        return
    view = json.dumps(_view(), separators=(",", ":"))
    assert len(view) <= _LONGEST_TAG
    assert len(NOTE) <= _LONGEST_TAG
    wanted = {_VIEW_TAG: view}
    if _NOTE_TAG not in experiment.tags:
        wanted[_NOTE_TAG] = NOTE
    for name, value in wanted.items():
        if experiment.tags.get(name) != value:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def runs_link(experiment_id: str) -> str:
    """Return a link to the runs of an experiment, from the address of the server on."""
    return f"/#/experiments/{experiment_id}/runs?{_MODE}&viewStateShareKey={VIEW}"


def run_link(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return a link to a run, or to one of its artifacts, from the address of the server on."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{artifact and f'/artifacts/{artifact}'}?{_MODE}"


def model_link(name: str, version: int | None = None) -> str:
    """Return a link to a registered model, or to one of its versions, from the address of the server on."""
    return f"/#/models/{quote(name)}{f'/versions/{version}' if version else ''}?{_MODE}"


def _view() -> dict[str, Any]:
    """Return the state of the page as MLflow's own page writes it."""
    sections, charts = [], []
    for position, (title, of_section) in enumerate(_CHARTS.items()):
        sections.append(_section(f"section-{position}", title, display=True))
        for kind, metric in of_section:
            charts.append(
                {
                    "type": kind,
                    "uuid": f"chart-{metric}",
                    "metricSectionId": f"section-{position}",
                    "metricKey": metric,
                    "displayName": metric,
                    "deleted": False,
                    "isGenerated": False,
                    "runsCountToCompare": 10,
                    **({"xAxisKey": "step", "useGlobalXaxisKey": True} if kind == "LINE" else {}),
                }
            )
    for title in ("Model metrics", "System metrics"):
        sections.append(_section(title, title, display=False))
    return {
        "selectedColumns": list(_COLUMNS),
        "columnOrder": list(_COLUMNS),
        "columnWidths": _COLUMNS,
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _section(uuid: str, title: str, *, display: bool) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": title,
        "display": display,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }
