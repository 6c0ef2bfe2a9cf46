"""``params.yaml``, typed: every value is checked before a stage runs, and an unknown key is an error."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lenet5 import files
from lenet5.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's generators take 32 bits
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Section(BaseModel):
    # strict: "4", 4.0 and true are no integers
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def flat(self) -> dict[str, Any]:
        """Every parameter under its dotted name, as in ``train.learning_rate``."""
        return dict(_flatten(self.model_dump(by_alias=True)))


class Checksums(_Section):
    train_images: Sha256
    train_labels: Sha256
    test_images: Sha256
    test_labels: Sha256


class Ingest(_Section):
    source: Annotated[str, StringConstraints(min_length=1)]
    sha256: Checksums
    max_megabytes: Positive
    attempts: Positive


class Validate(_Section):
    height: Positive
    width: Positive
    pixel_min: Natural
    pixel_max: Positive
    ink_threshold: Natural
    ink_share_min: Share
    ink_share_max: Share
    class_share_min: Share
    class_share_max: Share
    max_train_duplicates: Natural
    max_test_in_train: Natural
    max_ink_drift: Annotated[float, Field(gt=0)]
    max_class_drift: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _ordered(self) -> "Validate":
        for name in ("pixel", "ink_share", "class_share"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low >= high:
                raise ValueError(f"{name}_min must be below {name}_max, found {low} and {high}")
        return self


class Preprocess(_Section):
    seed: Seed
    validation_images: Positive
    padding: Annotated[int, Field(ge=0, le=14)]


class Distortion(_Section):
    shift: Annotated[float, Field(ge=0, le=14)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]


class Train(_Section):
    seed: Seed
    kernel_size: Literal[3, 5]
    optimizer: Literal["adamw", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    beta_2: Annotated[float, Field(gt=0, lt=1)]
    schedule: Literal["cosine", "constant"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    distortion: Distortion
    batch_size: Positive
    epochs: Positive
    patience: Natural
    steps_per_execution: Positive
    threads: Positive
    precision: Literal["float32", "mixed_bfloat16"]
    workers: Positive

    @model_validator(mode="after")
    def _divisible(self) -> "Train":
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size must be divisible by workers, found {self.batch_size} and {self.workers}"
            )
        return self


class Evaluate(_Section):
    batch_size: Positive
    calibration_bins: Positive
    mistakes: Annotated[int, Field(gt=0, le=100)]  # a figure has room for so many


class Floors(_Section):
    accuracy: Share
    worst_class_recall: Share


class Ceilings(_Section):
    calibration_error: Share


class Gate(_Section):
    margin: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    tie: Literal["keep", "promote"]
    resamples: Positive
    seed: Seed


class Register(_Section):
    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]
    floors: Floors
    ceilings: Ceilings
    gate: Gate


class Params(_Section):
    """The whole of ``params.yaml``; a section is a stage's, by name."""

    ingest: Ingest
    validate_: Annotated[Validate, Field(alias="validate")]
    preprocess: Preprocess
    train: Train
    evaluate: Evaluate
    register_: Annotated[Register, Field(alias="register")]

    def section(self, stage: str) -> Any:
        """The section of one stage."""
        field = next(n for n, f in type(self).model_fields.items() if stage in (n, f.alias))
        return getattr(self, field)

    def changed(self, values: Mapping[str, Any]) -> "Params":
        """The same with other values, by dotted name, and checked like those of the file.

        Raises:
            UsageError: a name is unknown, or a value cannot be used; the message lists all of them.
        """
        content = self.model_dump(by_alias=True)
        for name, value in values.items():
            _set(content, name, value)
        return _check(
            content, "These parameters", "choose others; the comments in params.yaml give the limits"
        )


def load(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        UsageError: the file is missing, is not YAML, or a key is unknown, missing or out of range;
            the message lists every such key at once.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("There are no parameters.", expected=path, do="git checkout params.yaml") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML.", found=error) from None
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} holds no parameters.",
            expected=f"the sections {_keys(Params)}",
            found="nothing" if content is None else repr(content),
            do="git checkout params.yaml",
        )
    return _check(
        content, str(path), "correct them; the comments in params.yaml give the meaning and the limits"
    )


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write values into ``params.yaml``, by dotted name; comments and all else stay as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        _replace(content, name, value)
    with files.replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def pin(path: Path, found: Checksums) -> None:
    """Write what ``ingest.sha256`` is to pin into ``params.yaml``."""
    write(path, {f"ingest.sha256.{name}": digest for name, digest in found.model_dump().items()})


def _check(content: dict[str, Any], where: str, do: str) -> Params:
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"    {_problem(details)}" for details in error.errors())
        raise UsageError(f"{where} has values that cannot be used:\n{problems}", do=do) from None


def _replace(content: Any, name: str, value: Any) -> None:
    """Set what is there already, and keep the comment behind it at its distance."""
    *sections, key = name.split(".")
    for section in sections:
        content = content[section]
    comment = content.ca.items.get(key, [None] * 3)[2]
    if comment is not None:
        comment.column += len(str(value)) - len(str(content[key]))
    content[key] = value


def _set(content: dict[str, Any], name: str, value: Any) -> None:
    """Set what a dotted name leads to; a section that is not there is made, for the check to refuse."""
    *sections, key = name.split(".")
    for section in sections:
        if not isinstance(content.get(section), dict):
            content[section] = {}
        content = content[section]
    content[key] = value


def _problem(details: "ErrorDetails") -> str:
    """One line: the dotted name, what is wrong, what was found."""
    *sections, key = details["loc"]
    name = ".".join(map(str, details["loc"]))
    match details["type"]:
        case "missing":
            return f"{name}: is missing"
        case "extra_forbidden":
            model: Any = Params
            for section in sections:
                model = next(f.annotation for n, f in model.model_fields.items() if section in (n, f.alias))
            return f"{name}: there is no {key!r} here, but {_keys(model)}"
        case "value_error":  # our own, of a whole section; it names the values
            return f"{name}: {details['ctx']['error']}"
        case "model_type":
            return f"{name}: should be a section with keys, found {details['input']!r}"
    return f"{name}: {details['msg']}, found {details['input']!r}"


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in model.model_fields.items())


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        rows += _flatten(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return rows
