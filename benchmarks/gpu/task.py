"""What both sides train, and how they answer."""

import gzip
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenet5.core.dataset import Split
from lenet5.stages import params
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.preprocess.stage import encode, hold_out
from lenet5.stages.train.params import Train

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Task:
    """One training: ``params.yaml`` with these values, without early stopping."""

    batch_size: int
    precision: str
    epochs: int
    learning_rate: float
    seed: int
    images: int | None = None
    """Of the training images; all when None."""
    trial_seconds: float = 0.0
    """What PyTorch may spend on trials of `torch.compile`, all tasks together."""

    @property
    def name(self) -> str:
        return f"batch {self.batch_size:,}, {self.precision.replace('mixed_', 'mixed ')}"

    def recipe(self) -> Train:
        """The recipe in the product's own terms."""
        names = ("batch_size", "precision", "epochs", "learning_rate", "seed")
        changed = {name: value for name, value in asdict(self).items() if name in names}
        return params.load(ROOT / "params.yaml").train.model_copy(update={**changed, "patience": 0})


@dataclass(frozen=True)
class Data:
    """What `lenet5 preprocess` makes of the IDX files: float32 images (N, 28, 28, 1), one-hot labels."""

    train: Split
    validation: Split
    test: Split


def load() -> Data:
    """Read ``data/mnist`` with the product's reader."""
    arrays = {
        item.key: idx.decode(
            gzip.decompress((ROOT / f"data/mnist/{item.file}.gz").read_bytes()), item.file, item.dimensions
        )
        for item in MNIST_FILES
    }
    recipe = params.load(ROOT / "params.yaml").preprocess
    images, labels = arrays["train_images"], arrays["train_labels"]
    kept, held = hold_out(labels, recipe.validation_images, recipe.seed)
    return Data(
        train=encode(Split(images[kept], labels[kept]), padding=0, classes=10),
        validation=encode(Split(images[held], labels[held]), padding=0, classes=10),
        test=encode(Split(arrays["test_images"], arrays["test_labels"]), padding=0, classes=10),
    )


def serve(side: dict[str, Any], train: Callable[[Task], dict[str, Any]]) -> None:
    """Answer each task from standard input with one line of JSON; the first line describes this side."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print
    print(json.dumps(side), file=answers)
    for line in sys.stdin:
        try:
            answer = train(Task(**json.loads(line)))
        except Exception as error:  # any: the other tasks are still to do
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers)
