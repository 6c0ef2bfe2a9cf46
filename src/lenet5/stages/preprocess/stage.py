import numpy as np

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.core.results import Validation
from lenet5.stages.preprocess.params import Preprocess
from lenet5.stages.preprocess.transform import encode_rows, hold_out


def run(paths: Paths, params: Preprocess) -> str:
    """Raw train images → ``data/processed``: train and validation, ready for training.

    The raw test images stay as they are: evaluation sends them to the saved model, as a client would.

    Returns:
        One line for each split: its shape, its dtype, its folder.

    Raises:
        DataError: the data is damaged, or validation has not passed for exactly this data.
    """
    raw = dataset.load(paths.raw)
    _require_validation(paths, raw.manifest.digest)
    train = raw.splits["train"]
    kept, held = hold_out(train.labels, params.validation_images, params.seed)
    made = dataset.save(
        paths.processed,
        {
            "train": encode_rows(train, kept, params.padding),
            "validation": encode_rows(train, held, params.padding),
        },
        made_from=raw.manifest.digest,
        padding=params.padding,
    )
    return "\n".join(
        f"{name:<10} {split.images.shape} {np.dtype(split.images.dtype)} → {paths.processed / name}"
        for name, split in made.splits.items()
    )


def _require_validation(paths: Paths, digest: str) -> None:
    """Refuse data that was not validated. DVC orders the stages; this also holds for a stage run by hand."""
    validation = Validation.read(paths.validation)
    if not validation.success or validation.data_digest != digest:
        raise DataError(
            "This data has not passed validation, so nothing is made from it.",
            expected=f"success for data {digest[:12]} in {paths.validation}",
            found=f"success: {validation.success}, data {validation.data_digest[:12]}",
            fix="`dvc repro preprocess` validates first",
        )
