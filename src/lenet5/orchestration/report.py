"""What Prefect's pages show of a flow run: its name, its result in a line, and its report in Markdown."""

import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lenet5.core import files
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.registry.promotion import Promotion
from lenet5.stages import params
from lenet5.tracking import experiment_page, run_name, source_code, store, tags

_PICTURES = {"Confusion matrix": "confusion.png", "Calibration": "calibration.png"}
"""Figures in a report; a report holds their bytes, so that it needs no server."""
_LARGEST_PICTURE = 200_000
"""Size limit of a figure in bytes."""
_FIGURES = {
    "accuracy": "test accuracy",
    "mean_corruption_accuracy": "accuracy on corrupted images, mean",
    "worst_class_recall": "recall of the weakest class",
    "calibration_error": "calibration error",
}
"""Titles of metrics by name, in the order of the report."""


def flow_run_name(options: Mapping[str, Any]) -> str:
    """Return the name of a run of the training flow: what is trained, and from which code.

    Args:
        options: parameters of the flow.
    """
    paths = Paths.find()
    try:
        changed = run_name.name(paths, params.load(paths.params).flat())
        source = source_code.find(paths)
    except Lenet5Error:  # the flow itself reports it
        return "training"
    words = [f"{'new data, ' if options.get('new_data') else ''}{changed}"]
    if source:
        words.append(f"at {source.commit[:8]}{' with changes' if source.patch else ''}")
    if forced := options.get("force"):
        words.append(f"({', '.join(forced)} forced)")
    return " ".join(words)


def line(promotion: Promotion) -> str:
    """Return the outcome in one line, for lists of flow runs."""
    return f"version {promotion.version.number}: {_decision(promotion)}"


def _decision(promotion: Promotion) -> str:
    if not promotion.verdict:
        return "champion already"
    return "promoted to champion" if promotion.moved else "kept back, the champion stays"


def artifact_key(promotion: Promotion) -> str:
    """Return the key of the report: one for each registered model, so that Prefect keeps its history."""
    letters = "".join(letter if letter.isalnum() else "-" for letter in promotion.version.name.lower())
    return f"promotion-{letters}".strip("-")


def markdown(paths: Paths, promotion: Promotion) -> str:
    """Return verdict, metrics, pictures and links of one flow run, as Markdown.

    Args:
        paths: the checkout whose outputs the version was made of.
        promotion: the result of the flow run.
    """
    version = promotion.version
    answers = "\n".join(f"- {line}" for line in str(promotion.verdict or "not asked again").splitlines())
    pictures = "\n\n".join(
        f"### {title}\n![{title}](data:image/png;base64,{base64.b64encode(content).decode()})"
        for title, name in _PICTURES.items()
        if (content := _picture(paths, name))
    )
    return f"""\
## {version.name} version {version.number}: {_decision(promotion)}

{_metrics(version.tags)}

{_links(paths, promotion)}

### The gate
{answers}

{pictures}

Commit `{version.tags.get(tags.COMMIT, "unknown")[:12]}`, data `{version.tags[tags.RAW_DATA][:12]}`, \
weights `{version.tags[tags.WEIGHTS][:12]}`. `lenet5 lineage {version.number}` prints the rest.
"""


def _metrics(of_version: Mapping[str, str]) -> str:
    """Return the table of the metrics of a version."""
    rows = []
    if tags.ACCURACY in of_version:
        error = 100 * (1 - float(of_version[tags.ACCURACY]))
        rows.append(f"| **error rate on the test images** | **{error:.2f} %** |")
    for name, title in _FIGURES.items():
        if (value := of_version.get(f"{tags.METRICS}{name}")) is not None:
            rows.append(f"| {title} | {float(value):.4f} |")
    return "\n".join(["| Metric | Value |", "|---|---|", *rows])


def _links(paths: Paths, promotion: Promotion) -> str:
    """Return where the version, its report page and its run can be seen, as Markdown."""
    version = promotion.version
    address, note = store.pages(paths)
    links = {f"version {version.number}": experiment_page.model_link(version.name, version.number)}
    with suppress(Lenet5Error):  # the links to a run need the store; the report does without them
        experiment = store.experiment_of(paths, version.run_id)
        links["report page"] = experiment_page.run_link(experiment, version.run_id, "results/report.html")
        links["run"] = experiment_page.run_link(experiment, version.run_id)
    shown = " · ".join(f"[{title}]({address}{link})" for title, link in links.items())
    return f"MLflow: {shown}{note}"


def _picture(paths: Paths, name: str) -> bytes:
    """Return a figure; empty when this checkout has none, or a very large one."""
    path = paths.figures / name
    content = files.read_bytes(path) if path.exists() else b""
    return content if len(content) <= _LARGEST_PICTURE else b""
