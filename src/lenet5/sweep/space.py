"""``sweep.yaml``, typed: which parameters are searched, where, and how; checked before anything trains."""

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

from lenet5.core.errors import UsageError
from lenet5.core.params import Seed
from lenet5.stages.params import Params

if TYPE_CHECKING:
    from optuna.trial import Trial

SECTION = "train."
"""What may be searched: the data is made before a sweep begins, and the gate is no matter of taste."""
_NOT_SEARCHED = {
    "train.seed": "the best seed is the luckiest one",
    "train.threads": "it is fixed when a process begins, and changes no score",
    "train.steps_per_execution": "it changes the speed and no score",
}
_DIGITS = 4
"""Significant ones of a float: a winner is to be read in params.yaml, and no score tells more apart."""

Number = int | float


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Range(_Record):
    """Numbers from low to high, both included; of integers where the parameter is one."""

    low: Number
    high: Number
    log: bool = False
    """Drawn evenly on a logarithmic scale."""
    step: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _usable(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale begins above 0, found {self.low}")
        if self.log and self.step:
            raise ValueError("a logarithmic scale has no step")
        return self

    def draw(self, trial: "Trial", name: str, *, whole: bool) -> Number:
        if whole:
            step = int(self.step or 1)
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def extremes(self, *, whole: bool) -> list[Any]:
        """Values that have to be usable for all to be: a parameter's limits are those of an interval."""
        if not whole:
            return [float(self.low), float(self.high)]
        # but for integers, of which some are a list
        return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))

    def holds(self, value: Any) -> bool:
        is_on_a_step = not self.step or abs((value - self.low) / self.step % 1) < 1e-9
        return self.low <= value <= self.high and is_on_a_step


class Choices(_Record):
    """Any of these."""

    choices: Annotated[list[bool | int | float | str], Field(min_length=2)]

    def draw(self, trial: "Trial", name: str, *, whole: bool) -> Any:
        return trial.suggest_categorical(name, self.choices)

    def extremes(self, *, whole: bool) -> list[Any]:
        return list(self.choices)

    def holds(self, value: Any) -> bool:
        return value in self.choices


class Percentile(_Record):
    """Ends a trial that is not among the best after an epoch, of those that were trained to their end."""

    kind: Literal["percentile"]
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """The share that is: 0.5 is the median rule."""
    startup_trials: NonNegativeInt = 5
    """So many come to their end before any is ended."""
    warmup_epochs: NonNegativeInt = 1
    """So many epochs is every trial given."""


class Halving(_Record):
    """Successive halving: of those that have come so far, one of ``reduction`` goes on."""

    kind: Literal["halving"]
    min_epochs: PositiveInt = 1
    reduction: Annotated[int, Field(ge=2)] = 3


class NoPruner(_Record):
    kind: Literal["none"]


class Sweep(_Record):
    """The whole of ``sweep.yaml``."""

    trials: PositiveInt
    seed: Seed
    pruner: Annotated[Percentile | Halving | NoPruner, Field(discriminator="kind")]
    space: Annotated[dict[str, Range | Choices], Field(min_length=1)]

    def draw(self, trial: "Trial", params: Params) -> dict[str, Any]:
        """The values of a trial, by dotted name."""
        for name, dimension in self.space.items():
            dimension.draw(trial, name, whole=_is_whole(params, name))
        return self.values(trial.params)

    def values(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """What was drawn, as it goes into a training: floats have few digits and stay in their range."""
        return {name: self._short(name, drawn[name]) for name in self.space if name in drawn}

    def fixed(self, params: Params) -> dict[str, Any]:
        """The parameters of the training that are not searched, by dotted name: all trials have them."""
        return {
            name: value
            for name, value in params.flat().items()
            if name.startswith(SECTION) and name not in self.space
        }

    def own_values(self, params: Params) -> dict[str, Any] | None:
        """What ``params.yaml`` says of the parameters that are searched; None when that is never drawn."""
        flat = params.flat()
        found = {name: flat[name] for name in self.space}
        inside = all(self.space[name].holds(value) for name, value in found.items())
        return found if inside and self.values(found) == found else None

    def _short(self, name: str, value: Any) -> Any:
        dimension = self.space[name]
        if not isinstance(value, float) or not isinstance(dimension, Range):
            return value
        return min(max(float(f"{value:.{_DIGITS}g}"), float(dimension.low)), float(dimension.high))


def load(path: Path, params: Params) -> Sweep:
    """Read and check a file like ``sweep.yaml``.

    Raises:
        UsageError: it is missing, is not YAML, or has a key, name or value that cannot be used.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            "There is nothing to search.",
            expected=path,
            fix="git checkout sweep.yaml, or give another --space",
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML.", found=error) from None
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
    known = [key for key in params.flat() if key.startswith(SECTION) and key not in _NOT_SEARCHED]
    if name in known:
        return
    reason = _NOT_SEARCHED.get(name, "only parameters of the training can be, on data that is made already")
    raise UsageError(
        f"{path}: {name} cannot be searched: {reason}.",
        expected=", ".join(known),
        found=name,
        fix="take it out of `space`",
    )


def _require_usable(path: Path, name: str, dimension: Range | Choices, params: Params) -> None:
    whole = _is_whole(params, name)
    if isinstance(dimension, Range) and whole and any(isinstance(each, float) for each in _ends(dimension)):
        raise UsageError(f"{path}: {name} is an integer.", expected="integers", found=dimension.model_dump())
    for value in dimension.extremes(whole=whole):
        try:
            params.changed({name: value})
        except UsageError as error:
            told = str(error).splitlines()[1].strip()
            raise UsageError(
                f"{path}: the space of {name} holds a value that cannot be used.",
                found=told,
                fix="narrow it; the comments in params.yaml give the limits",
            ) from None


def _ends(dimension: Range) -> tuple[Number | None, ...]:
    return dimension.low, dimension.high, dimension.step


def _is_whole(params: Params, name: str) -> bool:
    value = params.flat()[name]
    return isinstance(value, int) and not isinstance(value, bool)
