"""What a part measured, where and when: one JSON file for each part in ``benchmarks/results/``."""

import importlib.metadata
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.peers import REQUIREMENTS
from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.system import environment

FOLDER = Path(__file__).parent / "results"
_PACKAGES = ("tensorflow", "keras", "numpy", "mlflow", "prefect", "dvc", "onnxruntime")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Line(_Record):
    """One quantity of one contestant, measured several times."""

    table: str
    name: str
    unit: str
    values: tuple[float, ...]
    """One for each round; a line and its baselines were measured in turns. Empty: no round has a value."""
    baselines: tuple[str, ...] = ()
    """The lines of the same table that this line is divided by."""
    headline: bool = False
    """The documents show it."""
    note: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def range(self) -> tuple[float, float] | None:
        return (min(self.values), max(self.values)) if self.values else None


class Verdict(_Record):
    """A target and what was measured."""

    name: str
    measured: float
    relation: Literal["<=", ">="]
    target: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured <= self.target if self.relation == "<=" else self.measured >= self.target


def at_most(name: str, measured: float, target: float, unit: str = "") -> Verdict:
    return Verdict(name=name, measured=measured, relation="<=", target=target, unit=unit)


def at_least(name: str, measured: float, target: float, unit: str = "") -> Verdict:
    return Verdict(name=name, measured=measured, relation=">=", target=target, unit=unit)


class Result(_Record):
    """One part of one run of the benchmark."""

    part: str
    date: str
    commit: str
    dirty: bool
    machine: dict[str, str]
    versions: dict[str, str]
    quick: bool
    """True: shortened to show that it works; its figures mean nothing."""
    seeds: int
    minutes: float
    others_cores: float | None
    """CPU that other processes used meanwhile, in cores: the mean weighted by time; None: not measured."""
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...] = ()
    repetitions: tuple[dict[str, Any], ...]
    """Every measured process, in order: its name, command, resources and answer."""

    def line(self, table: str, name: str) -> Line:
        """One line.

        Raises:
            DataError: there is none of this table and name.
        """
        return _find(self.lines, table, name)


@dataclass(frozen=True)
class Ratio:
    """A line's median divided by its baseline's."""

    of_medians: float
    low: float
    high: float
    """The range over the rounds, each divided by its own round; over all pairs where values are missing."""


def ratio(line: Line, baseline: str, lines: Sequence[Line]) -> Ratio | None:
    """A line divided by one of its baselines; None when either of them has no value.

    Raises:
        DataError: there is no such baseline in its table.
    """
    other = _find(lines, line.table, baseline)
    if line.median is None or other.median is None:
        return None
    if len(line.values) == len(other.values):  # measured in turns: what slowed one down slowed both down
        each = [mine / its for mine, its in zip(line.values, other.values, strict=True)]
    else:
        each = [mine / its for mine in line.values for its in other.values]
    return Ratio(line.median / other.median, min(each), max(each))


def write(result: Result, folder: Path) -> Path:
    """Write a result to a file named after its part."""
    path = folder / f"{result.part}.json"
    files.write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> Result:
    """Read one result.

    Raises:
        DataError: the file is not a result of this benchmark.
    """
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{path} is not a result.", expected="what `make bench` wrote", found=error, fix="`make bench`"
        ) from None


def machine() -> dict[str, str]:
    """The machine, without its name: the results are published."""
    return {name: value for name, value in environment.machine().items() if name != "host"}


def versions() -> dict[str, str]:
    """The product's packages as they are installed, and the peers' as they are pinned."""
    installed = {name: importlib.metadata.version(name) for name in _PACKAGES}
    pinned = dict(line.split("==") for line in REQUIREMENTS.read_text().split() if "==" in line)
    return pinned | installed


def commit(root: Path) -> tuple[str, bool]:
    """The commit that is checked out, and whether the code differs from it."""
    written = (":!benchmarks/results", ":!README.md", ":!docs")
    changed = _git(root, "status", "--porcelain", "--", *written)
    return _git(root, "rev-parse", "HEAD"), bool(changed)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _find(lines: Sequence[Line], table: str, name: str) -> Line:
    for line in lines:
        if (line.table, line.name) == (table, name):
            return line
    raise DataError("There is no such line in the results.", expected=f"{table}: {name}")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()
