"""The whole pipeline on real digits, with `lenet5 run` and with `dvc repro`.

Prefect's server runs during each `lenet5 run`, so a test with a `lenet5 run` of its own is one of servers.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from lenet5.core.results import Lineage
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import embedded_store
from tests.conftest import BIN, TEST, Arrays, Project, until

EXPERIMENT = "lenet5-mnist"
MODEL = "lenet5-mnist"


def client(project: Project) -> MlflowClient:
    return MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])


def runs(of: MlflowClient) -> list[Any]:
    return list(of.search_runs([of.get_experiment_by_name(EXPERIMENT).experiment_id]))


def versions(project: Project) -> list[dict[str, Any]]:
    return list(json.loads(project.run("lenet5", "versions", "--json")))


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project. A test may change it."""
    return finished.copy(tmp_path)


def test_one_command_ends_with_a_champion(finished: Project) -> None:
    output = (finished.home.parent / "first-run.log").read_text()
    assert re.search(r"1 +│ champion +│ 0\.\d{4}", output)
    assert "Next: " in output
    [version] = versions(finished)
    assert version["aliases"] == ["champion"]
    assert version["commit"] == finished.git("rev-parse", "HEAD").strip()
    assert not version["dirty"]


def test_nothing_is_written_to_the_home_folder_or_to_git(finished: Project) -> None:
    assert list(finished.home.iterdir()) == []
    assert finished.git("status", "--porcelain").split("\n")[:-1] == ["?? dvc.lock"]


def test_the_run_holds_everything_about_the_model(finished: Project) -> None:
    mlflow = client(finished)
    [run] = runs(mlflow)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.learning_rate"] == "0.008"
    assert run.data.params["ingest.source"] == "data/mnist"
    assert run.data.params["register.floors.accuracy"] == "0.85"
    assert [m.step for m in mlflow.get_metric_history(run.info.run_id, "train.val_loss")] == [1, 2]
    evaluation = json.loads(finished.paths.evaluation.read_text())
    assert run.data.metrics["evaluate.accuracy"] == evaluation["accuracy"]
    assert run.data.metrics["evaluate.val_accuracy"] == evaluation["val_accuracy"]
    details = json.loads(finished.paths.evaluation_details.read_text())
    assert run.data.metrics["evaluate.loss"] == details["loss"]
    assert run.data.metrics["evaluate.error_percent"] == pytest.approx(100 * (1 - evaluation["accuracy"]))
    assert {"evaluate.train_accuracy", "evaluate.val_accuracy"} <= set(run.data.metrics)
    assert run.info.run_name == "batch 32, validation images 300"
    tables = {
        name: pd.read_csv(
            download_artifacts(
                f"runs:/{run.info.run_id}/results/{name}.csv", tracking_uri=mlflow.tracking_uri
            )
        )
        for name in ("per_class", "robustness")
    }
    assert len(tables["per_class"]) == 10
    for name, accuracy in details["corruption_accuracy"].items():
        of_corruption = tables["robustness"][tables["robustness"]["corruption"] == name]
        assert of_corruption["accuracy"].mean() == pytest.approx(accuracy)
    # a chart for each class or corruption would hide the curves
    assert not [name for name in run.data.metrics if name.count(".") > 1]
    assert "system/cpu_utilization_percentage" in run.data.metrics
    inputs = {d.dataset.name: d.tags[0].value for d in run.inputs.dataset_inputs}
    assert inputs == {"mnist-train": "training", "mnist-validation": "validation", "mnist-test": "testing"}
    assert run.data.tags["prefect.flow_run_id"]
    for folder, names in {
        "code": {"params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock"},
        "figures": {"confusion.png", "learning_curves.png", "mistakes.png", "calibration.png"},
        "validation": {"index.html", "summary.html"},
        "results": {
            "predictions.parquet",
            "robustness.parquet",
            "evaluation.json",
            "evaluation_details.json",
        },
        "bom": {"model.cdx.json", "packages.cdx.json"},
    }.items():
        assert names <= {Path(f.path).name for f in mlflow.list_artifacts(run.info.run_id, folder)}


def test_epochs_reach_mlflow_while_it_trains(finished: Project) -> None:
    mlflow = client(finished)
    [run] = runs(mlflow)
    stamps = [m.timestamp for m in mlflow.get_metric_history(run.info.run_id, "train.loss")]
    assert stamps[0] < stamps[1]  # what registering fills in afterwards comes within a millisecond or two
    assert all(run.info.start_time < stamp for stamp in stamps)


@pytest.mark.integration
def test_the_champion_loads_with_plain_mlflow_and_reads_raw_pixels(
    finished: Project, digits: Arrays, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path)
    embedded_store.prepare(project.paths)  # it rewrites the locations in the store, which is a copy
    np.save(tmp_path / "pixels.npy", digits["test_images"][:50])
    script = (
        "import sys, mlflow, numpy as np\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "assert 'lenet5' not in sys.modules\n"
        "assert model.predict(model.input_example).shape == (3, 10)\n"
        "print(np.argmax(model.predict(np.load(sys.argv[2])), axis=1).tolist())\n"
    )
    uri = settings.embedded(project.paths)["MLFLOW_TRACKING_URI"]
    done = subprocess.run(
        [sys.executable, "-c", script, f"models:/{MODEL}@champion", str(tmp_path / "pixels.npy")],
        env=project.environment() | {"MLFLOW_TRACKING_URI": uri, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = np.array(json.loads(done.stdout.strip().splitlines()[-1]))
    assert (answers == digits["test_labels"][:50]).mean() > 0.8


@dataclass(frozen=True)
class SecondRun:
    """A project after a second flow, with what was seen meanwhile. Its version alone has to be registered."""

    project: Project
    before: bytes
    """``dvc.lock`` before it."""
    output: str
    status: int
    """HTTP status of the server's answer to a request without the login."""
    login: str
    """User and password of the server, from the environment of its process."""


@pytest.fixture(scope="module")
def second_run(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> SecondRun:
    project = finished.copy(tmp_path_factory.mktemp("second-run"))
    client(project).set_model_version_tag(MODEL, "1", "evaluate.accuracy", "unknown")  # or no flow would run
    before = project.paths.lock.read_bytes()
    flow = subprocess.Popen(
        [str(BIN / "lenet5"), "run"],
        cwd=project.root,
        env=project.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with flow:
        assert flow.stdout is not None
        address = re.findall(r"http://\S+", flow.stdout.readline())[0]
        answer = requests.get(f"{address}/admin/version", timeout=300)
        [server] = psutil.Process(flow.pid).children()
        login = server.environ()["PREFECT_SERVER_API_AUTH_STRING"]
        output = flow.stdout.read()
        assert flow.wait(timeout=300) == 0, output
    return SecondRun(project, before, output, answer.status_code, login)


@pytest.mark.integration
def test_a_second_run_trains_nothing_and_makes_no_new_run(second_run: SecondRun) -> None:
    assert "Running stage" not in second_run.output
    stages = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
    assert [f"{stage}: cached" in second_run.output.splitlines() for stage in stages] == [True] * len(stages)
    assert len(runs(client(second_run.project))) == 1
    assert len(versions(second_run.project)) == 1
    assert second_run.project.paths.lock.read_bytes() == second_run.before


@pytest.mark.integration
def test_the_server_of_a_flow_has_a_login_that_nobody_else_can_read(second_run: SecondRun) -> None:
    assert second_run.status == 401
    assert len(second_run.login) > 40
    written = [path for path in (second_run.project.root / ".lenet5").rglob("*") if path.is_file()]
    assert any(path.name.startswith("prefect.db") for path in written)
    for text in (second_run.output.encode(), *(path.read_bytes() for path in written)):
        assert second_run.login.encode() not in text
        assert second_run.login.partition(":")[2].encode() not in text


@pytest.mark.long  # reproducing a version in test_servers.py compares the same bytes
def test_forcing_every_stage_gives_the_same_bytes_and_no_new_run(copy: Project) -> None:
    before = copy.paths.lock.read_bytes()
    output = copy.run("dvc", "repro", "--force")
    assert output.count("Running stage") == 6
    assert copy.paths.lock.read_bytes() == before
    assert len(runs(client(copy))) == 1
    assert [v["aliases"] for v in versions(copy)] == [["champion"]]


@pytest.mark.integration
def test_a_wiped_store_is_rebuilt_from_the_files(finished: Project, copy: Project) -> None:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")
    copy.git("add", "dvc.lock")
    copy.git(*identity, "commit", "--quiet", "--message", "The lock of the model")
    recorded = copy.git("rev-parse", "HEAD").strip()
    (copy.root / "later.txt").write_text("nothing to do with the model")
    copy.git("add", "--all")
    copy.git(*identity, "commit", "--quiet", "--message", "Later")
    shutil.rmtree(LocalState(copy.paths.root).folder)
    output = copy.run("lenet5", "register")
    assert "version 1" in output
    [was], [now] = runs(client(finished)), runs(client(copy))
    assert now.data.params == was.data.params
    measured_then = {k: v for k, v in was.data.metrics.items() if not k.startswith("system/")}
    assert now.data.metrics == measured_then
    then, again = (
        [(m.step, m.value) for m in client(p).get_metric_history(r.info.run_id, "train.loss")]
        for p, r in ((finished, was), (copy, now))
    )
    assert then == again
    lineage = Lineage.read(copy.paths.lineage)
    assert now.data.tags["lenet5.weights"] == was.data.tags["lenet5.weights"] == lineage.weights
    [version] = versions(copy)
    assert version["aliases"] == ["challenger"]
    assert version["commit"] == recorded, "the commit that recorded the model, and not the latest one"
    assert not version["dirty"]


def edit_lineage(copy: Project) -> None:
    lineage = json.loads(copy.paths.lineage.read_text())
    first = lineage["weights"][0]
    lineage["weights"] = ("0" if first != "0" else "1") + lineage["weights"][1:]
    copy.paths.lineage.write_text(json.dumps(lineage))


def edit_metrics(copy: Project) -> None:
    evaluation = json.loads(copy.paths.evaluation.read_text())
    copy.paths.evaluation.write_text(json.dumps(evaluation | {"accuracy": 0.9999}))


def forget(copy: Project) -> None:
    copy.paths.lock.unlink()


@pytest.mark.parametrize("edit", [edit_lineage, edit_metrics, forget])
def test_what_was_edited_by_hand_is_not_registered(copy: Project, edit: Callable[[Project], None]) -> None:
    edit(copy)
    refused = copy.command("lenet5", "register")
    assert refused.returncode == 4
    assert "dvc.lock" in refused.stderr
    assert "`dvc repro`" in refused.stderr
    assert len(versions(copy)) == 1


@pytest.mark.integration
def test_one_parameter_goes_all_the_way_and_a_worse_model_is_refused(copy: Project) -> None:
    copy.set_params(**{"train.learning_rate": 0.0000123})
    refused = copy.command("lenet5", "run")
    assert refused.returncode == 3, refused.stderr
    message = re.split(r"^error: ", refused.stderr, flags=re.MULTILINE)[-1]
    assert "Version 2 is not promoted. Version 1 stays champion." in message
    assert re.search(r"floor of accuracy: 0\.\d{4}, at least 0\.8500 ✗", message)
    assert "Traceback" not in refused.stderr + refused.stdout

    assert (
        "learning_rate: 0.0000123" in copy.paths.lock.read_text() or "1.23e-05" in copy.paths.lock.read_text()
    )
    mlflow = client(copy)
    new = next(r for r in runs(mlflow) if r.data.params["train.learning_rate"] == "1.23e-05")
    rates = [m.value for m in mlflow.get_metric_history(new.info.run_id, "train.learning_rate")]
    assert max(rates) <= 1.23e-05  # as the optimizer itself reports it
    assert new.data.tags["git.dirty"] == "true"
    patch = mlflow.download_artifacts(new.info.run_id, "code/uncommitted.patch", str(copy.home))
    assert "+  learning_rate: 1.23e-05" in Path(patch).read_text()

    assert [(v["version"], v["aliases"]) for v in versions(copy)] == [(2, ["challenger"]), (1, ["champion"])]
    compared = json.loads(copy.run("dvc", "params", "diff", "--json"))
    assert compared["params.yaml"]["train.learning_rate"]["new"] == 1.23e-05

    without_flow = copy.command("lenet5", "run")
    assert without_flow.returncode == 3, without_flow.stderr
    assert re.split(r"^error: ", without_flow.stderr, flags=re.MULTILINE)[-1] == message
    assert "Starting a Prefect server" not in without_flow.stdout
    assert "promote: not promoted" in without_flow.stdout

    again = copy.command("lenet5", "promote")
    assert again.returncode == 3
    assert [v["aliases"] for v in versions(copy)] == [["challenger"], ["champion"]]


@pytest.mark.long  # tests/registry/test_other_data.py asks the gate about the same images
def test_transposed_images_in_both_splits_are_held_back_until_they_are_accepted(
    copy: Project, digits: Arrays
) -> None:
    transposed = {
        name: np.ascontiguousarray(array.transpose(0, 2, 1)) if name.endswith("images") else array
        for name, array in digits.items()
    }
    copy.put_source(transposed, pin=False)
    copy.set_params(  # the checks of the data would stop it earlier
        **{
            "validate.max_agreement_loss": 1.0,
            "validate.max_mean_distance": 255,
            "validate.max_suspect_labels": 1.0,
            "validate.max_unlike_images": 1.0,
        }
    )
    copy.run("lenet5", "pin")
    refused = copy.command("lenet5", "run")
    assert refused.returncode == 3, refused.stderr
    message = re.split(r"^error: ", refused.stderr, flags=re.MULTILINE)[-1]
    assert "Version 2 is not promoted. Version 1 stays champion." in message
    assert "other_data: the test data of the two differ in kind: the champion's accuracy falls" in message
    assert "the candidate's test images" in message
    assert "the champion's test images" in message
    assert "`lenet5 promote 2 --accept-new-data --reason '…'`" in message

    asked = copy.command("lenet5", "promote", "2", "--json")
    assert asked.returncode == 3
    answer = json.loads(asked.stdout)
    assert answer["decision"] == "other_data"
    new, old = answer["new_data"]["on_candidates"], answer["new_data"]["on_champions"]
    assert new["champion"] < new["candidate"] - 0.5
    assert old["candidate"] < old["champion"] - 0.5
    assert new["comparison"]["images"] == old["comparison"]["images"] == TEST
    assert "`lenet5 promote 2 --accept-new-data --reason '…'`" in asked.stderr

    without_reason = copy.command("lenet5", "promote", "2", "--accept-new-data")
    assert without_reason.returncode == 2
    assert "give a reason" in without_reason.stderr
    accepted = copy.run("lenet5", "promote", "2", "--accept-new-data", "--reason", "another scanner")
    assert "version 2 is champion now" in accepted
    latest = json.loads(copy.run("lenet5", "history", "--json"))[0]
    assert (latest["before"], latest["to"], latest["kind"]) == (1, 2, "accept_new_data")
    assert latest["reason"] == "another scanner"
    shown = " ".join(copy.run("lenet5", "history").split())
    assert f"champion {new['champion']:.4f}, candidate {new['candidate']:.4f} on the new test images" in shown
    assert f"champion {old['champion']:.4f}, candidate {old['candidate']:.4f} on the old ones" in shown


@pytest.mark.integration
def test_another_evaluation_brings_the_same_run_and_version_up_to_date(copy: Project) -> None:
    copy.set_params(**{"evaluate.calibration_bins": 5, "register.floors.accuracy": 0.5})
    before = json.loads(copy.paths.evaluation.read_text())["calibration_error"]
    copy.run("dvc", "repro")
    after = json.loads(copy.paths.evaluation.read_text())["calibration_error"]
    assert after != before
    [run] = runs(client(copy))
    assert run.data.metrics["evaluate.calibration_error"] == after
    assert run.data.tags["evaluate.calibration_bins"] == "5"
    [version] = client(copy).search_model_versions(f"name = '{MODEL}'")
    assert float(version.tags["evaluate.calibration_error"]) == after
    assert "at least 0.5000" in version.description


@pytest.mark.integration
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_interrupting_a_flow_stops_its_stage_and_its_server(copy: Project, how: signal.Signals) -> None:
    before = copy.paths.lock.read_bytes()
    copy.set_params(**{"train.epochs": 500})
    flow = subprocess.Popen(
        [str(BIN / "lenet5"), "run"],
        cwd=copy.root,
        env=copy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with flow:
        assert flow.stdout is not None
        for line in flow.stdout:
            if "epoch 2/500" in line:
                break
        # a terminal's Ctrl-C reaches the whole group, Prefect's server too
        (os.killpg if how is signal.SIGINT else os.kill)(flow.pid, how)
        rest = flow.stdout.read()  # ends when nobody holds it open any more
        assert flow.wait(timeout=300) == 128 + how, rest
    assert "Crash detected" not in rest
    assert "Traceback" not in rest
    epochs = re.search(
        r"^Interrupted\. Kept: the results of ingest, validate and preprocess and (\d+) of 500 epochs "
        r"of train\. `lenet5 run` goes on from there\.$",
        rest,
        re.MULTILINE,
    )
    assert epochs, rest
    assert int(epochs[1]) >= 2
    assert copy.paths.lock.read_bytes() == before
    assert copy.processes() == []
    states = json.loads(copy.run("lenet5", "status", "--json"))
    assert states["champion"]["version"] == 1


@pytest.mark.integration
def test_a_killed_flow_leaves_no_server_behind(copy: Project) -> None:
    flow = subprocess.Popen(
        [str(BIN / "lenet5"), "run", "--force-stage", "ingest"],
        cwd=copy.root,
        env=copy.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with flow:
        assert flow.stdout is not None
        assert "Starting a Prefect server" in flow.stdout.readline()
        until(lambda: len(copy.processes()) >= 2, 60, "a server beside the flow")
        flow.kill()
        flow.wait()
    until(lambda: not copy.processes(), 60, "the end of the server")


@pytest.mark.integration
def test_a_second_flow_in_the_same_checkout_is_refused_at_once(copy: Project) -> None:
    server = LocalState(copy.paths.root).folder / "prefect/prefect.db"
    before = server.stat().st_mtime_ns
    with FileLock(LocalState(copy.paths.root).checkout_lock):
        refused = copy.command("lenet5", "run")
    assert refused.returncode == 6
    assert "Another flow run is at work in this checkout." in refused.stderr
    assert server.stat().st_mtime_ns == before, "no server was started for it"


def flipped_pixel(arrays: Arrays) -> bool:
    arrays["train_images"][7, 14, 14] ^= 1
    return False


def leaked_image_and_wrong_label(arrays: Arrays) -> bool:
    arrays["train_images"][3] = arrays["test_images"][5]
    arrays["train_labels"][11] = 10
    return True


@pytest.mark.integration
@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (flipped_pixel, ["not the data that params.yaml pins"]),
        (leaked_image_and_wrong_label, ["  test_in_train: expected", "  label: expected"]),
    ],
)
def test_bad_data_stops_the_pipeline(
    project: Project, digits: Arrays, spoil: Callable[[Arrays], bool], messages: list[str]
) -> None:
    arrays = {name: array.copy() for name, array in digits.items()}
    pin = spoil(arrays)
    project.put_source(arrays, pin=pin)
    done = project.command("dvc", "repro")
    assert done.returncode != 0
    assert "exited with 4" in done.stderr
    for message in messages:
        assert message in done.stderr
    assert "Traceback" not in done.stderr
    for absent in (project.paths.processed, project.paths.model, LocalState(project.paths.root).mlflow):
        assert not absent.exists()


@pytest.mark.integration
def test_a_truncated_file_fails_the_flow_with_the_stages_message(project: Project, finished: Project) -> None:
    folder = LocalState(finished.paths.root).folder / "prefect"  # the server need not make a new database
    shutil.copytree(folder, LocalState(project.paths.root).folder / "prefect")
    file = project.root / "data/mnist/train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1000])
    done = project.command("lenet5", "run")
    assert done.returncode == 4
    message = done.stderr[done.stderr.rindex("error: ") :]
    assert "stage ingest failed: train-images-idx3-ubyte.gz is damaged or was cut off." in message
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("is damaged or was cut off") <= 4  # the log's, the flow's, and the answer
    assert not project.paths.model.exists()
    assert not (LocalState(project.paths.root).mlflow).exists()
