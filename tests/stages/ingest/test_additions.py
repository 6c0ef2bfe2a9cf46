"""Additions are appended to train, pinned, and recorded; the test split stays as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from lenet5.core import dataset
from lenet5.core.dataset import Rows
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.ingest.params import Addition, AdditionChecksums, Ingest
from lenet5.stages.ingest.stage import current_pins, run
from lenet5.stages.params import load, pin_checksums, write
from tests.conftest import REPOSITORY, Project
from tests.stages.ingest import makers
from tests.stages.ingest.conftest import Digits

NOTHING = AdditionChecksums(images="0" * 64, labels="0" * 64)


@pytest.fixture
def two(tmp_path: Path, params: Ingest, digits: Digits) -> Ingest:
    """The source, and two additions that are not pinned yet: one with two splits, one without."""
    makers.idx_files(tmp_path / "source", digits)
    makers.png_folder(tmp_path / "more", {key: array[:10] for key, array in digits.items()})
    makers.kaggle(tmp_path / "corrected", {k: v[10:15] for k, v in digits.items() if k.startswith("test")})
    (tmp_path / "corrected/mnist_test.csv").rename(tmp_path / "corrected/these.csv")
    additions = [Addition(source=name, format="auto", sha256=NOTHING) for name in ("more", "corrected")]
    return params.model_copy(update={"additions": additions})


def pinned(root: Path, params: Ingest) -> Ingest:
    pins = current_pins(Paths(root), params)
    additions = [
        addition.model_copy(update={"sha256": checksums})
        for addition, checksums in zip(params.additions, pins.additions, strict=True)
    ]
    return params.model_copy(update={"sha256": pins.base, "additions": additions})


def test_additions_follow_the_images_of_the_source(tmp_path: Path, two: Ingest, digits: Digits) -> None:
    summary = run(Paths(tmp_path), pinned(tmp_path, two))
    written = dataset.load(tmp_path / "data/raw")
    for role in ("images", "labels"):
        expected = np.concatenate(
            [
                digits[f"train_{role}"],
                digits[f"train_{role}"][:10],
                digits[f"test_{role}"][:10],
                digits[f"test_{role}"][10:15],
            ]
        )
        np.testing.assert_array_equal(getattr(written.splits["train"], role), expected)
        np.testing.assert_array_equal(getattr(written.splits["test"], role), digits[f"test_{role}"])
    assert written.manifest.origins == (
        Rows(source="source", split="train", start=0, count=30),
        Rows(source="more", split="train", start=30, count=20),
        Rows(source="corrected", split="train", start=50, count=5),
        Rows(source="source", split="test", start=0, count=20),
    )
    assert "20 of train" in summary
    assert "from corrected" in summary


def test_manifest_names_the_source_without_additions(tmp_path: Path, params: Ingest, digits: Digits) -> None:
    makers.idx_files(tmp_path / "source", digits)
    run(Paths(tmp_path), params)
    assert dataset.load_manifest(tmp_path / "data/raw").origins == (
        Rows(source="source", split="train", start=0, count=30),
        Rows(source="source", split="test", start=0, count=20),
    )


def test_checksums_of_the_base_do_not_depend_on_additions(
    tmp_path: Path, params: Ingest, two: Ingest
) -> None:
    assert current_pins(Paths(tmp_path), two).base == params.sha256


def test_addition_with_another_checksum_is_an_error(tmp_path: Path, two: Ingest) -> None:
    good = pinned(tmp_path, two)
    run(Paths(tmp_path), good)
    before = dataset.load_manifest(tmp_path / "data/raw")
    csv = tmp_path / "corrected/these.csv"
    csv.write_text(csv.read_text().replace("\n", "\n ", 1).rsplit("\n", 2)[0] + "\n")  # one row less
    with pytest.raises(DataError) as caught:
        run(Paths(tmp_path), good)
    message = str(caught.value)
    assert "these.csv, rows from 0: not the data that params.yaml pins" in message
    assert "ingest.additions.1.sha256.images, ingest.additions.1.sha256.labels" in message
    assert "lenet5 pin" in message
    assert dataset.load_manifest(tmp_path / "data/raw") == before


def test_addition_with_a_class_that_is_not_known_is_an_error(tmp_path: Path, two: Ingest) -> None:
    folder = next((tmp_path / "more/train").iterdir())
    folder.rename(folder.with_name("ten"))
    with pytest.raises(DataError, match=r"(?s)does not name.*ten \("):
        current_pins(Paths(tmp_path), two)


def test_an_addition_must_fit_the_images(tmp_path: Path, two: Ingest) -> None:
    for picture in (tmp_path / "more").rglob("*.png"):
        picture.write_bytes(makers.png(np.zeros((9, 9), np.uint8)))
    with pytest.raises(DataError, match=r"(?s)another size.*28×28.*9×9"):
        current_pins(Paths(tmp_path), two)


def with_additions(path: Path, additions: list[dict[str, Any]]) -> None:
    yaml = YAML()
    content = yaml.load(path.read_text())
    content["ingest"]["additions"] = additions
    with path.open("w") as file:
        yaml.dump(content, file)


def test_pins_of_additions_are_written_into_their_place(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    entries = [{"source": name, "format": "auto", "sha256": NOTHING.model_dump()} for name in ("a", "b")]
    with_additions(path, entries)
    checksums = [AdditionChecksums(images="1" * 64, labels="2" * 64), NOTHING]
    pin_checksums(path, load(path).ingest.sha256, checksums)
    assert [addition.sha256 for addition in load(path).ingest.additions] == checksums
    write(path, {"ingest.additions.1.source": "c"})
    assert [addition.source for addition in load(path).ingest.additions] == ["a", "c"]


def test_the_command_pins_additions_and_leaves_the_parameters_alone_if_one_is_bad(
    project: Project, digits: Digits
) -> None:
    makers.png_folder(project.root / "more", digits)
    entry = {"source": "more", "format": "auto", "sha256": NOTHING.model_dump()}
    with_additions(project.paths.params, [entry])
    assert "changed: additions.0.images, additions.0.labels" in project.run("lenet5", "pin")
    project.run("lenet5", "ingest")
    origins = dataset.load_manifest(project.paths.raw).origins
    assert [rows.source for rows in origins] == ["data/mnist", "more", "data/mnist"]
    before = project.paths.params.read_bytes()
    picture = next((project.root / "more").rglob("*.png"))
    picture.write_bytes(b"no picture")
    refused = project.command("lenet5", "pin")
    assert refused.returncode == 4
    assert f"{picture.name} cannot be used as an image" in refused.stderr
    assert project.paths.params.read_bytes() == before
