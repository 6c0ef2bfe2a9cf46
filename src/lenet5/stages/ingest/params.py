"""Define the parameters of the stage ``ingest``."""

from typing import Annotated

from pydantic import StringConstraints

from lenet5.core.params import Positive, Section, Sha256


class Checksums(Section):
    """SHA-256 of the uncompressed IDX content of each array."""

    train_images: Sha256
    train_labels: Sha256
    test_images: Sha256
    test_labels: Sha256


class Ingest(Section):
    """The section ``ingest``; the comments in ``params.yaml`` describe each value."""

    source: Annotated[str, StringConstraints(min_length=1)]
    sha256: Checksums
    max_megabytes: Positive
    attempts: Positive
