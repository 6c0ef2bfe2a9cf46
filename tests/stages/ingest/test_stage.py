"""The stage writes the same dataset from every container, and keeps the earlier data after an error."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.errors import DataError, Unavailable
from lenet5.core.paths import Paths
from lenet5.stages.ingest.params import Ingest
from lenet5.stages.ingest.stage import current_pins, run
from tests.conftest import REPOSITORY, Arrays, Project
from tests.stages.ingest.conftest import Digits, Server

IMAGES = "train-images-idx3-ubyte.gz"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def changed(params: Ingest, **values: object) -> Ingest:
    return Ingest.model_validate(params.model_dump() | values)


def keras(digits: Digits) -> bytes:
    file = io.BytesIO()
    np.savez(
        file,
        x_train=digits["train_images"],
        y_train=digits["train_labels"],
        x_test=digits["test_images"],
        y_test=digits["test_labels"],
    )
    return file.getvalue()


def assert_dataset(paths: Paths, digits: Digits) -> None:
    splits = dataset.load(paths.raw).splits
    assert sorted(splits) == ["test", "train"]
    for name, split in splits.items():
        assert split.images.dtype == split.labels.dtype == np.uint8
        np.testing.assert_array_equal(split.images, digits[f"{name}_images"])
        np.testing.assert_array_equal(split.labels, digits[f"{name}_labels"])
    assert [path.name for path in paths.raw.parent.iterdir()] == ["raw"], "temporary files were removed"


@pytest.mark.usefixtures("source")
def test_compressed_idx_files_are_read(paths: Paths, params: Ingest, digits: Digits) -> None:
    summary = run(paths, params)
    assert_dataset(paths, digits)
    assert f"(30, 28, 28) {params.sha256.train_images[:12]}" in summary
    assert f"(20, 28, 28) {params.sha256.test_images[:12]}" in summary


def test_plain_idx_files_are_read(
    paths: Paths, params: Ingest, digits: Digits, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    for name, content in files.items():
        (tmp_path / "plain" / name).write_bytes(content)
    run(paths, changed(params, source="plain"))
    assert_dataset(paths, digits)


@pytest.mark.parametrize(
    ("name", "url"), [("mnist.npz", "keras"), ("mnist.npz", "keras/mnist.npz"), ("d.npz", "keras/d.npz")]
)
def test_archive_of_keras_is_read(
    paths: Paths, params: Ingest, digits: Digits, tmp_path: Path, name: str, url: str
) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / name).write_bytes(keras(digits))
    run(paths, changed(params, source=url))
    assert_dataset(paths, digits)


def test_web_server_that_fails_at_first_is_read(
    paths: Paths, params: Ingest, digits: Digits, server: Server, waits: list[float]
) -> None:
    server.faults = {IMAGES: [503, "cut off"], "t10k-labels-idx1-ubyte.gz": ["unzipped on the way"]}
    run(paths, changed(params, source=server.url))
    assert_dataset(paths, digits)
    assert len(waits) == 2


def test_other_data_is_accepted_after_its_checksum_is_pinned(
    paths: Paths, params: Ingest, digits: Digits, source: Path
) -> None:
    """The error names the new checksum. The stage ``validate``, and not this one, checks the sizes."""
    fewer = b"\0\0\x08\x01" + (7).to_bytes(4, "big") + digits["train_labels"][:7].tobytes()
    (source / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(fewer))
    with pytest.raises(DataError, match=r"ingest\.sha256\.train_labels") as caught:
        run(paths, params)
    checksum = str(caught.value).partition("found:")[2].split()[1]
    run(paths, changed(params, sha256=params.sha256.model_dump() | {"train_labels": checksum}))
    assert_dataset(paths, digits | {"train_labels": digits["train_labels"][:7]})


def test_one_changed_pixel_is_an_error(paths: Paths, params: Ingest, source: Path) -> None:
    content = bytearray(gzip.decompress((source / IMAGES).read_bytes()))
    content[5000] ^= 1
    (source / IMAGES).write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as caught:
        run(paths, params)
    message = str(caught.value)
    assert message.startswith(f"{IMAGES}: not the data that params.yaml pins")
    assert f"expected: train_images {params.sha256.train_images}" in message
    assert "download the data again; or, if it changed on purpose, run `lenet5 pin`" in message
    assert not paths.raw.exists()


def test_one_changed_pixel_in_an_archive_is_an_error(
    paths: Paths, params: Ingest, digits: Digits, tmp_path: Path
) -> None:
    images = digits["test_images"].copy()
    images[3, 14, 14] ^= 1
    (tmp_path / "mnist.npz").write_bytes(keras(digits | {"test_images": images}))
    with pytest.raises(DataError, match=r"mnist\.npz:x_test: not the data"):
        run(paths, changed(params, source="mnist.npz"))


def test_error_lists_every_changed_file(paths: Paths, params: Ingest) -> None:
    source = REPOSITORY / "data" / "mnist"  # the full data has other checksums than a few digits
    with pytest.raises(DataError) as caught:
        run(paths, changed(params, source=str(source), max_megabytes=64))
    assert str(caught.value).count("ingest.sha256.") == 4


def test_pinned_file_that_is_not_idx_is_an_error(paths: Paths, params: Ingest, source: Path) -> None:
    (source / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"five zero four one"))
    with pytest.raises(DataError) as caught:
        run(paths, params)
    checksum = str(caught.value).partition("found:")[2].split()[1]
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz .* byte offset 0"):
        run(paths, changed(params, sha256=params.sha256.model_dump() | {"train_labels": checksum}))


def test_checksums_of_files_without_digits_are_not_taken(paths: Paths, params: Ingest, source: Path) -> None:
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"<html>not found</html>"))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz .* byte offset 0"):
        current_pins(paths, params)


def _cut(source: Path) -> None:
    (source / IMAGES).write_bytes((source / IMAGES).read_bytes()[:-100])


def _bomb(source: Path) -> None:
    (source / IMAGES).write_bytes(gzip.compress(bytes(2_000_000)))


def _remove(source: Path) -> None:
    (source / "t10k-labels-idx1-ubyte.gz").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_cut, "damaged or was cut off"),
        (_bomb, "larger than"),
        (_remove, "t10k-labels-idx1-ubyte.gz or t10k-labels-idx1-ubyte$"),
    ],
)
def test_failed_ingest_keeps_the_earlier_data(
    paths: Paths, params: Ingest, digits: Digits, source: Path, harm: Callable[[Path], None], message: str
) -> None:
    run(paths, params)
    harm(source)
    with pytest.raises(DataError, match=f"(?m){message}"):
        run(paths, params)
    assert_dataset(paths, digits)


def test_interrupted_ingest_keeps_the_earlier_data(
    paths: Paths, params: Ingest, digits: Digits, server: Server, waits: list[float]
) -> None:
    web = changed(params, source=server.url, attempts=2)
    run(paths, web)
    server.faults["t10k-images-idx3-ubyte.gz"] = ["cut off"] * 2
    with pytest.raises(Unavailable):
        run(paths, web)
    assert len(waits) == 1
    assert_dataset(paths, digits)


@pytest.mark.integration
def test_what_a_source_holds_can_be_pinned(project: Project, digits: Arrays) -> None:
    """`lenet5 pin`, for data that changed on purpose."""
    assert "has the checksums that params.yaml pins" in project.run("lenet5", "pin")
    other = digits | {"train_labels": digits["train_labels"][::-1]}
    project.put_source(other, pin=False)
    refused = project.command("lenet5", "ingest")
    assert refused.returncode == 4
    assert "lenet5 pin" in refused.stderr
    assert "changed: train_labels" in project.run("lenet5", "pin")
    project.run("lenet5", "ingest")
