"""Define the parameters of the stage ``ingest``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from lenet5.core.dataset import Description, Pictures
from lenet5.core.params import Positive, Section, Seed, Sha256

Text = Annotated[str, StringConstraints(min_length=1)]
Format = Literal["auto", "idx", "npz", "folder", "table", "parquet", "sklearn"]
"""Kinds of sources; each is a module in ``stages/ingest/sources``."""


class Checksums(Section):
    """SHA-256 of each array as uncompressed IDX content, whatever format the source has."""

    train_images: Sha256
    train_labels: Sha256
    test_images: Sha256
    test_labels: Sha256


class Image(Section):
    """The images of the data set, whatever size the source has."""

    size: Annotated[int, Field(ge=8, le=64)]
    channels: Literal[1, 3]
    fit: Literal["exact", "pad", "resize"]
    transpose: bool


class AdditionChecksums(Section):
    """As :class:`Checksums`: an addition has train images only."""

    images: Sha256
    labels: Sha256


class Addition(Section):
    """One more source, whose images are added to train."""

    source: Text
    format: Format
    sha256: AdditionChecksums


class Pins(Section):
    """The checksums of a source and of its additions, in their order."""

    base: Checksums
    additions: tuple[AdditionChecksums, ...] = ()

    @property
    def by_name(self) -> dict[str, str]:
        """Return each checksum by its name: ``train_images``, …; ``additions.0.images``, …"""
        rows: dict[str, str] = self.base.model_dump()
        for number, addition in enumerate(self.additions):
            rows |= {f"additions.{number}.{key}": value for key, value in addition.model_dump().items()}
        return rows


class Ingest(Section):
    """The section ``ingest``; the comments in ``params.yaml`` describe each value."""

    source: Text
    format: Format
    sha256: Checksums
    classes: Annotated[list[Text], Field(min_length=2, max_length=1000)]
    image: Image
    pictures: Pictures
    test_share: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed
    additions: list[Addition]
    max_megabytes: Positive
    attempts: Positive

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError(f"each name must stand there once, found {classes!r}")
        return classes

    @property
    def pins(self) -> Pins:
        """Return all checksums."""
        return Pins(base=self.sha256, additions=tuple(addition.sha256 for addition in self.additions))

    @property
    def description(self) -> Description:
        """Return what the images show, as the manifest records it."""
        return Description(classes=tuple(self.classes), pictures=self.pictures)
