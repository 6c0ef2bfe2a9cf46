import numpy as np

from lenet5 import dataset, params
from lenet5.errors import DataError
from lenet5.paths import Paths
from lenet5.preprocess.transform import encode_rows, hold_out
from lenet5.results import Validation
from lenet5.terminal import console


def run(paths: Paths, params: params.Preprocess) -> None:
    """Raw train images → ``data/processed``: train and validation, ready to be fitted.

    The raw test images are left as they are: evaluation sends them to the saved model, as a client would.

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
    for name, split in made.splits.items():
        images = split.images
        console.print(f"{name:<10} {images.shape} {np.dtype(images.dtype)} → {paths.processed / name}")


def _require_validation(paths: Paths, digest: str) -> None:
    """DVC orders the stages; this holds when one is run by hand, too."""
    validation = Validation.read(paths.validation)
    if not validation.success or validation.data_digest != digest:
        raise DataError(
            "This data has not passed validation, so nothing is made from it.",
            expected=f"success for data {digest[:12]} in {paths.validation}",
            found=f"success: {validation.success}, data {validation.data_digest[:12]}",
            do="`dvc repro preprocess` validates first",
        )
