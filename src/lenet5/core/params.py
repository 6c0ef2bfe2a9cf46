"""Define the base of every parameter schema: strict types, no unknown keys, all problems in one error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lenet5.core.errors import UsageError
from lenet5.core.text import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's generators take 32 bits
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A part of ``params.yaml``. It is immutable, and an unknown key is an error."""

    # with strict types, "4", 4.0 and true are not integers
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def flat(self) -> dict[str, Any]:
        """Return every parameter by its dotted name, such as ``train.learning_rate``."""
        return dict(_flatten(self.model_dump(by_alias=True)))


SectionT = TypeVar("SectionT", bound=Section)


def check(schema: type[SectionT], content: Mapping[str, Any], *, where: str, fix: str) -> SectionT:
    """Validate values against a schema.

    Args:
        schema: the class to validate with.
        content: the values by key.
        where: the source of the values, for the error.
        fix: what the user can do, for the error.

    Raises:
        UsageError: a key is unknown or missing, or a value is out of range. The message lists every problem.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"    {_problem(schema, details)}" for details in error.errors())
        raise UsageError(f"{where} has values that cannot be used:\n{problems}", fix=fix) from None


def key_names(schema: type[BaseModel]) -> str:
    """Return the keys of a schema as a list for a message."""
    return ", ".join(_keys(schema))


def _keys(schema: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in schema.model_fields.items()]


def _problem(schema: type[Section], details: "ErrorDetails") -> str:
    """Describe one problem in a line: the dotted name, what is wrong, what was found."""
    *sections, key = details["loc"]
    name = ".".join(map(str, details["loc"]))
    match details["type"]:
        case "missing":
            return f"{name}: is missing"
        case "extra_forbidden":
            parent: Any = schema
            for section in sections:
                parent = next(f.annotation for n, f in parent.model_fields.items() if section in (n, f.alias))
            text = f"{name}: there is no {key!r} here, but {key_names(parent)}"
            question = did_you_mean(str(key), _keys(parent))
            return f"{text}\n        {question}" if question else text
        case "value_error":  # a validator of a whole section raised it, and its message names the values
            return f"{name}: {details['ctx']['error']}"
        case "model_type":
            return f"{name}: should be a section with keys, found {details['input']!r}"
    return f"{name}: {details['msg']}, found {details['input']!r}"


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        rows += _flatten(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return rows
