"""A checkpoint that is kept, found, damaged, out of reach."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from lenet5.core.paths import Paths
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.system.state import LocalState
from lenet5.training.checkpoint_store import CheckpointStore, exclusive

KEPT = Checkpoint(
    rows=({"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-45}),
    variables=(np.arange(6, dtype=np.float32).reshape(2, 3), np.array([np.nextafter(1, 2)])),
    optimizer=(np.array(860, dtype=np.int64),),
    best_weights=(np.zeros((2, 3), np.float32), np.ones(1)),
    best=0.1,
    wait=3,
)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.encode() == other.encode()


@pytest.mark.parametrize("place", ["folder", "file", "memory"])
def test_what_is_kept_is_found_by_its_training_alone(tmp_path: Path, place: str) -> None:
    url = {
        "folder": f"{tmp_path}/new",
        "file": f"file://{tmp_path}/there",
        "memory": f"memory://{tmp_path.name}",
    }[place]
    if place == "file":
        (tmp_path / "there").mkdir()
    store = CheckpointStore(url, "a" * 64)
    assert store.load() is None
    store.save(KEPT)
    found = store.load()
    assert found is not None
    assert same(found, KEPT)
    assert found.rows == KEPT.rows, "to the last bit"
    assert found.optimizer[0].dtype == np.int64
    assert CheckpointStore(url, "b" * 64).load() is None
    store.discard()
    assert store.load() is None
    store.discard()


def test_a_damaged_one_is_told_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(str(tmp_path), "a" * 64)
    store.save(KEPT)
    path = tmp_path / f"{'a' * 64}.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert store.load() is None
    assert "is not used" in caplog.text


def test_a_store_that_is_not_there_costs_a_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = CheckpointStore(str(tmp_path / "file" / "below"), "a" * 64)
    store.save(KEPT)
    assert "no checkpoint was kept after epoch 2" in caplog.text


def test_a_write_that_breaks_off_leaves_the_last_one(tmp_path: Path) -> None:
    class Broken(Checkpoint):
        def encode(self) -> bytes:
            raise KeyboardInterrupt

    store = CheckpointStore(str(tmp_path), "a" * 64)
    store.save(KEPT)
    with pytest.raises(KeyboardInterrupt):
        store.save(Broken(**vars(KEPT)))
    found = store.load()
    assert found is not None
    assert same(found, KEPT)
    assert [path.name for path in tmp_path.iterdir()] == [f"{'a' * 64}.npz"]


def _hold(folder: str, seconds: float) -> None:
    with exclusive(Paths(Path(folder)), "a"):
        time.sleep(seconds)


def test_the_same_training_waits_for_its_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(tmp_path), 2))
    twin.start()
    for _ in range(600):
        if (LocalState(tmp_path).training_locks / "a.lock").exists():
            break
        time.sleep(0.05)
    with exclusive(Paths(tmp_path), "b"):
        pass  # another one does not wait
    with exclusive(Paths(tmp_path), "a"):
        assert "waiting for its end" in capsys.readouterr().out
    twin.join()
