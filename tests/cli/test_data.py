"""``lenet5 data show`` opens the validation page; a reference is made of the pinned data alone."""

import hashlib
import webbrowser
from pathlib import Path

import numpy as np
import pytest

from lenet5.cli import data
from lenet5.core import dataset
from lenet5.core.dataset import Rows, Split
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.orchestration import raw_data
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.params import Addition, AdditionChecksums, Checksums, Ingest
from lenet5.stages.params import load
from tests.conftest import REPOSITORY

RNG = np.random.default_rng(1998)


def digits(count: int) -> Split:
    return Split(RNG.integers(0, 256, (count, 28, 28), np.uint8), RNG.integers(0, 10, count).astype(np.uint8))


def checksum(array: dataset.Array) -> str:
    return hashlib.sha256(idx.encode(array)).hexdigest()


@pytest.fixture
def pinned(tmp_path: Path) -> tuple[Paths, Ingest]:
    """Raw data with an addition, and parameters that pin both."""
    base, test, added = digits(20), digits(8), digits(5)
    joined = Split(
        *(np.concatenate(pair) for pair in zip(vars(base).values(), vars(added).values(), strict=True))
    )
    paths = Paths(tmp_path)
    origins = [
        Rows(source="base", split="train", start=0, count=20),
        Rows(source="more", split="train", start=20, count=5),
        Rows(source="base", split="test", start=0, count=8),
    ]
    dataset.save(paths.raw, {"train": joined, "test": test}, origins=origins)
    pins = Checksums(
        train_images=checksum(base.images),
        train_labels=checksum(base.labels),
        test_images=checksum(test.images),
        test_labels=checksum(test.labels),
    )
    of_addition = AdditionChecksums(images=checksum(added.images), labels=checksum(added.labels))
    addition = Addition(source="more", format="auto", sha256=of_addition)
    params = load(REPOSITORY / "params.yaml").ingest
    return paths, params.model_copy(update={"sha256": pins, "additions": [addition]})


def test_raw_data_is_accepted(pinned: tuple[Paths, Ingest]) -> None:
    raw_data.require_current(*pinned)


@pytest.mark.parametrize("key", list(Checksums.model_fields))
def test_data_with_another_checksum_is_stale(pinned: tuple[Paths, Ingest], key: str) -> None:
    paths, params = pinned
    other = params.sha256.model_copy(update={key: "0" * 64})
    with pytest.raises(DataError, match=f"found:    other values of ingest.sha256.{key}\n"):
        raw_data.require_current(paths, params.model_copy(update={"sha256": other}))


def test_data_without_the_addition_is_stale(pinned: tuple[Paths, Ingest]) -> None:
    paths, params = pinned
    with pytest.raises(DataError, match=r"other values of ingest\.additions\n"):
        raw_data.require_current(paths, params.model_copy(update={"additions": []}))


def test_data_of_other_classes_is_stale(pinned: tuple[Paths, Ingest]) -> None:
    paths, params = pinned
    with pytest.raises(DataError, match=r"other values of ingest\.classes\n"):
        raw_data.require_current(paths, params.model_copy(update={"classes": ["a", "b"]}))


def test_show_opens_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    paths = Paths(tmp_path)
    monkeypatch.setattr(data, "checkout", lambda: (paths, None))
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with pytest.raises(DataError, match="lenet5 validate"):
        data.show()
    paths.data_docs.mkdir(parents=True)
    (paths.data_docs / "summary.html").touch()
    data.show()
    assert opened == [(paths.data_docs / "summary.html").as_uri()]
