"""The benchmark of large data makes the data it says, sees memory that is there, and can say no."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import large
from benchmarks.bench import Bench
from benchmarks.measure import whole_process
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.stages.ingest.stage import run as ingest
from lenet5.stages.params import load
from lenet5.system.state import LocalState
from tests.conftest import REPOSITORY, Arrays


def test_the_source_is_many_variants_that_ingest_accepts(tmp_path: Path, digits: Arrays) -> None:
    paths = Paths(tmp_path)
    splits = {
        name: Split(digits[f"{name}_images"][:2100], digits[f"{name}_labels"][:2100])
        for name in ("train", "test")
    }
    pins = large.write_source(tmp_path / "source", splits, times=2)
    params = load(REPOSITORY / "params.yaml").ingest
    ingest(paths, params.model_copy(update={"source": "source", "sha256": pins}))
    made = dataset.load(paths.raw).splits
    np.testing.assert_array_equal(made["test"].images, splits["test"].images)
    np.testing.assert_array_equal(made["train"].labels, np.tile(splits["train"].labels, 2))
    assert len(np.unique(made["train"].images, axis=0)) == 2 * len(splits["train"].images)
    difference = made["train"].images.astype(int) - np.tile(splits["train"].images, (2, 1, 1))
    assert np.abs(difference).max() == 1  # of 255: the same digits, with noise in the lowest bit
    np.testing.assert_array_equal(made["train"].images > 0, np.tile(splits["train"].images > 0, (2, 1, 1)))


def test_a_disk_without_room_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)100000000 times MNIST.*expected: .* GB free.*--times"):
        large.measure(Bench(paths, seeds=1), [1, 100_000_000])
    assert not list(LocalState(paths.root).folder.iterdir())


def test_memory_of_its_own_is_seen_and_a_mapped_file_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100 << 20))
    own = "held = bytearray(b'x') * (100 << 20)"
    mapped = f"import numpy; held = numpy.memmap({str(file)!r}, mode='r'); held.sum()"
    peaks = []
    for held in (own, mapped):
        command = (sys.executable, "-c", f"import time; {held}; time.sleep(0.3)")
        done = whole_process(command, cwd=tmp_path, environment=os.environ, watch_memory=True)
        peaks.append(done.anonymous_mb or 0)
    assert 104 <= peaks[0] < 130
    assert peaks[1] < 60


def row(stage: str, times: int, seconds: float, *, megabytes: float = 500, rate: float = 1000) -> large.Row:
    return large.Row(times, stage, seconds, megabytes, rate)


def test_verdicts_can_be_no() -> None:
    def refused(**changed: dict[str, float]) -> list[str]:
        rows = [
            row(stage, times, **{"seconds": 2.0 + times} | (changed.get(stage, {}) if times == 10 else {}))
            for times in (1, 10)
            for stage in large.STAGES
        ]
        return [verdict.name for verdict in large.judge(rows) if not verdict.met]

    assert refused() == []
    assert refused(validate={"megabytes": 1074}) == ["validate, 600,000 images: anonymous memory"]
    assert refused(ingest={"seconds": 40}) == ["ingest: time per image / time per image with less data"]
    assert refused(train={"rate": 899}) == ["train, 600,000 images: rate / rate in memory"]
