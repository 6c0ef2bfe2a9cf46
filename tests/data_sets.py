"""Descriptions of data sets, without the arrays: that of the project, and one that shares nothing with it."""

from lenet5.core import card
from lenet5.core.card import DataCard
from lenet5.core.dataset import DIGITS, ArrayRecord, Description, Manifest, Rows, SplitRecord
from lenet5.tracking.data_set import DataSet
from tests.conftest import REPOSITORY


def manifest(description: Description, shape: tuple[int, ...], **splits: int) -> Manifest:
    """Return the manifest of raw images of one shape."""
    return Manifest(
        splits={
            name: SplitRecord(
                images=ArrayRecord(dtype="|u1", shape=(count, *shape), sha256="1" * 64),
                labels=ArrayRecord(dtype="|u1", shape=(count,), sha256="2" * 64),
            )
            for name, count in splits.items()
        },
        description=description,
        origins=tuple(Rows(source="data/some", split=name, start=0, count=n) for name, n in splits.items()),
    )


MNIST = DataSet(
    card.load(REPOSITORY / "data/card.yaml"), manifest(DIGITS, (28, 28), train=60_000, test=10_000)
)
SHOES = DataSet(
    DataCard(name="Shop shoes", subject="photos of shoes", description="Photos of a shop."),
    manifest(
        Description(classes=("ankle boot", "sandal | open", "T-shirt/top"), pictures="whole"),
        (16, 16, 3),
        train=900,
        test=90,
    ),
)
"""Three classes, RGB, 16 pixels, no licence, no address."""
