"""The experiments of ``dvc exp run``, and the commits that they start from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet5.system import dvc

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Experiment:
    """One row of ``dvc exp show``."""

    name: str
    """Of the experiment or the branch, or the first characters of a commit."""
    base: str | None
    """Name of the commit that an experiment starts from; None for the workspace and for commits."""
    state: str
    """Such as ``running`` or ``failed``; empty for a finished one."""
    metrics: Mapping[str, float]
    """By name, from all files that ``dvc.yaml`` lists as metrics."""
    changed: list[str]
    """Parameters that differ from the last commit, or from the one that the experiment starts from."""


def collect(root: Path, commits: int) -> list[Experiment]:
    """Return the workspace, the last commits, and the experiments of each commit.

    Args:
        root: The checkout.
        commits: Number of commits.

    Raises:
        Unavailable: DVC cannot say.
    """
    rows: list[dict[str, Any]] = json.loads(dvc.experiments(root, commits))
    last = next((row for row in rows if row["rev"] != WORKSPACE), None)
    found = []
    for row in rows:
        name = WORKSPACE if row["rev"] == WORKSPACE else row["name"] or row["rev"][:7]
        found.append(_experiment(row, last, name=name))
        for of_row in row["experiments"] or []:
            for each in of_row["revs"]:
                state = (of_row["executor"] or {}).get("state") or ""
                label = each["name"] or each["rev"][:7]
                found.append(_experiment(each, row, name=label, base=name, state=state))
    return found


def changed_values(values: Mapping[str, object], base: Mapping[str, object], most: int = 3) -> list[str]:
    """Return the parameters that differ from others, in short words such as ``kernel_size 5``.

    Args:
        values: Parameters by dotted name; the words have the last part of the name.
        base: The others.
        most: Largest number of parameters that are named; of the rest, the last word has the number.
    """
    names = [name for name in {**values, **base} if values.get(name) != base.get(name)]
    words = [f"{name.rpartition('.')[2]} {values.get(name, 'not set')}" for name in names[:most]]
    if left_out := len(names) - len(words):
        words.append(f"{left_out} more parameter{'s' if left_out > 1 else ''}")
    return words


def _experiment(
    row: Mapping[str, Any],
    against: Mapping[str, Any] | None,
    *,
    name: str,
    base: str | None = None,
    state: str = "",
) -> Experiment:
    metrics = {
        metric: value
        for metric, value in _flat(row, "metrics").items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    values, before = _flat(row, "params"), _flat(against or {}, "params")
    changed = changed_values(values, before) if values and before else []
    return Experiment(name, base, "failed" if row.get("error") else state.lower(), metrics, changed)


def _flat(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the values of all files of one kind by dotted name."""
    data = row.get("data") or {}
    trees = [content.get("data") or {} for content in data.get(kind, {}).values()]
    return {name: value for tree in trees for name, value in _leaves(tree)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
