"""Run the stage ``preprocess``: split the raw train images, encode them, write them to ``data/processed``."""

import numpy as np

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.results import Validation
from lenet5.stages.preprocess.params import Preprocess
from lenet5.stages.preprocess.transform import encode_rows, hold_out


def run(paths: Paths, params: Preprocess) -> str:
    """Write train and validation to ``data/processed``, ready for training.

    The raw test images are not processed: evaluation sends them to the saved model, as a client does.

    Returns:
        One line for each split: its shape, its dtype, its folder.

    Raises:
        DataError: the data is damaged, or this data has not passed validation.
        UsageError: the validation split cannot be made.
    """
    raw = dataset.load(paths.raw)
    _require_validation(paths, raw.manifest.digest)
    train = raw.splits["train"]
    names = raw.manifest.description.classes
    classes = len(names)
    train_rows, validation_rows = hold_out(train.labels, params.validation_images, params.seed, names)
    manifest = dataset.save(
        paths.processed,
        {
            "train": encode_rows(train, train_rows, params.padding, classes),
            "validation": encode_rows(train, validation_rows, params.padding, classes),
        },
        description=raw.manifest.description,
        made_from=raw.manifest.digest,
        padding=params.padding,
    )
    return "\n".join(
        f"{name:<10} {split.images.shape} {np.dtype(split.images.dtype)} → {paths.processed / name}"
        for name, split in manifest.splits.items()
    )


def _require_validation(paths: Paths, digest: str) -> None:
    """Reject data that was not validated. DVC orders the stages, but a user can run one stage alone."""
    validation = Validation.read(paths.validation)
    if not validation.success or validation.data_digest != digest:
        raise DataError(
            "This data has not passed validation, so it is not processed.",
            expected=f"success for data {digest[:12]} in {paths.validation}",
            found=f"success: {validation.success}, data {validation.data_digest[:12]}",
            fix="`dvc repro preprocess` validates first",
        )
