"""Checkpoints are saved and loaded by training; damaged and unreachable ones cost a warning."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lenet5.core.paths import Paths
from lenet5.stages.train.checkpoint import Checkpoint
from lenet5.training.checkpoint_store import CheckpointStore, exclusive

CHECKPOINT = Checkpoint(
    rows=({"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-45}),
    variables=(np.arange(6, dtype=np.float32).reshape(2, 3), np.array([np.nextafter(1, 2)])),
    optimizer=(np.array(860, dtype=np.int64),),
    best_weights=(np.zeros((2, 3), np.float32), np.ones(1)),
    best=0.1,
    wait=3,
)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.encode() == other.encode()


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_checkpoint_is_loaded_by_its_training_only(tmp_path: Path, kind: str) -> None:
    url = {
        "folder": f"{tmp_path}/new",
        "file": f"file://{tmp_path}/there",
        "memory": f"memory://{tmp_path.name}",
    }[kind]
    if kind == "file":
        (tmp_path / "there").mkdir()
    store = CheckpointStore(url, "a" * 64)
    assert store.load() is None
    store.save(CHECKPOINT)
    loaded = store.load()
    assert loaded is not None
    assert same(loaded, CHECKPOINT)
    assert loaded.rows == CHECKPOINT.rows, "floats keep every bit"
    assert loaded.optimizer[0].dtype == np.int64
    assert CheckpointStore(url, "b" * 64).load() is None
    store.discard()
    assert store.load() is None
    store.discard()


def test_damaged_checkpoint_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(str(tmp_path), "a" * 64)
    store.save(CHECKPOINT)
    path = tmp_path / f"{'a' * 64}.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert store.load() is None
    assert "is not used" in caplog.text


def test_store_that_cannot_be_written_costs_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    store = CheckpointStore(str(tmp_path / "file" / "below"), "a" * 64)
    store.save(CHECKPOINT)
    assert "the checkpoint of epoch 2 was not saved" in caplog.text


def test_interrupted_save_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Broken(Checkpoint):
        def encode(self) -> bytes:
            raise KeyboardInterrupt

    store = CheckpointStore(str(tmp_path), "a" * 64)
    store.save(CHECKPOINT)
    with pytest.raises(KeyboardInterrupt):
        store.save(Broken(**vars(CHECKPOINT)))
    loaded = store.load()
    assert loaded is not None
    assert same(loaded, CHECKPOINT)
    assert [path.name for path in tmp_path.iterdir()] == [f"{'a' * 64}.npz"]


HOLD = """
import sys
from pathlib import Path
from lenet5.core.paths import Paths
from lenet5.model import engine
sys.modules["tensorflow"] = None  # nothing is computed here, and the import takes seconds
with engine.lean_keras():
    from lenet5.training.checkpoint_store import exclusive
with exclusive(Paths(Path(sys.argv[1])), "a"):
    print("held", flush=True)
    sys.stdin.read()
"""
"""A process that runs the training ``a`` until its standard input is closed."""


def _enter(paths: Paths) -> None:
    with exclusive(paths, "a"):
        pass


def test_same_training_waits_for_the_first_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with exclusive(Paths(tmp_path), "b"):
            pass  # another training does not wait
        second = threading.Thread(target=_enter, args=(Paths(tmp_path),))
        second.start()
        output = ""
        while "waiting for its end" not in output:
            assert second.is_alive()
            time.sleep(0.05)
            output += capsys.readouterr().out
        assert second.is_alive(), "it waits as long as the first one runs"
        first.stdin.close()
        second.join(300)
        assert not second.is_alive()
    assert first.returncode == 0
