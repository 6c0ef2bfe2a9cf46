"""A run with nothing to do starts no server; a run with anything to do starts one, as it always did."""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from lenet5.core import files
from lenet5.orchestration import local_run
from lenet5.registry import model_versions
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import store, tags
from tests.conftest import Project, flip_a_bit
from tests.registry.factory import add_model

MODEL = "lenet5-mnist"
RUN = """
import json, sys
from lenet5 import cli
try:
    cli.main()
finally:
    slow = {"prefect", "mlflow", "sqlalchemy", "tensorflow", "sklearn", "matplotlib", "scipy"}
    if sys.argv[1] == "versions":
        slow |= {"pandas", "dvc"}
    print(json.dumps(sorted(slow & set(sys.modules))))
"""
"""A command of `lenet5` in a process of its own, which then prints which of these modules it imported."""
STARTS = 77


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project. A test may change it."""
    return finished.copy(tmp_path)


def run(project: Project, *options: str, **environment: str) -> tuple[int, str]:
    """Return the exit code of ``lenet5 run`` (``STARTS`` when it starts a flow), and what it prints."""

    def start(*_: object) -> None:
        print("a server starts")
        sys.exit(STARTS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_run, "_start_server", start)
        patch.setattr(local_run, "RemoteServer", start)
        done = project.call("lenet5", "run", *options, environment=environment)
    assert done.returncode in (0, 3, STARTS), done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def client(project: Project) -> MlflowClient:
    return MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])


def tracked(project: Project) -> dict[str, str]:
    """The digests of all files outside of the local state, by their path."""
    return {
        path.relative_to(project.root).as_posix(): files.md5(path)
        for path in sorted(project.root.rglob("*"))
        if path.is_file() and not {".git", ".dvc", ".lenet5", "__pycache__"} & set(path.parts)
    }


def store_of(project: Project) -> list[str]:
    """Every row of the embedded store, as SQL."""
    with closing(sqlite3.connect(LocalState(project.paths.root).mlflow_database)) as database:
        return list(database.iterdump())


def test_nothing_to_do_prints_the_result_and_changes_nothing(copy: Project) -> None:
    before, rows = tracked(copy), store_of(copy)
    done = copy.command("python", "-c", RUN, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "│ champion │" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == [], "no slow library is imported"
    assert tracked(copy) == before
    assert store_of(copy) == rows


def test_a_list_of_versions_imports_no_slow_library(finished: Project) -> None:
    done = finished.command("python", "-c", RUN, "versions")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_run_from_a_folder_below_has_nothing_to_do_either(copy: Project) -> None:
    below = Project(copy.root / "src", copy.home)
    code, _ = run(below, PWD=str(below.root))
    assert code == 0


def test_a_shared_remote_is_written_as_the_flow_writes_it(copy: Project, tmp_path: Path) -> None:
    (copy.root / ".env").write_text(f"LENET5_DVC_REMOTE={tmp_path / 'shared'}\n")
    code, _ = run(copy)
    assert code == 0
    assert str(tmp_path / "shared") in (copy.root / ".dvc/config.local").read_text()


def change_a_parameter(project: Project) -> None:
    project.set_params(**{"train.seed": 99})


def change_a_limit_of_the_gate(project: Project) -> None:
    project.set_params(**{"register.floors.accuracy": 0.5})


def change_the_code_of_a_stage(project: Project) -> None:
    with (project.root / "src/lenet5/stages/preprocess/stage.py").open("a") as code:
        code.write("# another line\n")


def change_the_command_of_a_stage(project: Project) -> None:
    graph = project.paths.graph
    graph.write_text(graph.read_text().replace("cmd: lenet5 evaluate", "cmd: lenet5 -v evaluate"))


def change_the_source(project: Project) -> None:
    flip_a_bit(next((project.root / "data/mnist").iterdir()), 100)


def lose_an_output(project: Project) -> None:
    project.paths.onnx.unlink()


def edit_an_output(project: Project) -> None:
    evaluation = json.loads(project.paths.evaluation.read_text())
    project.paths.evaluation.write_text(json.dumps(evaluation | {"accuracy": 0.9999}))


def lose_an_object_of_the_cache(project: Project) -> None:
    objects = project.root / ".dvc/cache/files/md5"
    digest = files.md5(project.paths.onnx)
    (objects / digest[:2] / digest[2:]).unlink()


def damage_an_object_of_the_cache(project: Project) -> None:
    objects = project.root / ".dvc/cache/files/md5"
    digest = files.md5(project.paths.onnx)
    path = objects / digest[:2] / digest[2:]
    path.chmod(0o644)
    flip_a_bit(path, 1000)
    os.utime(path)


def lose_the_lock(project: Project) -> None:
    project.paths.lock.unlink()


def edit_the_lock(project: Project) -> None:
    digest = files.md5(project.paths.onnx)
    text = project.paths.lock.read_text()
    assert digest in text
    project.paths.lock.write_text(text.replace(digest, digest[::-1]))


def cut_the_lock(project: Project) -> None:
    text = project.paths.lock.read_text()
    project.paths.lock.write_text(text[: text.index("  train:")])


def lose_the_store(project: Project) -> None:
    shutil.rmtree(LocalState(project.paths.root).mlflow)


def lose_the_version(project: Project) -> None:
    client(project).delete_model_version(MODEL, "1")


def lose_the_run(project: Project) -> None:
    client(project).delete_run(client(project).get_model_version(MODEL, "1").run_id)


def change_a_tag_of_the_version(project: Project) -> None:
    client(project).set_model_version_tag(MODEL, "1", "evaluate.accuracy", "0.5")


def lose_the_champion(project: Project) -> None:
    client(project).delete_registered_model_alias(MODEL, "champion")


def leave_a_promotion_pending(project: Project) -> None:
    client(project).delete_model_version_tag(f"{MODEL}.history", "1", "settled")


def damage_the_log_of_promotions(project: Project) -> None:
    client(project).set_model_version_tag(f"{MODEL}.history", "1", "move", "{}")


def change_the_tables(project: Project) -> None:
    with closing(sqlite3.connect(LocalState(project.paths.root).mlflow_database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'f00d00000000'")


@pytest.mark.parametrize(
    "change",
    [
        change_a_parameter,
        change_a_limit_of_the_gate,
        change_the_code_of_a_stage,
        change_the_command_of_a_stage,
        change_the_source,
        lose_an_output,
        edit_an_output,
        lose_an_object_of_the_cache,
        damage_an_object_of_the_cache,
        lose_the_lock,
        edit_the_lock,
        cut_the_lock,
        lose_the_store,
        lose_the_version,
        lose_the_run,
        change_a_tag_of_the_version,
        lose_the_champion,
        leave_a_promotion_pending,
        damage_the_log_of_promotions,
        change_the_tables,
    ],
)
def test_anything_to_do_starts_the_flow(copy: Project, change: Callable[[Project], None]) -> None:
    change(copy)
    lock = copy.paths.lock.read_bytes() if copy.paths.lock.exists() else None
    code, output = run(copy)
    assert code == STARTS, output
    assert "a server starts" in output
    assert (copy.paths.lock.read_bytes() if copy.paths.lock.exists() else None) == lock


@pytest.mark.parametrize("options", [["--force"], ["--force-stage", "ingest"], ["--placement", "strict"]])
def test_who_asks_for_a_flow_gets_one(copy: Project, options: list[str]) -> None:
    code, _ = run(copy, *options)
    assert code == STARTS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_URL", "http://127.0.0.1:1/api"),
        ("MLFLOW_TRACKING_URI", "sqlite:///{folder}/other.db"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:1"),
        ("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1"),
        ("MLFLOW_EXPERIMENT_NAME", "another"),
    ],
)
def test_other_settings_start_the_flow(copy: Project, tmp_path: Path, name: str, value: str) -> None:
    code, _ = run(copy, **{name: value.format(folder=tmp_path)})
    assert code == STARTS
    assert not (tmp_path / "other.db").exists()


def another_champion(project: Project, *, perfect: bool) -> None:
    """Make a version champion that answers as version 1 or always correctly; ask the gate about version 1."""
    paths = project.paths
    tables = {
        model_versions.PREDICTIONS: pd.read_parquet(paths.predictions),
        model_versions.ROBUSTNESS: pd.read_parquet(paths.robustness),
        model_versions.SLICES: pd.read_parquet(paths.slices),
    }
    if perfect:
        for name in (model_versions.PREDICTIONS, model_versions.ROBUSTNESS):
            tables[name]["predicted"] = tables[name]["label"]
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.embedded(paths).items():
            environment.setenv(name, value)
        store_client = store.connect(paths)
        first = store_client.get_model_version(MODEL, "1")
        add_model(
            store_client,
            paths,
            MODEL,
            tables.pop(model_versions.PREDICTIONS),
            test_data=first.tags[tags.TEST_DATA],
            tables=tables,
            extra_tags={
                name: first.tags[name]
                for name in (tags.DATA_NAME, tags.CLASSES, tags.IMAGE_SHAPE, tags.CORRUPTED_IMAGES)
            },
        )
    forced = project.call("lenet5", "promote", "2", "--force", "--reason", "a test")
    assert forced.returncode == 0, forced.stderr
    # the champion is not a challenger, and `lenet5 run` makes its version one before it asks the gate
    store_client.set_registered_model_alias(MODEL, model_versions.CHALLENGER, "1")
    assert project.call("lenet5", "promote", "1").returncode == 3


@pytest.mark.parametrize(("perfect", "code", "decision"), [(False, 0, "keep: "), (True, 3, "reject: ")])
def test_a_version_that_was_not_promoted_needs_no_flow_either(
    copy: Project, perfect: bool, code: int, decision: str
) -> None:
    another_champion(copy, perfect=perfect)
    judged = copy.call("lenet5", "promote", "1")
    before, rows = tracked(copy), store_of(copy)
    done = copy.command("python", "-c", RUN, "run")
    assert done.returncode == code, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [], "no slow library is imported"
    [verdict] = [line for line in judged.stdout.splitlines() if line.startswith(decision)]
    assert verdict in (done.stderr if code else done.stdout)
    assert "against the champion: " in (done.stderr if code else done.stdout)
    if code:
        assert "Version 1 is not promoted. Version 2 stays champion." in done.stderr
    else:
        assert "Version 1 is registered, and version 2 stays champion: a tie" in done.stdout
    assert tracked(copy) == before
    assert store_of(copy) == rows

    client(copy).set_model_version_tag(MODEL, "2", tags.MODEL_FILE, "another")
    assert run(copy)[0] == STARTS
    client(copy).delete_registered_model_alias(MODEL, "champion")
    assert run(copy)[0] == STARTS


@pytest.mark.integration
def test_the_flow_prints_the_same(copy: Project) -> None:
    before = tracked(copy)
    quick = copy.run("lenet5", "run")
    flow = copy.run("lenet5", "run", "--force-stage", "ingest")
    marker = "│ 1"
    assert quick[quick.index(marker) :] == flow[flow.index(marker) :]
    assert tracked(copy) == before
