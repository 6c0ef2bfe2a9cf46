"""The export of a data card says what the data set is, and names its files with their digests."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.card import DataCard
from lenet5.core.dataset import Description, Rows, Split
from lenet5.core.errors import DataError
from lenet5.registry import croissant
from lenet5.tracking.data_set import DataSet
from tests.data_sets import MNIST, SHOES


@pytest.fixture
def shoes(tmp_path: Path) -> DataSet:
    """Two RGB splits on disk, and a data set that describes them."""
    random = np.random.default_rng(0)
    splits = {
        name: Split(random.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8), np.zeros(count, np.uint8))
        for name, count in {"train": 6, "test": 3}.items()
    }
    manifest = dataset.save(
        tmp_path / "data/raw",
        splits,
        description=Description(classes=SHOES.classes, pictures="whole"),
        origins=[
            Rows(source="https://me:hidden@shop.example/shoes", split="train", start=0, count=4),
            Rows(source="data/collected", split="train", start=4, count=2),
        ],
    )
    return DataSet(SHOES.card, manifest)


def export(tmp_path: Path, data: DataSet) -> dict[str, Any]:
    return dict(json.loads(croissant.export(tmp_path, tmp_path / "data/raw", data)))


def test_files_have_their_digests_and_sizes(tmp_path: Path, shoes: DataSet) -> None:
    document = export(tmp_path, shoes)
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert [each["contentUrl"] for each in document["distribution"]] == [
        f"data/raw/{split}/{part}.npy" for split in ("train", "test") for part in ("images", "labels")
    ]
    for each in document["distribution"]:
        content = (tmp_path / each["contentUrl"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert each["contentSize"] == f"{len(content)} B"
    assert document["isBasedOn"] == ["https://shop.example/shoes", "data/collected"]


def test_classes_and_splits_are_records(tmp_path: Path, shoes: DataSet) -> None:
    classes, splits = export(tmp_path, shoes)["recordSet"]
    assert classes["data"] == [
        {"classes/label": 0, "classes/name": "ankle boot"},
        {"classes/label": 1, "classes/name": "sandal | open"},
        {"classes/label": 2, "classes/name": "T-shirt/top"},
    ]
    assert splits["data"] == [
        {"splits/name": "train", "splits/images": 6},
        {"splits/name": "test", "splits/images": 3},
    ]
    for records in (classes, splits):
        fields = {field["@id"] for field in records["field"]}
        assert all(set(row) == fields for row in records["data"])
        assert records["key"]["@id"] in fields


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, "not stated"),
        ("CC-BY-SA-3.0", "https://spdx.org/licenses/CC-BY-SA-3.0.html"),
        ("MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("our own terms", "our own terms"),
    ],
)
def test_licence_is_that_of_the_card(
    tmp_path: Path, shoes: DataSet, licence: str | None, expected: str
) -> None:
    data = replace(shoes, card=shoes.card.model_copy(update={"licence": licence}))
    assert export(tmp_path, data)["license"] == expected


def test_what_the_card_does_not_say_is_left_out(tmp_path: Path, shoes: DataSet) -> None:
    bare = export(tmp_path, shoes)
    assert not {"url", "citeAs", "creator"} & set(bare)
    full = export(tmp_path, replace(shoes, card=MNIST.card))
    assert full["name"] == "MNIST"
    assert [each["name"] for each in full["creator"]] == ["Yann LeCun", "Corinna Cortes"]
    assert full["citeAs"].startswith("Y. LeCun")
    assert full["url"] == MNIST.card.url
    assert "Intended use: read single digits" in full["description"]


def test_equal_data_sets_have_equal_bytes_without_credentials(tmp_path: Path, shoes: DataSet) -> None:
    texts = {croissant.export(tmp_path, tmp_path / "data/raw", shoes) for _ in range(2)}
    assert len(texts) == 1
    assert "hidden" not in texts.pop()
    renamed = DataCard(**{**shoes.card.model_dump(), "name": "Other shoes"})
    assert export(tmp_path, replace(shoes, card=renamed))["name"] == "Other shoes"


def test_missing_file_is_an_error(tmp_path: Path, shoes: DataSet) -> None:
    (tmp_path / "data/raw/test/labels.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.npy is missing(.|\n)*fix: "):
        export(tmp_path, shoes)
