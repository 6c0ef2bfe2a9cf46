"""Several processes train one model: as one would, to the same weights, and none outlives another's death."""

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
from tests.stages.train.test_stage import AWAY, LAUNCH, prepare

MEMBER = """
import sys
from lenet5.core.errors import Lenet5Error
from lenet5.training.rendezvous import JaxProcessGroup, connected
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
    """What every process here has in its environment: one cache of what JAX compiled, as in a checkout."""
    state = tmp_path_factory.mktemp("state")
    cache = {k: v for k, v in embedded(Paths(state)).items() if k.startswith("JAX_")}
    return {**os.environ, **AWAY, **cache, "LENET5_CHECKPOINTS": str(state / "checkpoints")}


@pytest.fixture(scope="module")
def recipe(settings: Train) -> Train:
    return settings.model_copy(update={"workers": 2, "epochs": 12})


@pytest.fixture
def project(tmp_path: Path, train: Split, validation: Split) -> Paths:
    return prepare(tmp_path / "one", train, validation)


Start = Callable[[Paths, Train], "subprocess.Popen[str]"]


@pytest.fixture
def start(compiled: dict[str, str]) -> Start:
    """Run the stage in a process of its own."""

    def run(paths: Paths, recipe: Train) -> "subprocess.Popen[str]":
        chosen = launcher.environment(recipe.threads)  # for a single worker, too: JAX, the same sums
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(paths.root), recipe.model_dump_json()],
            env=compiled | chosen,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.mark.long
def test_two_workers_train_what_one_would(
    tmp_path: Path, train: Split, validation: Split, recipe: Train, start: Start
) -> None:
    """So do those of which one was killed: all end, and the next training goes on to the same bytes."""
    alone, through, killed = (prepare(tmp_path / name, train, validation) for name in ("a", "b", "c"))
    with start(alone, recipe.model_copy(update={"workers": 1})) as one:
        assert one.wait() == 0, one.communicate()
    with start(through, recipe) as two:
        assert two.wait() == 0, two.communicate()

    with start(killed, recipe) as dying:
        assert dying.stdout is not None
        for line in dying.stdout:
            if line.startswith("epoch 2/"):
                break
        members = {c.cmdline()[-1]: c for c in psutil.Process(dying.pid).children()}
        next(child for seat, child in members.items() if '"rank":1' in seat).kill()
        began = time.monotonic()
        told = dying.stdout.read()
        assert dying.wait() == 1  # the script's own: it does not catch
        assert time.monotonic() - began < 15
    assert "Unavailable: Process 1 of 2 (from 0) died, and the others were ended." in told
    assert "killed by signal 9" in told
    assert not any(child.is_running() for child in members.values())
    assert not (killed.model.exists())
    assert not (killed.lineage.exists())
    assert not (killed.history.exists())
    with start(killed, recipe) as again:
        told, _ = again.communicate()
        assert again.returncode == 0, told
    assert "resuming an interrupted training" in told
    for name in ("model", "lineage", "training", "history"):
        assert getattr(killed, name).read_bytes() == getattr(through, name).read_bytes()

    ours, its = Training.read(through.training), Training.read(alone.training)
    assert ours.val_loss == pytest.approx(its.val_loss, rel=1e-3)
    weights, other = (keras_file.weights(keras_file.load(paths.model)) for paths in (through, alone))
    for name, values in weights.items():
        np.testing.assert_allclose(values, other[name], atol=5e-3)
    assert "jax" in Lineage.read(through.lineage).environment.packages


def test_workers_that_differ_are_told_by_rank(compiled: dict[str, str]) -> None:
    address = f"127.0.0.1:{launcher.free_port()}"
    environment = compiled | launcher.environment(1)
    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(rank), address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for member in members:
        out, err = member.communicate()
        assert member.returncode == 0, err
        assert "TrainingError The processes of this training have different weights; nothing is saved." in out
        assert "000000000000 on process 0, 111111111111 on process 1" in out


def test_one_that_waits_in_vain_says_so(
    project: Paths, recipe: Train, compiled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**compiled, "LENET5_RENDEZVOUS": f"1@127.0.0.1:{launcher.free_port()}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launcher, "REMOTE_TIMEOUT_SECONDS", 2)
    with pytest.raises(Unavailable, match="did not connect") as alone:
        launcher.run(project, recipe)
    assert "within 2 seconds" in str(alone.value)


def test_the_shares_of_a_batch_are_the_batch(train: Split, settings: Train) -> None:
    turned = settings.model_copy(update={"distortion": Distortion(shift=1, rotation=10, scale=0.1)})
    split = Split(train.images[:301], train.labels[:301])  # 9 batches of 32, and 13 images: one is left over
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


def test_a_last_batch_of_fewer_images_than_workers_is_none(train: Split, settings: Train) -> None:
    split = Split(train.images[:289], train.labels[:289])  # 9 batches of 32, and 1 image
    assert len(Batches(split, settings)) == 10
    assert len(Batches(split, settings, group=ProcessGroup(0, 2))) == 9


def test_every_validation_image_counts_once(train: Split) -> None:
    split = Split(train.images, np.arange(310.0))
    shares = [ValidationBatches(split, 99, ProcessGroup(rank, 2)) for rank in (0, 1)]
    seen = [[share[index][1] for index in range(len(share))] for share in shares]
    assert [len(labels) for labels in seen[0]] == [len(labels) for labels in seen[1]]
    assert sorted(np.concatenate([*seen[0], *seen[1]])) == list(range(310))


def test_validation_images_that_cannot_be_shared_out_are_refused(
    tmp_path: Path, train: Split, validation: Split, recipe: Train
) -> None:
    odd = Split(validation.images[:199], validation.labels[:199])
    with pytest.raises(UsageError, match="cannot be shared out equally") as refused:
        launcher.run(prepare(tmp_path / "odd", train, odd), recipe)
    assert "divisible by train.workers, 2" in str(refused.value)
    with pytest.raises(UsageError, match="shared out"):
        ValidationBatches(odd, 100, ProcessGroup(0, 2))


def test_without_jax_several_workers_are_refused(
    project: Paths, recipe: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UsageError, match=r"needs JAX") as refused:
        launcher.run(project, recipe)
    assert "pip install 'lenet5[jax]'" in str(refused.value)


def test_alone_nothing_is_asked_of_anybody() -> None:
    assert SINGLE_PROCESS.broadcast(b"x") == b"x"
    SINGLE_PROCESS.require_same("weights", "0" * 64)
