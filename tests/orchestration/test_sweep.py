"""A real sweep over a few hundred digits: killed, gone on with, recorded; and what is refused."""

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from mlflow.entities import Run
from optuna.trial import FixedTrial, TrialState
from typer.testing import CliRunner

from lenet5.cli import app
from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.model import backend
from lenet5.orchestration import sweep
from lenet5.stages import params
from lenet5.stages.params import Params
from lenet5.stages.preprocess.stage import encode
from lenet5.stages.train.fit import fit
from lenet5.sweep import space, study, worker
from lenet5.sweep import trial as trials
from lenet5.sweep.space import Sweep
from lenet5.sweep.worker_spec import TrialWorkerSpec
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import runs, store, tags
from tests.conftest import BIN, REPOSITORY, Arrays, Project, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sweep")]

SPACE = """
trials: 4
seed: 2
pruner: {kind: percentile, keep: 0.5, startup_trials: 2, warmup_epochs: 0}
space:
  train.learning_rate: {low: 0.0001, high: 0.05, log: true}
  train.batch_size: {choices: [32, 64]}
"""

backend.configure(1)  # as a trial worker does; it must come before the first operation of the process


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, digits: Arrays, empty_database: Path) -> Project:
    """A checkout with processed data and nothing else: no raw data, and so no test image."""
    folder = tmp_path_factory.mktemp("sweep")
    made = Project(folder / "project", folder / "home")
    made.home.mkdir()
    made.root.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(REPOSITORY / name, made.root / name)
    made.set_params(**{"train.batch_size": 32, "train.epochs": 3})
    made.paths.sweep.write_text(SPACE)
    images, labels = digits["train_images"], digits["train_labels"]
    splits = {
        "train": encode(Split(images[:600], labels[:600]), padding=0, classes=10),
        "validation": encode(Split(images[600:800], labels[600:800]), padding=0, classes=10),
    }
    dataset.save(made.paths.processed, splits)
    (LocalState(made.paths.root).mlflow).mkdir(parents=True)
    shutil.copyfile(empty_database, LocalState(made.paths.root).mlflow / empty_database.name)
    return made


@pytest.fixture(scope="module", autouse=True)
def settled(project: Project) -> Iterator[None]:
    """The project's settings are in force, and the project is where commands run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        for name, value in settings.embedded(project.paths).items():
            patch.setenv(name, value)
        patch.chdir(project.root)
        yield


@pytest.fixture(autouse=True)
def embedded(settled: None) -> None:
    """In place of the fixture of all tests: the store is the project's own."""


@pytest.fixture(scope="module")
def base(project: Project) -> Params:
    return params.load(project.paths.params)


@pytest.fixture(scope="module")
def wanted(project: Project, base: Params) -> Sweep:
    return space.load(project.paths.sweep, base)


def running_trials(project: Project) -> int:
    """Count with one query: Optuna's own way takes longer than a trial on a busy machine."""
    url = settings.load(project.paths).lenet5_sweep_storage
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return int(database.execute("SELECT count(*) FROM trials WHERE state = 'RUNNING'").fetchone()[0])


@pytest.fixture(scope="module")
def killed(project: Project) -> list[str]:
    """A sweep whose command was killed in its second trial; what it said."""
    command = subprocess.Popen(
        [str(BIN / "lenet5"), "sweep", "--workers", "1"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert command.stdout is not None
    lines = []
    with command.stdout as output:
        for line in output:
            lines.append(line)
            if "1/4" in line:
                break
    until(lambda: running_trials(project), 30, "the second trial begins", pause=0.02)
    children = psutil.Process(command.pid).children()
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert "1/4" in lines[-1], "".join(lines)
    assert not psutil.wait_procs(children, timeout=15)[1], "no trial worker outlives its command"
    return lines


@pytest.fixture(scope="module")
def searched(project: Project, base: Params, wanted: Sweep, killed: list[str]) -> optuna.Study:
    """The same sweep, gone on with to its end."""
    lines: list[str] = []
    found = sweep.run(project.paths, base, wanted, workers=1, pool=None, on_line=lines.append)
    assert "1 of 4 trials are there" in lines[0], lines
    assert len(lines) == 4, lines
    assert found.trials == 4
    return study.create(project.paths, found.study, wanted, base)


def recorded(project: Project) -> tuple[Run, dict[int, Run]]:
    """The study's run, and the trials' by number."""
    client = store.connect(project.paths)
    found = client.search_runs([store.experiment(client, project.paths)])
    [parent] = [run for run in found if tags.TRIAL not in run.data.tags]
    return parent, {int(run.data.tags[tags.TRIAL]): run for run in found if tags.TRIAL in run.data.tags}


def test_what_was_killed_goes_on(searched: optuna.Study) -> None:
    states = [trial.state for trial in searched.trials]
    assert states[0] is TrialState.COMPLETE, "the first trial stays as it was"
    assert states.count(TrialState.RUNNING) == states.count(TrialState.WAITING) == 0
    done = [trial for trial in searched.trials if trial.state in study.DONE]
    assert len(done) == 4
    [lost] = [trial for trial in searched.trials if trial.state is TrialState.FAIL]
    assert any(trial.params == lost.params for trial in done), "it is run again"


def test_the_first_trial_is_params_yaml(searched: optuna.Study) -> None:
    assert searched.trials[0].params == {"train.learning_rate": 0.008, "train.batch_size": 32}


def test_a_trial_that_does_worse_is_ended_early(project: Project, searched: optuna.Study) -> None:
    pruned = [trial for trial in searched.trials if trial.state is TrialState.PRUNED]
    assert pruned
    _, children = recorded(project)
    client = store.connect(project.paths)
    for trial in pruned:
        run = children[trial.number]
        assert trial.last_step is not None
        assert trial.last_step < 3
        assert run.data.tags[tags.TRIAL_STATE] == "pruned"
        assert len(client.get_metric_history(run.info.run_id, "train.loss")) == trial.last_step


def test_every_trial_is_a_run_below_that_of_the_study(project: Project, searched: optuna.Study) -> None:
    parent, children = recorded(project)
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert {run.info.status for run in children.values()} <= {"FINISHED", "KILLED"}, "none says it runs"
    for trial in searched.get_trials(states=study.DONE):
        run = children[trial.number]
        assert float(run.data.params["train.batch_size"]) == trial.params["train.batch_size"]
        assert run.data.params["train.epochs"] == "3"
    best = searched.best_trial
    assert parent.data.metrics["sweep.best"] == children[best.number].data.metrics["sweep.score"]
    assert parent.data.tags["best.train.batch_size"] == str(best.params["train.batch_size"])
    logged = store.connect(project.paths).list_artifacts(parent.info.run_id, "plots")
    pictures = {each.path for each in logged}
    names = ("optimization_history", "parallel_coordinates", "param_importances")
    assert pictures == {f"plots/{name}.png" for name in names}


def test_no_run_of_a_sweep_is_taken_for_the_run_of_a_model(project: Project, searched: optuna.Study) -> None:
    parent, children = recorded(project)
    for run in (parent, *children.values()):
        assert not {tags.TRAINING, tags.WEIGHTS} & run.data.tags.keys()
    client = store.connect(project.paths)
    assert runs.find_complete(client, project.paths, searched.study_name, "") is None


def test_the_test_images_are_not_there_to_be_read(project: Project, searched: optuna.Study) -> None:
    assert not project.paths.raw.exists()
    assert set(dataset.load_manifest(project.paths.processed).splits) == {"train", "validation"}


def test_a_trial_is_the_training_of_the_stage(project: Project, base: Params, searched: optuna.Study) -> None:
    """In another process and after other trials: the winner, made a candidate, is what was scored."""
    splits = dataset.load(project.paths.processed).splits
    _, history = fit(splits["train"], splits["validation"], base.train, on_epoch=lambda epoch, metrics: None)
    best = int(history["val_loss"].argmin())
    assert searched.trials[0].value == history["val_accuracy"][best]
    _, children = recorded(project)
    client = store.connect(project.paths)
    told = client.get_metric_history(children[0].info.run_id, "train.val_loss")
    assert [metric.value for metric in told] == list(history["val_loss"])


def test_when_all_trials_are_there_it_says_so_and_applies_the_winner(
    project: Project, base: Params, searched: optuna.Study, tmp_path: Path
) -> None:
    before = project.paths.params.read_text()
    shutil.copyfile(project.paths.params, tmp_path / "params.yaml")
    try:
        done = CliRunner().invoke(app, ["sweep", "--apply", "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "4 of 4 trials are there" in done.stderr
        winner = json.loads(done.stdout)["winner"]
        assert winner["score"] == searched.best_value
        after = params.load(project.paths.params)
        assert {name: after.flat()[name] for name in winner["values"]} == winner["values"]
        changed = {name for name, value in base.flat().items() if after.flat()[name] != value}
        assert changed <= winner["values"].keys()
        assert after.flat().keys() == base.flat().keys()
        assert project.paths.params.read_text().count("#") == before.count("#")
        again = CliRunner().invoke(app, ["sweep"], catch_exceptions=False)
        assert "4 of 4 trials are there" in again.output, "the winner's values begin no other study"
        assert "No trial was better than params.yaml." in again.output
    finally:
        shutil.copyfile(tmp_path / "params.yaml", project.paths.params)


def test_a_training_that_diverges_does_not_end_the_sweep(project: Project, base: Params) -> None:
    splits = dataset.load(project.paths.processed).splits
    trial = FixedTrial({})
    hot = base.train.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(optuna.TrialPruned):
        trials.score(trial, splits["train"], splits["validation"], hot, lambda epoch, metrics: None)  # type: ignore[arg-type]
    assert "diverged" in trial.user_attrs[trials.DIVERGED]


def test_a_trial_worker_with_other_data_refuses(project: Project, base: Params, wanted: Sweep) -> None:
    order = TrialWorkerSpec(study="0" * 64, run="", worker=0, sweep=wanted)
    with pytest.raises(UsageError, match="would train other models than the sweep"):
        worker.search(project.paths, base, order)


def test_a_second_command_keeps_out(project: Project, base: Params, wanted: Sweep) -> None:
    from filelock import FileLock

    from lenet5.core.errors import Unavailable

    digest = dataset.load_manifest(project.paths.processed).digest
    LocalState(project.paths.root).sweeps.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(
            LocalState(project.paths.root).sweeps / f"{study.name(project.paths, wanted, base, digest)}.lock"
        ),
        pytest.raises(Unavailable, match="Another command is at work on this sweep"),
    ):
        sweep.run(project.paths, base, wanted, workers=1, pool=None, on_line=print)


def test_a_pool_needs_a_database_that_machines_share(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(app, ["sweep", "--pool", "cpu"])
    assert isinstance(done.exception, UsageError)
    assert "LENET5_SWEEP_STORAGE" in str(done.exception)
    monkeypatch.setenv("LENET5_SWEEP_STORAGE", "postgresql+psycopg://me:secret@127.0.0.1:9/sweeps")
    done = CliRunner().invoke(app, ["sweep", "--pool", "cpu"])
    assert "there is no Prefect server" in str(done.exception)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:9/sweeps", "The database of the sweeps does not answer"),
        ("oracel://me:secret@host/sweeps", "LENET5_SWEEP_STORAGE cannot be used"),
    ],
)
def test_a_database_that_does_not_answer_is_told_without_its_password(
    project: Project, base: Params, wanted: Sweep, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("LENET5_SWEEP_STORAGE", url)
    with pytest.raises(Exception, match=told) as refused:
        study.create(project.paths, "some", wanted, base)
    assert "secret" not in str(refused.value)


CHECKOUT = Paths(REPOSITORY)


def test_the_name_of_a_study_is_what_decides_its_scores(base: Params, wanted: Sweep) -> None:
    name = study.name(CHECKOUT, wanted, base, "data")
    assert study.name(CHECKOUT, wanted.model_copy(update={"trials": 9}), base, "data") == name
    assert study.name(CHECKOUT, wanted, base.changed({"train.learning_rate": 0.01}), "data") == name
    assert study.name(CHECKOUT, wanted, base.changed({"evaluate.mistakes": 3}), "data") == name
    assert study.name(CHECKOUT, wanted, base, "other") != name
    assert study.name(CHECKOUT, wanted, base.changed({"train.epochs": 9}), "data") != name
    assert study.name(CHECKOUT, wanted.model_copy(update={"seed": 9}), base, "data") != name


def refusal(folder: Path, base: Params, **changed: Any) -> str:
    content = {"trials": 4, "seed": 1, "pruner": {"kind": "none"}, "space": {}} | changed
    file = folder / "sweep.yaml"
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError) as refused:
        space.load(file, base)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "dimension", "told"),
    [
        ("train.learing_rate", {"low": 0.1, "high": 0.2}, "learning_rate"),
        ("preprocess.padding", {"choices": [0, 2]}, "only parameters of the training"),
        ("register.gate.margin", {"low": 0.1, "high": 0.2}, "only parameters of the training"),
        ("train.seed", {"low": 1, "high": 2}, "only lucky on the validation images"),
        ("train.threads", {"choices": [1, 2]}, "a process sets it once"),
        ("train.architecture", {"choices": ["lenet5", "mlp"]}, "the parameters of one architecture"),
        ("train.warmup", {"low": 0.0, "high": 1.0}, "train.warmup: Input should be less than 1, found 1.0"),
        ("train.kernel_size", {"low": 3, "high": 5}, "train.kernel_size: Input should be 3 or 5, found 4"),
        ("train.optimizer", {"choices": ["adam", "sgd"]}, "found 'sgd'"),
        ("train.batch_size", {"low": 32.5, "high": 64}, "train.batch_size is an integer"),
        ("train.learning_rate", {"low": 0.2, "high": 0.1}, "low must be below high, found 0.2 and 0.1"),
        ("train.warmup", {"low": 0.0, "high": 0.5, "log": True}, "low must be above 0 on a log"),
        ("train.warmup", {"low": 0.1, "high": 0.5, "logg": True}, "Extra inputs are not permitted"),
        ("train.optimizer", {"choices": ["adam"]}, "at least 2 items"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    tmp_path: Path, base: Params, name: str, dimension: dict[str, Any], told: str
) -> None:
    assert told in refusal(tmp_path, base, space={name: dimension})


def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, base: Params) -> None:
    assert "at least 1 item" in refusal(tmp_path, base)
    assert "trials: Input should be greater than 0" in refusal(tmp_path, base, trials=0)
    assert "pruner" in refusal(tmp_path, base, pruner={"kind": "mean"})
    with pytest.raises(UsageError, match="The file with the search space is missing"):
        space.load(tmp_path / "nothing.yaml", base)


def test_the_file_in_the_repository_can_be_used() -> None:
    real = params.load(REPOSITORY / "params.yaml")
    found = space.load(REPOSITORY / "sweep.yaml", real)
    assert found.own_values(real) is not None, "params.yaml lies in it"


def test_floats_are_short_and_stay_inside() -> None:
    found = Sweep.model_validate(
        {"trials": 1, "seed": 1, "pruner": {"kind": "none"}, "space": {"x": {"low": 0.12344, "high": 1.0}}}
    )
    assert found.values({"x": 0.34567891}) == {"x": 0.3457}
    assert found.values({"x": 0.12344}) == {"x": 0.12344}
