"""Read and check ``sweep.yaml``: the searched parameters, their ranges, the sampler and the pruner."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.params import Seed
from lenet5.stages.params import Params

if TYPE_CHECKING:
    from optuna.trial import Trial

SECTION = "train."
"""Prefix of the parameters that can be searched. All trials use the same processed data."""
_NOT_SEARCHED = {
    "train.architecture": "a sweep searches the parameters of one architecture",
    "train.seed": "the best seed is only lucky on the validation images",
    "train.threads": "a process sets it once, and it does not improve a score",
    "train.steps_per_execution": "it changes the speed and not the score",
}
_DIGITS = 4
"""Significant digits of a float. More would not change a score, and a person reads these in params.yaml."""

Number = int | float


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Range(_Record):
    """Numbers from ``low`` to ``high``, both included; integers if the parameter is an integer."""

    low: Number
    high: Number
    log: bool = False
    """Whether the values are drawn uniformly on a logarithmic scale."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """Distance between two values, counted from ``low``; none allows every value."""

    @model_validator(mode="after")
    def _usable(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 on a logarithmic scale, found {self.low}")
        if self.log and self.step:
            raise ValueError("log and step exclude each other")
        return self

    def draw(self, trial: "Trial", name: str, *, is_integer: bool) -> Number:
        """Draw the value of a parameter for a trial."""
        if is_integer:
            step = int(self.step or 1)
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def values_to_check(self, *, is_integer: bool) -> list[Any]:
        """Return values that stand for all others: if the schema accepts these, it accepts every value.

        The limits of a float are an interval, so its ends are enough. The limits of an integer can be a list.
        """
        if not is_integer:
            return [float(self.low), float(self.high)]
        return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))

    def contains(self, value: Any) -> bool:
        """Return whether a trial can have this value."""
        is_on_a_step = not self.step or abs((value - self.low) / self.step % 1) < 1e-9
        return self.low <= value <= self.high and is_on_a_step


class Choices(_Record):
    """A list of values, each drawn with the same probability at first."""

    choices: Annotated[list[bool | int | float | str], Field(min_length=2)]

    def draw(self, trial: "Trial", name: str, *, is_integer: bool) -> Any:
        """Draw the value of a parameter for a trial."""
        return trial.suggest_categorical(name, self.choices)

    def values_to_check(self, *, is_integer: bool) -> list[Any]:
        """Return all values."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """Return whether a trial can have this value."""
        return value in self.choices


class Percentile(_Record):
    """Prunes a trial that, after an epoch, is not among the best of the completed trials."""

    kind: Literal["percentile"]
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Share of the trials that counts as the best; 0.5 is the median rule."""
    startup_trials: NonNegativeInt = 5
    """Number of completed trials before the first one is pruned."""
    warmup_epochs: NonNegativeInt = 1
    """Number of epochs after which no trial is pruned."""


class Halving(_Record):
    """Successive halving: of the trials that reach an epoch, one of ``reduction`` continues."""

    kind: Literal["halving"]
    min_epochs: PositiveInt = 1
    reduction: Annotated[int, Field(ge=2)] = 3


class NoPruner(_Record):
    """Prunes no trial."""

    kind: Literal["none"]


class Sweep(_Record):
    """The content of ``sweep.yaml``."""

    trials: PositiveInt
    seed: Seed
    pruner: Annotated[Percentile | Halving | NoPruner, Field(discriminator="kind")]
    space: Annotated[dict[str, Range | Choices], Field(min_length=1)]
    """Ranges and choices by the dotted name of the parameter."""

    def draw(self, trial: "Trial", params: Params) -> dict[str, Any]:
        """Draw the values of a trial, by dotted name."""
        for name, dimension in self.space.items():
            dimension.draw(trial, name, is_integer=_is_integer(params, name))
        return self.values(trial.params)

    def values(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Return drawn values as the training uses them: floats with few digits, within their range."""
        return {name: self._rounded(name, drawn[name]) for name in self.space if name in drawn}

    def fixed(self, params: Params) -> dict[str, Any]:
        """Return the parameters of the training that are not searched, by dotted name."""
        return {
            name: value
            for name, value in params.flat().items()
            if name.startswith(SECTION) and name not in self.space
        }

    def own_values(self, params: Params) -> dict[str, Any] | None:
        """Return the values that ``params.yaml`` has for the space, or None if no trial can have them."""
        flat = params.flat()
        own = {name: flat[name] for name in self.space}
        is_inside = all(self.space[name].contains(value) for name, value in own.items())
        return own if is_inside and self.values(own) == own else None

    def _rounded(self, name: str, value: Any) -> Any:
        dimension = self.space[name]
        if not isinstance(value, float) or not isinstance(dimension, Range):
            return value
        return min(max(float(f"{value:.{_DIGITS}g}"), float(dimension.low)), float(dimension.high))


def load(path: Path, params: Params) -> Sweep:
    """Read and check a file like ``sweep.yaml``.

    Raises:
        UsageError: the file is missing, is not YAML, or has a key, name or value that cannot be used.
    """
    try:
        content = YAML(typ="safe").load(files.read_text(path))
    except FileNotFoundError:
        raise UsageError(
            "The file with the search space is missing.",
            expected=path,
            fix="git checkout sweep.yaml, or give another file with --space",
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML.", found=error, fix="correct the syntax of the file") from None
    try:
        sweep = Sweep.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"    {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(
            f"{path} has values that cannot be used:\n{problems}",
            fix="correct them; the comments in sweep.yaml and docs/sweep.md give the meaning",
        ) from None
    for name, dimension in sweep.space.items():
        _require_searchable(path, name, params)
        _require_usable(path, name, dimension, params)
    return sweep


def _require_searchable(path: Path, name: str, params: Params) -> None:
    searchable = [key for key in params.flat() if key.startswith(SECTION) and key not in _NOT_SEARCHED]
    if name in searchable:
        return
    reason = _NOT_SEARCHED.get(
        name, "only parameters of the training can be, because all trials use the same data"
    )
    raise UsageError(
        f"{path}: {name} cannot be searched: {reason}.",
        expected=", ".join(searchable),
        found=name,
        fix="remove it from `space`",
    )


def _require_usable(path: Path, name: str, dimension: Range | Choices, params: Params) -> None:
    is_integer = _is_integer(params, name)
    if isinstance(dimension, Range) and is_integer:
        numbers = (dimension.low, dimension.high, dimension.step)
        if any(isinstance(number, float) for number in numbers):
            raise UsageError(
                f"{path}: {name} is an integer.",
                expected="integers for low, high and step",
                found=dimension.model_dump(),
                fix="write numbers without a decimal point",
            )
    for value in dimension.values_to_check(is_integer=is_integer):
        try:
            params.changed({name: value})
        except UsageError as error:
            problem = str(error).splitlines()[1].strip()
            raise UsageError(
                f"{path}: the space of {name} holds a value that cannot be used.",
                found=problem,
                fix="narrow the range; the comments in params.yaml give the limits",
            ) from None


def _is_integer(params: Params, name: str) -> bool:
    value = params.flat()[name]
    return isinstance(value, int) and not isinstance(value, bool)
