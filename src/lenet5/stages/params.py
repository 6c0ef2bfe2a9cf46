"""Read, check and write ``params.yaml``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from lenet5.core import files, params
from lenet5.core.errors import UsageError
from lenet5.core.params import Section
from lenet5.stages.evaluate.params import Evaluate
from lenet5.stages.ingest.params import AdditionChecksums, Checksums, Ingest
from lenet5.stages.preprocess.params import Preprocess
from lenet5.stages.register.params import Register
from lenet5.stages.train.params import Train
from lenet5.stages.validate.params import Validate

_FIX = "correct them; the comments in params.yaml give the meaning and the limits"


class Params(Section):
    """All parameters: one section for each stage, under the name of the stage."""

    ingest: Ingest
    validate_: Annotated[Validate, Field(alias="validate")]
    preprocess: Preprocess
    train: Train
    evaluate: Evaluate
    register_: Annotated[Register, Field(alias="register")]

    def changed(self, values: Mapping[str, Any]) -> "Params":
        """Return a copy with other values, which are checked like those of the file.

        Args:
            values: the values by dotted name, such as ``train.learning_rate``.

        Raises:
            UsageError: a name is unknown, or a value is out of range. The message lists every problem.
        """
        content = self.model_dump(by_alias=True)
        for name, value in values.items():
            _set(content, name, value)
        return params.check(Params, content, where="The set of parameters", fix=_FIX)


def load(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        UsageError: the file is missing, is not YAML, or a key is unknown, missing or out of range. The
            message lists every problem.
    """
    content = files.read_yaml(path, fix="git checkout params.yaml")
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} holds no parameters.",
            expected=f"the sections {params.key_names(Params)}",
            found="nothing" if content is None else repr(content),
            fix="git checkout params.yaml",
        )
    return params.check(Params, content, where=str(path), fix=_FIX)


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write values into ``params.yaml`` and keep its comments and its other values.

    Args:
        path: the file.
        values: the values by dotted name, in which a number is a position in a list; each name exists in the
            file.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(files.read_text(path))
    for name, value in values.items():
        _replace(content, name, value)
    with files.replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def pin_checksums(path: Path, checksums: Checksums, additions: Sequence[AdditionChecksums] = ()) -> None:
    """Write the checksums of the source and of its additions into ``params.yaml``.

    Args:
        path: the file.
        checksums: of the source, for ``ingest.sha256``.
        additions: of ``ingest.additions``, in their order.
    """
    values = {f"ingest.sha256.{name}": digest for name, digest in checksums.model_dump().items()}
    for number, addition in enumerate(additions):
        section = f"ingest.additions.{number}.sha256"
        values |= {f"{section}.{name}": digest for name, digest in addition.model_dump().items()}
    write(path, values)


def _replace(content: Any, name: str, value: Any) -> None:
    """Replace an existing value and keep the distance between it and the comment that follows."""
    *sections, key = name.split(".")
    for section in sections:
        content = content[int(section) if isinstance(content, list) else section]
    comment = content.ca.items.get(key, [None] * 3)[2]
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
        comment = None  # a list that is longer than the old one moves it
    if comment is not None:
        comment.column += len(str(value)) - len(str(content[key]))
    content[key] = value


def _set(content: dict[str, Any], name: str, value: Any) -> None:
    """Set a value by its dotted name. A missing section is created; the check that follows rejects it."""
    *sections, key = name.split(".")
    for section in sections:
        if not isinstance(content.get(section), dict):
            content[section] = {}
        content = content[section]
    content[key] = value
