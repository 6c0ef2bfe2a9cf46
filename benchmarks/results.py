"""What a benchmark found, as it lies in ``benchmarks/results/``: one JSON file a part."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from lenet5.core import files
from lenet5.core.errors import DataError

FOLDER = Path(__file__).parent / "results"


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False
    )  # what is computed is written, too, and not read


class Line(_Record):
    """One quantity of one contestant, measured some times."""

    table: str
    name: str
    unit: str
    values: tuple[float, ...]
    """In the order of the rounds: a line and its baselines were measured in turn. Empty: never reached."""
    baselines: tuple[str, ...] = ()
    """The lines of the same table that ratios are to."""
    headline: bool = False
    """The README shows it."""
    note: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def range(self) -> tuple[float, float] | None:
        return (min(self.values), max(self.values)) if self.values else None


class Verdict(_Record):
    """What was aimed at, and what came of it."""

    name: str
    measured: float
    relation: Literal["<=", ">="]
    target: float
    unit: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool:
        if self.relation == "<=":
            return self.measured <= self.target
        return self.measured >= self.target


class Result(_Record):
    """One part of one run of the benchmark."""

    part: str
    about: str
    date: str
    commit: str
    dirty: bool
    machine: dict[str, str]
    versions: dict[str, str]
    quick: bool
    """True: shortened to see that it works; its figures mean nothing."""
    seeds: int
    minutes: float
    others_cores: float
    """CPU that others used while the part ran, in cores: the mean over the repetitions, by their length."""
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict, ...] = ()
    repetitions: tuple[dict[str, Any], ...]
    """Every measured process, in order: who, which seed, what it took, what it answered."""


@dataclass(frozen=True)
class Ratio:
    """Of a line's median to its baseline's: below 1, it takes or does less than the baseline."""

    of_medians: float
    low: float
    high: float
    """The range over the repetitions, each to its own round's; over all pairs where some are missing."""


def ratio(line: Line, baseline: str, lines: Sequence[Line]) -> Ratio | None:
    """A line against one of its baselines; None when either of them has no value.

    Raises:
        DataError: there is no such baseline in its table.
    """
    for other in lines:
        if (other.table, other.name) == (line.table, baseline):
            break
    else:
        raise DataError(f"{line.table}, {line.name}: there is no baseline.", expected=baseline)
    if line.median is None or other.median is None:
        return None
    if len(line.values) == len(other.values):  # measured in turn: what slowed one slowed both
        each = [mine / its for mine, its in zip(line.values, other.values, strict=True)]
    else:
        each = [mine / its for mine in line.values for its in other.values]
    return Ratio(line.median / other.median, min(each), max(each))


def write(result: Result, folder: Path) -> Path:
    """Write a result under its part's name."""
    path = folder / f"{result.part}.json"
    files.write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> Result:
    """Read one result.

    Raises:
        DataError: the file is no result of this benchmark.
    """
    try:
        content = path.read_text(encoding="utf-8")
        return Result.model_validate_json(content)
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{path} is no result.", expected="what `make bench` wrote", found=error, fix="`make bench`"
        ) from None
