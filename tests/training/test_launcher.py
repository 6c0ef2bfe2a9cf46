"""Several processes train the same model as one process does, and all end when one of them dies."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from lenet5.core.dataset import Split
from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Lineage, Training
from lenet5.model import keras_file
from lenet5.stages.train.batches import Batches, ValidationBatches
from lenet5.stages.train.params import Distortion, Train
from lenet5.stages.train.sharding import SINGLE_PROCESS, ProcessGroup
from lenet5.system.settings import embedded
from lenet5.training import launcher
from tests.stages.train.test_stage import LAUNCH, NO_STORE, prepare

pytestmark = pytest.mark.integration

GROUP_PROCESS = """
import sys
from lenet5.core.errors import Lenet5Error
from lenet5.model import engine
from lenet5.training.rendezvous import JaxProcessGroup, connected
sys.modules["tensorflow"] = None  # as in lenet5.training.process; the import takes seconds
with engine.lean_keras():
    import keras
rank, address = int(sys.argv[1]), sys.argv[2]
group = JaxProcessGroup(rank, 2)
with connected(group, address, 60):
    assert group.broadcast(b"from 0" if rank == 0 else b"") == b"from 0"
    assert group.broadcast(b"") == b""
    group.require_same("weights", "ab" * 32)
    try:
        group.require_same("weights", f"{rank}{rank}" * 32)
    except Lenet5Error as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every process: the processes share JAX's compilation cache, as in a checkout."""
    state = tmp_path_factory.mktemp("state")
    cache = {k: v for k, v in embedded(Paths(state)).items() if k.startswith("JAX_")}
    return {**os.environ, **NO_STORE, **cache, "LENET5_CHECKPOINTS": str(state / "checkpoints")}


@pytest.fixture(scope="module")
def recipe(settings: Train) -> Train:
    return settings.model_copy(update={"workers": 2, "epochs": 12})


@pytest.fixture
def project(tmp_path: Path, train: Split, validation: Split) -> Paths:
    return prepare(tmp_path / "one", train, validation)


Start = Callable[[Paths, Train], "subprocess.Popen[str]"]


@pytest.fixture
def start(compiled: dict[str, str]) -> Start:
    """Run the stage in a new process."""

    def run(paths: Paths, recipe: Train) -> "subprocess.Popen[str]":
        variables = launcher.environment(recipe.threads)  # a single process must use JAX as well
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(paths.root), recipe.model_dump_json()],
            env=compiled | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.mark.long
def test_two_processes_train_the_same_model_as_one(
    tmp_path: Path, train: Split, validation: Split, recipe: Train, start: Start
) -> None:
    """If one process is killed, all end, and the next training resumes and ends with the same bytes."""
    alone, uninterrupted, killed = (prepare(tmp_path / name, train, validation) for name in ("a", "b", "c"))
    with start(alone, recipe.model_copy(update={"workers": 1})) as one:
        assert one.wait() == 0, one.communicate()
    with start(uninterrupted, recipe) as two:
        assert two.wait() == 0, two.communicate()

    with start(killed, recipe) as dying:
        assert dying.stdout is not None
        for line in dying.stdout:
            if line.startswith("epoch 2/"):
                break
        processes = {child.cmdline()[-1]: child for child in psutil.Process(dying.pid).children()}
        next(child for spec, child in processes.items() if '"rank":1' in spec).kill()
        killed_at = time.monotonic()
        output = dying.stdout.read()
        assert dying.wait() == 1  # the exit code of a Python script that does not catch the error
        assert time.monotonic() - killed_at < 15
    assert "Unavailable: Process 1 of 2 (from 0) died, and the others were ended." in output
    assert "killed by signal 9" in output
    assert not any(child.is_running() for child in processes.values())
    assert not (killed.model.exists())
    assert not (killed.lineage.exists())
    assert not (killed.history.exists())
    with start(killed, recipe) as again:
        output, _ = again.communicate()
        assert again.returncode == 0, output
    assert "resuming an interrupted training" in output
    for name in ("model", "lineage", "training", "history"):
        assert getattr(killed, name).read_bytes() == getattr(uninterrupted, name).read_bytes()

    joint, single = Training.read(uninterrupted.training), Training.read(alone.training)
    assert joint.val_loss == pytest.approx(single.val_loss, rel=1e-3)
    weights, other = (keras_file.weights(keras_file.load(paths.model)) for paths in (uninterrupted, alone))
    for name, values in weights.items():
        np.testing.assert_allclose(values, other[name], atol=5e-3)
    assert "jax" in Lineage.read(uninterrupted.lineage).environment.packages


def test_different_digests_are_an_error_that_names_the_ranks(compiled: dict[str, str]) -> None:
    address = f"127.0.0.1:{launcher.free_port()}"
    environment = compiled | launcher.environment(1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GROUP_PROCESS, str(rank), address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "TrainingError The processes of this training have different weights; nothing is saved." in out
        assert "000000000000 on process 0, 111111111111 on process 1" in out


def test_process_without_a_connection_is_an_error(
    project: Paths, recipe: Train, compiled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**compiled, "LENET5_RENDEZVOUS": f"1@127.0.0.1:{launcher.free_port()}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launcher, "REMOTE_TIMEOUT_SECONDS", 2)
    with pytest.raises(Unavailable, match="did not connect") as error:
        launcher.run(project, recipe)
    assert "within 2 seconds" in str(error.value)


def test_shares_of_a_batch_together_are_the_batch(train: Split, settings: Train) -> None:
    turned = settings.model_copy(update={"distortion": Distortion(shift=1, rotation=10, scale=0.1)})
    split = Split(
        train.images[:301], train.labels[:301]
    )  # 9 batches of 32, and one of 13 images, of which one is dropped
    whole, *shares = (
        Batches(split, turned, group=group)
        for group in (SINGLE_PROCESS, ProcessGroup(0, 2), ProcessGroup(1, 2))
    )
    assert len(whole) == len(shares[0]) == len(shares[1])
    for index in range(len(whole)):
        images, labels = whole[index]
        size = len(images) // 2 * 2
        for rank, share in enumerate(shares):
            np.testing.assert_array_equal(share[index][0], images[rank:size:2])
            np.testing.assert_array_equal(share[index][1], labels[rank:size:2])


def test_last_batch_with_fewer_images_than_processes_is_dropped(train: Split, settings: Train) -> None:
    split = Split(train.images[:289], train.labels[:289])  # 9 batches of 32, and one of 1 image
    assert len(Batches(split, settings)) == 10
    assert len(Batches(split, settings, group=ProcessGroup(0, 2))) == 9


def test_every_validation_image_is_scored_once(train: Split) -> None:
    split = Split(train.images, np.arange(310.0))
    shares = [ValidationBatches(split, 99, ProcessGroup(rank, 2)) for rank in (0, 1)]
    labels = [[share[index][1] for index in range(len(share))] for share in shares]
    assert [len(batch) for batch in labels[0]] == [len(batch) for batch in labels[1]]
    assert sorted(np.concatenate([*labels[0], *labels[1]])) == list(range(310))


def test_validation_images_that_cannot_be_shared_out_are_an_error(
    tmp_path: Path, train: Split, validation: Split, recipe: Train
) -> None:
    odd = Split(validation.images[:199], validation.labels[:199])
    with pytest.raises(UsageError, match="cannot be shared out equally") as refused:
        launcher.run(prepare(tmp_path / "odd", train, odd), recipe)
    assert "divisible by train.workers, 2" in str(refused.value)
    with pytest.raises(UsageError, match="shared out"):
        ValidationBatches(odd, 100, ProcessGroup(0, 2))


def test_several_processes_without_jax_are_an_error(
    project: Paths, recipe: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UsageError, match=r"needs JAX") as refused:
        launcher.run(project, recipe)
    assert "pip install 'lenet5[jax]'" in str(refused.value)


def test_single_process_needs_no_communication() -> None:
    assert SINGLE_PROCESS.broadcast(b"x") == b"x"
    SINGLE_PROCESS.require_same("weights", "0" * 64)
