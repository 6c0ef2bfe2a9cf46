"""Report pages of registered versions: the verdict of the gate is added, or two versions are side by side.

The page that the stage ``evaluate`` wrote is an artifact of the version. Its section on the verdict is
replaced, because the verdict depends on the registry.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from lenet5.core import html
from lenet5.core.errors import DataError, Refused
from lenet5.core.paths import Paths
from lenet5.core.text import printable
from lenet5.registry import lineage, model_versions, promotion
from lenet5.registry.model_versions import REPORT, Version
from lenet5.registry.promotion import Review
from lenet5.stages.evaluate import report
from lenet5.stages.params import Params
from lenet5.tracking import runs, store, tags

_TEMPLATES = [Path(__file__).parent, report.TEMPLATES]
_SECTION = re.compile(r'<section id="([a-z]+)".*?</section>\n', re.DOTALL)
_REFERENCES = re.compile(r'\b(id|aria-labelledby)="([^"]+)"|href="#([^"]+)"')
_SIDE_BY_SIDE = ("training", "splits", "classes", "calibration", "robustness", "slices", "mistakes", "inside")
"""The sections of two versions that are shown beside each other, if both have them."""


@dataclass(frozen=True)
class Facts:
    """What the registry knows about one version."""

    version: Version
    page: str
    """The page that the stage ``evaluate`` wrote."""
    params: Mapping[str, str]
    """By dotted name."""

    @property
    def origin(self) -> dict[str, str]:
        """Return where the version was made, by title; the page has the packages and the device already."""
        return {
            title: self.version.tags[name]
            for name, title in tags.ORIGIN.items()
            if self.version.tags.get(name) and not name.startswith(tags.ENVIRONMENT)
        }


def of_version(paths: Paths, params: Params, wanted: str) -> tuple[Version, str]:
    """Return a version and its page, with the verdict of the gate.

    Args:
        paths: the checkout, for its settings, and for test images where versions were evaluated on others.
        params: the name of the model and the limits of the gate.
        wanted: a number or an alias.

    Raises:
        UsageError: there is no such version.
        DataError: the version has no page, or another one than it was registered with.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        facts = _facts(paths, params, wanted)
        review, problem = _review(paths, params, str(facts.version.number))
    section = html.render(
        "verdict.html.j2",
        _TEMPLATES,
        facts=facts,
        recorded=facts.version.tags.get(tags.DECISION),
        review=review,
        problem=problem,
        metrics=_paired(_metrics(facts.version), _metrics(review.against if review else None)),
        groups=_groups(review),
        heat_map=_heat_map(review),
        recipe={
            name: value for name, value in facts.params.items() if name.startswith(("preprocess.", "train."))
        },
    )
    return facts.version, report.with_verdict(facts.page, section)


def of_two(paths: Paths, params: Params, one: str, other: str) -> tuple[tuple[Version, Version], str]:
    """Return two versions, and a page that shows them side by side.

    The second version is the candidate; the first one has the place of the champion.

    Raises:
        UsageError: there is no such version.
        DataError: a version has no page, or another one than it was registered with.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths):
        left, right = (_facts(paths, params, wanted) for wanted in (one, other))
        review, problem = _review(paths, params, str(right.version.number), str(left.version.number))
        differences = lineage.diff(paths, params, str(left.version.number), str(right.version.number))
    sections = [dict(_sections(facts)) for facts in (left, right)]
    page = html.render(
        "comparison.html.j2",
        _TEMPLATES,
        left=left,
        right=right,
        review=review,
        problem=problem,
        metrics=_paired(_metrics(right.version), _metrics(left.version)),
        groups=_groups(review),
        heat_map=_heat_map(review),
        differences={name: rows for name, rows in differences["differences"].items() if rows},
        pairs={
            name: [each[name] for each in sections]
            for name in _SIDE_BY_SIDE
            if all(name in s for s in sections)
        },
    )
    return (left.version, right.version), page


def _facts(paths: Paths, params: Params, wanted: str) -> Facts:
    client = store.connect(paths)
    version = model_versions.find(client, params.register_.model_name, wanted)
    if REPORT not in model_versions.artifacts(version):
        raise DataError(
            f"Version {version.number} has no report page.",
            expected=f"{REPORT} in its run",
            found="none: an earlier release registered the version",
            fix="`lenet5 lineage VERSION` shows what is known; `lenet5 run` registers versions with a page",
        )
    with tempfile.TemporaryDirectory() as folder:
        page = model_versions.artifact(client, version, REPORT, Path(folder)).read_text(encoding="utf-8")
    return Facts(version, page, runs.params(client, version.run_id))


def _review(
    paths: Paths, params: Params, wanted: str, against: str | None = None
) -> tuple[Review | None, str]:
    """Ask the gate; return None and the reason when it cannot compare the two here."""
    try:
        return promotion.review(paths, params, wanted, against), ""
    except (DataError, Refused) as error:  # test images are elsewhere, a file is damaged, or other data
        return None, printable(str(error))


def _metrics(version: Version | None) -> dict[str, float]:
    """Return the metrics of a version on its test images, by name; empty without a version."""
    prefix = tags.METRICS
    return {
        name.removeprefix(prefix): float(value)
        for name, value in (sorted(version.tags.items()) if version else ())
        if name.startswith(prefix) and name != f"{prefix}images"
    }


def _paired(candidate: Mapping[str, float], champion: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each metric: ``name``, ``candidate``, ``champion`` (None where it is missing)."""
    return [
        {"name": name, "candidate": value, "champion": champion.get(name)}
        for name, value in candidate.items()
    ]


def _groups(review: Review | None) -> list[dict[str, Any]]:
    """Return the corruptions and slices of a verdict; the largest loss of the candidate first."""
    if review is None or review.verdict.groups is None:
        return []
    ordered = review.verdict.groups.sort_values("difference", kind="stable")
    return [{str(key): value for key, value in row.items()} for row in ordered.to_dict("records")]


def _heat_map(review: Review | None) -> dict[str, Any] | None:
    """Return the differences on corrupted images as rows and columns; None when there is nothing to compare.

    Returns:
        ``severities``, ``images``, and ``rows``, the largest loss of the candidate first: for each corruption
        its ``name``, the mean ``difference`` over the severities, and ``cells``, one for each severity: a
        row of :attr:`lenet5.registry.predictions.PairedAnswers.by_severity`, or None.
    """
    table = review.answers.by_severity if review else None
    if table is None:
        return None
    severities = sorted(set(table["severity"]))
    rows = []
    for name, cells in table.groupby("corruption", sort=False, observed=True):
        by_severity = {cell["severity"]: cell for cell in cells.to_dict("records")}
        rows.append(
            {
                "name": name,
                "difference": float(cells["difference"].mean()),
                "cells": [by_severity.get(severity) for severity in severities],
            }
        )
    return {
        "severities": severities,
        "images": int(table["images"].max()),
        "rows": sorted(rows, key=itemgetter("difference")),
    }


def _sections(facts: Facts) -> list[tuple[str, str]]:
    """Return the sections of a page by id. The ids in it get a prefix, because another page has the same."""
    prefix = f"v{facts.version.number}-"

    def renamed(match: re.Match[str]) -> str:
        attribute, names, target = match.groups()
        if target:
            return f'href="#{prefix}{target}"'
        return f'{attribute}="{" ".join(prefix + name for name in names.split())}"'

    return [(match[1], _REFERENCES.sub(renamed, match[0])) for match in _SECTION.finditer(facts.page)]
