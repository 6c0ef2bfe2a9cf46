"""The same images give the same arrays and checksums in every format, and under every usual name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.stages.ingest.params import Ingest
from lenet5.stages.ingest.stage import current_pins, run
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits, look


@pytest.mark.parametrize("make", makers.MAKERS.values(), ids=makers.MAKERS)
def test_the_same_images_have_the_same_checksums_in_every_format(
    tmp_path: Path, params: Ingest, digits: Digits, make: makers.Make
) -> None:
    make(tmp_path / "source", digits)
    run(Paths(tmp_path), params)  # it compares the four checksums with those of the IDX files
    for name, split in dataset.load(tmp_path / "data/raw").splits.items():
        np.testing.assert_array_equal(split.images, digits[f"{name}_images"])
        np.testing.assert_array_equal(split.labels, digits[f"{name}_labels"])
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"], "temporary files were removed"


@pytest.mark.parametrize("make", makers.MAKERS.values(), ids=makers.MAKERS)
def test_every_format_is_found_and_described(tmp_path: Path, digits: Digits, make: makers.Make) -> None:
    make(tmp_path / "source", digits)
    found = look(tmp_path)
    assert found.classes == tuple("0123456789")
    for split in ("train", "test"):
        counts = np.bincount(digits[f"{split}_labels"], minlength=10)
        assert found.counts[split] == dict(zip("0123456789", counts.tolist(), strict=True))
    assert (found.sides, found.channels, found.size, found.fit) == ({(28, 28): 50}, 1, 28, "exact")
    assert (found.minimum, found.maximum) == (0, 255)
    assert found.has_test_split
    assert not found.transposed
    assert not found.light_background
    assert not list((tmp_path / "scratch").iterdir())


def _named(pattern: str, test: str = "t10k") -> Callable[[str, str], str]:
    def name(split: str, role: str) -> str:
        letter, number = {"images": ("x", 3), "labels": ("y", 1)}[role]
        return pattern.format(split=test if split == "test" else split, role=role, n=number, x=letter)

    return name


IDX_NAMES = {
    "compressed": "{split}-{role}-idx{n}-ubyte.gz",
    "with a dot": "{split}-{role}.idx{n}-ubyte",
    "with a dot, compressed": "{split}-{role}.idx{n}-ubyte.gz",
    "in a subfolder": "MNIST/raw/{split}-{role}-idx{n}-ubyte",
    "each file in a folder of its name": "{split}-{role}-idx{n}-ubyte/{split}-{role}-idx{n}-ubyte",
    "with underscores": "{split}_{role}_idx{n}_ubyte",
    "EMNIST": "gzip/emnist-digits-{split}-{role}-idx{n}-ubyte.gz",
}


@pytest.mark.parametrize("pattern", IDX_NAMES.values(), ids=IDX_NAMES)
def test_idx_files_are_found_under_all_names(
    tmp_path: Path, params: Ingest, digits: Digits, pattern: str
) -> None:
    makers.idx_files(tmp_path / "source", digits, _named(pattern, "test" if "emnist" in pattern else "t10k"))
    assert current_pins(Paths(tmp_path), params).base == params.sha256


NPZ_NAMES = {
    "Keras": "{x}_{split}",
    "upper case": "{x}_{split}".upper().replace("{X}", "{x}").replace("{SPLIT}", "{split}"),
    "MedMNIST": "{split}_{role}",
}


@pytest.mark.parametrize("pattern", NPZ_NAMES.values(), ids=NPZ_NAMES)
def test_npz_arrays_are_found_under_all_names(
    tmp_path: Path, params: Ingest, digits: Digits, pattern: str
) -> None:
    makers.npz(tmp_path / "source", digits, _named(pattern, "test"))
    assert current_pins(Paths(tmp_path), params).base == params.sha256


def test_an_archive_for_each_array_is_read(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    """As KMNIST is published."""
    (tmp_path / "source").mkdir()
    for key, array in digits.items():
        split, _, role = key.partition("_")
        short = "imgs" if role == "images" else role
        np.savez(tmp_path / "source" / f"kmnist-{split}-{short}.npz", array)
    assert current_pins(Paths(tmp_path), params).base == params.sha256
