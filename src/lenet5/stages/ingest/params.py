"""Parameters of the stage ``ingest``."""

from typing import Annotated

from pydantic import StringConstraints

from lenet5.core.params import Positive, Section, Sha256


class Checksums(Section):
    train_images: Sha256
    train_labels: Sha256
    test_images: Sha256
    test_labels: Sha256


class Ingest(Section):
    source: Annotated[str, StringConstraints(min_length=1)]
    sha256: Checksums
    max_megabytes: Positive
    attempts: Positive
