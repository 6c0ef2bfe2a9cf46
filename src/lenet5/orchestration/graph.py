"""The graph as DVC reads it from ``dvc.yaml``. There is no other list of stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.exceptions import DvcException
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from lenet5.core.errors import UsageError
from lenet5.core.text import did_you_mean
from lenet5.system import dvc


class StageMeta(BaseModel):
    """``meta`` of a stage in ``dvc.yaml``: settings for the flow, which DVC ignores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: PositiveInt = 3600
    retries: NonNegativeInt = 0
    work_pool: str | None = None
    """The Prefect work pool whose workers run the stage while one of them is alive."""
    resources: dict[str, str | int | float] = Field(default_factory=dict)
    """What the stage needs of a machine: job variables that the template of the pool knows."""
    replacements: NonNegativeInt = 2
    """How often the stage is sent to another worker after one died."""


@dataclass(frozen=True)
class Stage:
    """One stage of the graph."""

    name: str
    description: str
    after: frozenset[str]
    """The stages whose outputs it reads."""
    meta: StageMeta


def stages(root: Path) -> list[Stage]:
    """Return every stage of a checkout, each one after those that it depends on.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read, or a stage's ``meta`` has an unknown key.
        DataError: a file of the graph is a pipe, a socket, a device or a loop of links.
    """
    return read(root)[0]


def read(root: Path, *, with_status: bool = False) -> tuple[list[Stage], list[str] | None]:
    """Read the graph, and ask DVC which stages it would run. Both take one look at the checkout.

    Args:
        root: the checkout.
        with_status: ask DVC; this compares every file of the graph with ``dvc.lock``.

    Returns:
        The stages as :func:`stages`; and the names of those that are out of date, or None when DVC was not
        asked or cannot say.

    Raises:
        UsageError, DataError: as :func:`stages`.
    """
    dvc.require_regular(root)
    try:
        with dvc.repository(root) as repo:
            graph = repo.index.graph  # an edge from A to B means that A depends on B
            ordered = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda s: s.name)
            nodes = [_stage(node, frozenset(d.name for d in graph.successors(node))) for node in ordered]
            try:
                return nodes, dvc.stale(repo) if with_status else None
            except DvcException:
                return nodes, None
    except DvcException as error:
        raise UsageError(
            "The graph cannot be read.",
            expected="a git checkout with a valid dvc.yaml",
            found=error,
            fix="correct dvc.yaml, or clone the project with git",
        ) from error


def require(names: Sequence[str], stages: Sequence[Stage]) -> None:
    """Check that every name is the name of a stage.

    Raises:
        UsageError: a name is not.
    """
    known = [stage.name for stage in stages]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"There is no stage {unknown[0]}.",
            expected=", ".join(known),
            found=", ".join(unknown),
            fix=did_you_mean(unknown[0], known) or "choose one of them",
        )


def _stage(node: object, after: frozenset[str]) -> Stage:
    name = str(node.name)  # type: ignore[attr-defined]
    try:
        meta = StageMeta.model_validate(node.meta or {})  # type: ignore[attr-defined]
    except ValidationError as error:
        raise UsageError(f"`meta` of stage {name} in dvc.yaml cannot be used.", found=error) from None
    return Stage(name, str(node.desc or ""), after, meta)  # type: ignore[attr-defined]
