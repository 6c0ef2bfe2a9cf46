"""Read ``data/card.yaml``, which says what the data set is, who made it and what it may be used for."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.params import Section, check, key_names

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
_FIX = "correct data/card.yaml; `lenet5 data init` writes one"


class DataCard(Section):
    """What a person must know about a data set. The classes stand in ``params.yaml``."""

    name: Text
    """A proper name, such as ``MNIST``."""
    subject: Text
    """What the images show, in the plural and in the middle of a sentence: ``handwritten digits``."""
    description: Text
    licence: Text | None = None
    """An SPDX identifier; None if it is not stated."""
    creators: list[Text] = Field(default_factory=list)
    citation: Text | None = None
    url: Text | None = None
    hub: Text | None = None
    """Identifier on the Hugging Face hub, such as ``ylecun/mnist``."""
    intended_use: Text | None = None
    limits: list[Text] = Field(default_factory=list)
    """Sentences that say where a model of this data fails."""

    @property
    def stated_licence(self) -> str:
        """Return the licence, or that there is none."""
        return self.licence or "not stated"


def load(path: Path) -> DataCard:
    """Read a data card.

    Raises:
        UsageError: the file is missing, is not YAML, or a key is unknown, missing or out of range.
    """
    content = files.read_yaml(path, fix="`git checkout data/card.yaml`; `lenet5 data init` writes a new one")
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} is no data card.",
            expected=f"the keys {key_names(DataCard)}",
            found=repr(content),
            fix=_FIX,
        )
    return check(DataCard, content, where=str(path), fix=_FIX)
