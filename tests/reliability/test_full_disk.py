"""A full disk ends a command without a stack trace; with room again, the bytes are the same."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.reliability import harness

pytestmark = [pytest.mark.integration, pytest.mark.long]
FORCE = ("dvc", "repro", "--force", "--single-item")
STAGES = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
SIZE = "120m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, which a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"this user cannot mount a file system: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fill a file system until so many bytes are free, and return the file that takes the room."""
    filler, piece = disk / "filler", bytes(4096)
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(piece * 256)
        except OSError:
            pass
    size = filler.stat().st_size - leave
    with filler.open("r+b") as file:
        file.truncate(max(0, size))
    return filler


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_on_a_full_disk(
    finished: Project, small_disk: Path, chance: random.Random, stage: str
) -> None:
    project = finished.copy(small_disk)
    before = harness.state(project)
    leave = chance.choice((0, 4096, chance.randrange(20_000, 2_000_000)))
    print(f"{leave} bytes are free")
    filler = fill(small_disk, leave=leave)
    full = harness.complete(project, "lenet5", stage)
    filler.unlink()
    harness.require_no_trace(full.output)
    if full.code:
        assert "No space left" in full.output, full.output
    again = harness.complete(project, *FORCE, stage)
    assert again.code == 0, f"full:\n{full.output}\nagain:\n{again.output}"
    completed = harness.complete(project, "dvc", "repro")
    assert completed.code == 0, completed.output
    assert harness.state(project) == before


def test_the_graph_on_a_full_disk(finished: Project, small_disk: Path, chance: random.Random) -> None:
    project = finished.copy(small_disk)
    before = harness.state(project)
    leave = chance.randrange(0, 2_000_000)
    print(f"{leave} bytes are free")
    filler = fill(small_disk, leave=leave)
    full = harness.complete(project, "dvc", "repro", "--force")
    filler.unlink()
    harness.require_no_trace(full.output)
    again = harness.complete(project, "dvc", "repro", "--force")
    assert again.code == 0, f"full:\n{full.output}\nagain:\n{again.output}"
    assert harness.state(project) == before
