"""The graph as DVC knows it. There is no other list of stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from lenet5.core.errors import UsageError


class Placement(BaseModel):
    """``meta`` of a stage in ``dvc.yaml``: what the flow needs to know and DVC does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: PositiveInt = 3600
    retries: NonNegativeInt = 0
    work_pool: str | None = None
    """Prefect's pool whose workers run the stage, when one of them is alive."""
    resources: dict[str, str | int | float] = Field(default_factory=dict)
    """What the stage needs of a machine: job variables, by names that the pool's template knows."""
    replacements: NonNegativeInt = 2
    """How often a worker that dies is replaced by another one."""


@dataclass(frozen=True)
class Stage:
    name: str
    about: str
    after: frozenset[str]
    """The stages whose outputs it reads."""
    placement: Placement


def stages(root: Path) -> list[Stage]:
    """Every stage of the checkout, each after those it depends on.

    Raises:
        UsageError: ``dvc.yaml`` cannot be read, or a stage's ``meta`` has an unknown key.
    """
    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph  # an edge from A to B: A depends on B
            ordered = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda s: s.name)
            return [_stage(node, frozenset(d.name for d in graph.successors(node))) for node in ordered]
    except DvcException as error:
        raise UsageError(
            "The graph cannot be read.",
            expected="a git checkout with a valid dvc.yaml",
            found=error,
            fix="correct dvc.yaml, or clone the project with git",
        ) from error


def require(named: Sequence[str], nodes: Sequence[Stage]) -> None:
    """Refuse a name that no stage has.

    Raises:
        UsageError: there is one.
    """
    known = [node.name for node in nodes]
    if unknown := [name for name in named if name not in known]:
        raise UsageError(
            f"There is no stage {unknown[0]}.", expected=", ".join(known), found=", ".join(unknown)
        )


def _stage(node: object, after: frozenset[str]) -> Stage:
    name = str(node.name)  # type: ignore[attr-defined]
    try:
        placement = Placement.model_validate(node.meta or {})  # type: ignore[attr-defined]
    except ValidationError as error:
        raise UsageError(f"`meta` of stage {name} in dvc.yaml cannot be used.", found=error) from None
    return Stage(name, str(node.desc or ""), after, placement)  # type: ignore[attr-defined]
