"""A real ``lenet5 serve``: what it answers, which version answers, and what it refuses."""

import hashlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from mlflow import MlflowClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from lenet5.core import dataset
from lenet5.serving import feedback_log, inference_log, predictor
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.conftest import BIN, Project, free_port, until

pytestmark = pytest.mark.integration
MODEL = "lenet5-mnist"
TENSOR = {"name": "pixels", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}


@dataclass
class Running:
    """A service and its project."""

    project: Project
    process: "subprocess.Popen[bytes]"
    address: str
    log: Path

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.address + path, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.address + path, timeout=60, **options)

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@contextmanager
def serving(project: Project, *options: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Run a service until the end of the block."""
    port = free_port()
    log = project.root / f"serve-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / "lenet5"), "-v", "serve", "--port", str(port), "--poll", "0.3", *options],
            cwd=project.root,
            env=os.environ | project.environment() | (environment or {}),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Running(project, process, f"http://127.0.0.1:{port}", log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(requests.RequestException):
            return running.get("/health/live").ok
        return False

    try:
        until(answers, 120, "the service answers")
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def champion(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose registry has a champion."""
    return finished.copy(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def running(champion: Project) -> Iterator[Running]:
    with serving(champion, "--log-pixels") as service:
        yield service


@pytest.fixture
def own(finished: Project, tmp_path: Path) -> Project:
    """A project of one test, which changes its registry."""
    return finished.copy(tmp_path)


def client(project: Project) -> MlflowClient:
    return MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def images_of(project: Project) -> np.ndarray:
    return np.array(dataset.load(project.paths.raw).splits["test"].images)


def expected(project: Project, images: np.ndarray) -> np.ndarray:
    return predictor.of_onnx(1, project.paths.onnx.read_bytes()).probabilities(images)


def test_every_format_gets_the_answers_of_the_registered_file(running: Running) -> None:
    images = images_of(running.project)[:100]
    scores = expected(running.project, images)
    one = running.post("/predict", data=png(images[0]), headers={"Content-Type": "image/png"})
    assert one.status_code == 200
    answer = one.json()
    assert answer["model"] == MODEL
    assert answer["version"] == 1
    assert answer["classes"][int(scores[0].argmax())] == answer["predictions"][0]["class"]
    assert np.allclose(answer["predictions"][0]["probabilities"], scores[0], atol=1e-6)
    many = running.post(
        "/predict",
        data=npy(images),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
    )
    assert np.array_equal(np.load(io.BytesIO(many.content)), scores)
    assert many.headers["X-Model-Version"] == "1"
    as_json = running.post("/predict", json={"images": images[:3].tolist()}).json()
    assert np.allclose([each["probabilities"] for each in as_json["predictions"]], scores[:3], atol=1e-6)
    form = running.post("/predict", files=[("file", (f"{n}.png", png(images[n]))) for n in range(3)]).json()
    assert [each["class"] for each in form["predictions"]] == [
        each["class"] for each in as_json["predictions"]
    ]
    for key in ("inputs", "instances"):
        mlflow = running.post("/invocations", json={key: images[:3].tolist()}).json()
        assert np.allclose(mlflow["predictions"], scores[:3], atol=1e-6)
    tensor = {
        "name": "pixels",
        "shape": [2, 28, 28],
        "datatype": "UINT8",
        "data": images[:2].ravel().tolist(),
    }
    body = {"id": "mine", "inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    kserve = running.post(f"/v2/models/{MODEL}/infer", json=body).json()
    assert (kserve["id"], kserve["model_version"]) == ("mine", "1")
    assert np.allclose(kserve["outputs"][0]["data"], scores[:2].ravel(), atol=1e-6)


def test_metadata_and_probes(running: Running) -> None:
    metadata = running.get(f"/v2/models/{MODEL}").json()
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"):
        assert running.get(path).status_code == 200
    assert running.get(f"/v2/models/{MODEL}/versions/1/ready").status_code == 200
    assert running.get(f"/v2/models/{MODEL}/versions/2/ready").status_code == 404
    assert running.get("/v2/models/other").status_code == 404
    assert "/predict" in running.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("path", "options", "status", "says"),
    [
        ("/predict", {"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unknown"),
        ("/predict", {"data": b"x", "headers": {"Content-Type": "image/png"}}, 422, "cannot be read"),
        ("/predict", {"json": {"images": [[[0.5] * 28] * 28]}}, 422, "from 0 to 1"),
        ("/predict", {"files": {"note": (None, "no file")}}, 422, "no file"),
        ("/predict", {"data": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form"),
        ("/invocations", {"json": {"inputs": [[[0.5] * 28] * 28]}}, 422, "from 0 to 1"),
        ("/invocations", {"json": {"dataframe_split": {}}}, 400, "no images"),
        ("/invocations", {"data": b"{"}, 400, "no JSON"),
        (f"/v2/models/{MODEL}/infer", {"json": {"inputs": []}}, 400, "one input"),
        (f"/v2/models/{MODEL}/infer", {"json": {"inputs": [{"name": "pixels"}]}}, 400, "not complete"),
        (f"/v2/models/{MODEL}/infer", {"json": {"inputs": [TENSOR], "outputs": [{"name": "x"}]}}, 400, "x"),
        (f"/v2/models/{MODEL}/infer", {"json": {"inputs": [TENSOR], "outputs": "x"}}, 400, "probabilities"),
        ("/predict", {"data": b"x", "headers": {"Host": "evil.example"}}, 421, "this name"),
        ("/predict", {"data": b"x", "headers": {"Origin": "http://evil.example"}}, 403, "origins"),
        ("/predict", {"data": b"x", "headers": {"Origin": "http://["}}, 403, "origins"),
    ],
)
def test_refusal_names_its_reason_and_is_no_defect(
    running: Running, path: str, options: dict[str, Any], status: int, says: str
) -> None:
    before = running.metric("lenet5_requests_total", code=str(status))
    answer = running.post(path, **options)
    assert answer.status_code == status
    assert running.metric("lenet5_requests_total", code=str(status)) == before + 1
    assert says in answer.text
    assert answer.headers["Content-Type"] == "application/json"


def test_large_and_slow_bodies_cost_nothing(running: Running) -> None:
    host, port = running.address.removeprefix("http://").split(":")
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    for rest, status in (
        ("Content-Length: 1000000000\r\n\r\n", "413"),
        ("Transfer-Encoding: chunked\r\n\r\n", "413"),
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall((head + rest).encode())
            with suppress(ConnectionError):
                if "chunked" in rest:
                    for _ in range(40):
                        connection.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")
            assert status in connection.recv(1000).decode().splitlines()[0]
    bomb = Image.new("L", (9000, 9000))
    file = io.BytesIO()
    bomb.save(file, "PNG")
    answer = running.post("/predict", data=file.getvalue(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert "81,000,000" not in answer.text or "pixels" in answer.text
    assert running.get("/health/ready").ok


def test_every_answer_is_in_the_log_and_can_be_scored_again(running: Running) -> None:
    images = images_of(running.project)[200:230]
    answers = {}
    for image in images:
        answer = running.post("/predict", data=png(image), headers={"Content-Type": "image/png"}).json()
        answers[answer["request_id"]] = (image, answer)
    folder = LocalState(running.project.root).serving / "log"

    def logged() -> dict[str, Any]:
        table = inference_log.read_all(folder)
        return {row["request_id"]: row for row in table.to_pylist() if row["request_id"] in answers}

    rows = until(
        lambda: (found := logged()) and len(found) == len(answers) and found, 30, "the rows are written"
    )
    scores = expected(running.project, images)
    for (identifier, (image, answer)), row_scores in zip(answers.items(), scores, strict=True):
        row = rows[identifier]
        assert row["pixels"] == image.tobytes()
        assert row["input_sha256"] == hashlib.sha256(image.tobytes()).digest()
        assert row["version"] == answer["version"] == 1
        assert np.allclose(row["probabilities"], row_scores, atol=1e-6)
        assert row["class"] == answer["predictions"][0]["class"]


def test_feedback_needs_a_request_of_this_service_and_a_class(running: Running) -> None:
    image = images_of(running.project)[0]
    answer = running.post("/predict", data=png(image), headers={"Content-Type": "image/png"}).json()
    identifier = answer["request_id"]
    for label in ("3", "4", "4"):
        assert running.post("/feedback", json={"request_id": identifier, "label": label}).status_code == 202
    for body, status in (
        ({"request_id": "0" * 40, "label": "4"}, 404),
        ({"request_id": None, "label": "4"}, 404),
        ({"request_id": identifier, "label": "<b>4</b>"}, 422),
        ({"request_id": identifier, "label": 4}, 422),
        ({"request_id": identifier, "label": "4", "row": -1}, 422),
        ({"request_id": identifier, "label": "4", "row": True}, 422),
    ):
        assert running.post("/feedback", json=body).status_code == status
    labels = feedback_log.read(LocalState(running.project.root).serving / "feedback")
    assert labels[labels["request_id"] == identifier]["label"].tolist() == ["4"]


def test_metrics_count_requests_and_images(running: Running) -> None:
    labels = {"route": "/predict", "code": "200", "version": "1"}
    before = running.metric("lenet5_requests_total", **labels)
    images = images_of(running.project)[:7]
    running.post("/predict", data=npy(images), headers={"Content-Type": "application/x-npy"})
    assert running.metric("lenet5_requests_total", **labels) == before + 1
    assert running.metric("lenet5_served_version") == 1
    assert running.metric("lenet5_registry_answers") == 1
    until(lambda: running.metric("lenet5_images_total", version="1") >= 7, 30, "the images are counted")


def test_drift_is_measured_against_the_own_test_images(running: Running) -> None:
    images = images_of(running.project)
    kind = {"Content-Type": "application/x-npy"}

    def measured(some: np.ndarray) -> bool:
        running.post("/predict", data=npy(some), headers=kind)
        time.sleep(1.5)
        return not np.isnan(running.metric("lenet5_drift", what="classes"))

    until(lambda: measured(images), 120, "the reference is downloaded and compared")
    for what in ("classes", "confidence"):
        assert running.metric("lenet5_drift", what=what) < running.metric("lenet5_drift_limit", what=what)
    confidence = expected(running.project, images).max(axis=1).mean()
    assert running.metric("lenet5_estimated_accuracy") == pytest.approx(confidence, abs=1e-4)
    assert measured(255 - images)
    for what in ("classes", "confidence"):
        assert running.metric("lenet5_drift", what=what) > running.metric("lenet5_drift_limit", what=what)


def test_service_imports_neither_tensorflow_nor_mlflow(running: Running) -> None:
    loaded = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "onnxruntime" in loaded
    for package in ("tensorflow", "sqlalchemy", "scipy", "matplotlib"):
        assert f"/{package}/" not in loaded


@pytest.fixture
def number(own: Project, monkeypatch: pytest.MonkeyPatch) -> int:
    """The same file, registered a second time under another number."""
    registry = client(own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)  # MLflow looks for the source there
    first = registry.get_model_version(MODEL, "1")
    second = registry.create_model_version(MODEL, first.source, first.run_id, tags=dict(first.tags))
    return int(second.version)


def _answers_last(seen: list[tuple[int, int]], version: int) -> bool:
    return bool(seen) and seen[-1][1] == version


def test_moved_alias_is_followed_without_a_failed_request_and_back(own: Project, number: int) -> None:
    image = png(images_of(own)[0])
    with serving(own) as service:
        seen: list[tuple[int, int]] = []
        stop = threading.Event()

        def ask() -> None:
            with requests.Session() as session:
                while not stop.is_set():
                    answer = session.post(
                        f"{service.address}/predict",
                        data=image,
                        headers={"Content-Type": "image/png"},
                        timeout=60,
                    )
                    seen.append((answer.status_code, answer.json().get("version", 0)))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            for wanted in (number, 1, number):
                client(own).set_registered_model_alias(MODEL, "champion", str(wanted))
                until(partial(_answers_last, seen, wanted), 60, f"version {wanted} answers")
        finally:
            stop.set()
            thread.join()
        assert {status for status, _ in seen} == {200}
        pinned = [version for _, version in seen]
        assert pinned[0] == 1
        assert {1, number} == set(pinned)


def test_pinned_version_stays_when_the_alias_moves(own: Project, number: int) -> None:
    with serving(own, "--version", "1") as service:
        client(own).set_registered_model_alias(MODEL, "champion", str(number))
        time.sleep(1.5)
        assert service.get("/health/ready").json()["version"] == 1


def test_version_with_other_bytes_is_never_served_and_told(own: Project, number: int) -> None:
    registry = client(own)
    digests = json.loads(registry.get_model_version(MODEL, "1").tags[tags.MODEL_FOLDER])
    digests[tags.ONNX_FILE] = "0" * 64
    registry.set_model_version_tag(MODEL, str(number), tags.MODEL_FOLDER, json.dumps(digests))
    with serving(own) as service:
        registry.set_registered_model_alias(MODEL, "champion", str(number))
        until(lambda: service.get("/health/ready").json()["problem"], 120, "the problem is reported")
        ready = service.get("/health/ready").json()
        assert (ready["ready"], ready["version"]) == (True, 1)
        assert "error" in service.log.read_text()
        registry.set_registered_model_alias(MODEL, "champion", "1")
        until(lambda: not service.get("/health/ready").json()["problem"], 60, "the problem is over")


def test_registry_may_be_down_while_serving_and_at_the_start(own: Project) -> None:
    database = LocalState(own.root).mlflow_database
    away = database.with_suffix(".away")
    image = {"data": png(images_of(own)[0]), "headers": {"Content-Type": "image/png"}}
    with serving(own) as service:
        assert service.post("/predict", **image).json()["version"] == 1
        database.rename(away)
        database.write_bytes(bytes(4096))  # nothing can create a new, empty registry in its place
        until(lambda: not service.get("/health/ready").json()["registry_answers"], 120, "it is reported")
        assert service.post("/predict", **image).json()["version"] == 1
    with serving(own) as service:
        assert service.post("/predict", **image).json()["version"] == 1
        assert service.get("/health/ready").json()["registry_answers"] is False
        away.replace(database)
        until(
            lambda: service.get("/health/ready").json()["registry_answers"], 120, "the registry answers again"
        )


def test_without_a_version_the_service_is_not_ready_and_says_why(tmp_path: Path, finished: Project) -> None:
    project = finished.copy(tmp_path)
    client(project).delete_registered_model_alias(MODEL, "champion")
    with serving(project) as service:
        ready = service.get("/health/ready")
        assert ready.status_code == 503
        answer = service.post("/predict", json={"images": []})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        client(project).set_registered_model_alias(MODEL, "champion", "1")
        until(lambda: service.get("/health/ready").ok, 60, "the promoted version answers")


def test_sigterm_answers_running_requests_and_closes_the_log(own: Project) -> None:
    images = images_of(own)
    many = npy(np.repeat(images, 10_000 // len(images) + 1, axis=0)[:10_000])
    with serving(own, "--workers", "2") as service:
        assert service.metric("lenet5_requests_in_flight") == 0  # the one that asks does not count
        ends = threading.Event()
        results: list[int] = []

        def body() -> Iterator[bytes]:
            yield many[: len(many) // 2]
            ends.wait(60)
            yield many[len(many) // 2 :]

        def ask() -> None:
            answer = service.post("/predict", data=body(), headers={"Content-Type": "application/x-npy"})
            results.append(answer.status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: service.metric("lenet5_requests_in_flight") == 2, 30, "the requests run")
        service.process.send_signal(signal.SIGTERM)
        ends.set()
        for thread in threads:
            thread.join()
        assert results == [200, 200]
        assert service.process.wait(timeout=60) == 0
    folder = LocalState(own.root).serving / "log"
    parts = list(inference_log.parts(folder))
    assert {path.suffix for path in parts} == {".parquet"}
    assert sum(inference_log.read(path)[0].num_rows for path in parts) == 20_000


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_first_second_ends_the_service_without_a_trace(
    champion: Project, tmp_path: Path, workers: str, ending: signal.Signals
) -> None:
    output = tmp_path / "serve.log"
    for pause in (0.0, 0.3, 0.8):
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(BIN / "lenet5"), "serve", "--port", str(free_port()), "--workers", workers],
                cwd=champion.root,
                env=os.environ | champion.environment(),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops" in output.read_text(), 60, "it listens")
        time.sleep(pause)
        os.killpg(process.pid, ending)  # as a terminal does
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in output.read_text()
        assert "Interrupt" not in output.read_text()


def test_workers_log_and_end_when_their_parent_is_killed(own: Project) -> None:
    with serving(own, "--workers", "2") as service:
        until(lambda: service.log.read_text().count("version 1 of lenet5-mnist answers") == 2, 60, "both log")
        workers = psutil.Process(service.process.pid).children(recursive=True)
        assert len(workers) >= 2
        service.process.kill()
        service.process.wait()
        until(lambda: not any(worker.is_running() for worker in workers), 30, "the workers end")


def test_kill_under_load_leaves_a_log_without_doubles(own: Project) -> None:
    image = {"data": png(images_of(own)[0]), "headers": {"Content-Type": "image/png"}}
    answered: set[str] = set()
    with serving(own) as service:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            answered.add(service.post("/predict", **image).json()["request_id"])
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait()
    with serving(own) as service:
        answered.add(service.post("/predict", **image).json()["request_id"])
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(timeout=60)
    folder = LocalState(own.root).serving / "log"
    table = inference_log.read_all(folder)
    logged = table["request_id"].to_pylist()
    assert len(set(logged)) == len(logged)
    assert set(logged) <= answered
    assert len(logged) > 1


@pytest.fixture
def small_disk(own: Project) -> Iterator[Path]:
    """A file system of one megabyte for the log and the feedback of the service."""
    folder = LocalState(own.root).serving
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_for_the_log_stops_no_answer(own: Project, small_disk: Path) -> None:
    image = {"data": png(images_of(own)[0]), "headers": {"Content-Type": "image/png"}}
    with serving(own, "--log-pixels") as service:
        until(lambda: service.get("/health/ready").ok, 60, "a version answers")
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

        def counted(what: str) -> float:
            answer = service.post("/predict", **image)
            assert answer.status_code == 200
            return service.metric("lenet5_log_rows", what=what)

        until(lambda: counted("dropped") > 0, 60, "dropped rows are counted")
        identifier = service.post("/predict", **image).json()["request_id"]
        label = {"request_id": identifier, "label": "7"}
        refused = service.post("/feedback", json=label)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_stored")
        filler.unlink()
        before = counted("written")
        until(lambda: counted("written") > before, 60, "the log is written again")
        assert service.post("/feedback", json=label).status_code == 202
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(timeout=60)
    logged = inference_log.read_all(small_disk / "log")["request_id"].to_pylist()
    assert len(logged) == len(set(logged)) > 0
    assert feedback_log.read(small_disk / "feedback")["request_id"].tolist() == [identifier]


def test_an_image_of_one_version_asks_no_registry(own: Project, tmp_path: Path) -> None:
    folder = tmp_path / "image"
    written = own.command("lenet5", "serve", "--build-context", str(folder))
    assert written.returncode == 0, written.stderr
    assert "docker build" in written.stdout
    again = own.command("lenet5", "serve", "--build-context", str(folder))
    assert again.returncode == 2
    assert "a folder that is empty" in again.stderr
    [command] = [line for line in (folder / "Dockerfile").read_text().splitlines() if line.startswith("CMD ")]
    options = json.loads(command.removeprefix("CMD "))[2:]
    # what the Dockerfile adds to the image: a folder with two files of the checkout, and the state
    [state] = [line.split() for line in (folder / "Dockerfile").read_text().splitlines() if "COPY" in line]
    image = tmp_path / "app"
    shutil.copytree(folder / state[-2], image / Path(state[-1]).name)
    for file in (own.paths.params, own.paths.graph):
        shutil.copy(file, image)
    packed = replace(own, root=image)
    options[options.index("0.0.0.0")] = "127.0.0.1"
    nowhere = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
    with serving(packed, *options, environment=nowhere) as service:
        picture = png(images_of(own)[0])
        answer = service.post("/predict", data=picture, headers={"Content-Type": "image/png"})
        assert (answer.status_code, answer.json()["version"]) == (200, 1)
        assert service.get("/health/ready").json()["problem"] is None
    assert len(list(image.glob(".lenet5/serving/references/*.json"))) == 1
    [model] = image.glob(".lenet5/models/*.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    damaged = packed.command("lenet5", "serve", *options[2:])
    assert damaged.returncode == 2
    assert "missing or damaged" in damaged.stderr


def test_thousands_of_connections_that_ask_nothing_end_by_themselves(own: Project) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: list[socket.socket] = []
    try:
        with serving(own) as service:
            before = psutil.Process(service.process.pid).memory_info().rss
            port = int(service.address.rpartition(":")[2])
            for _ in range(min(10_000, hard - 500)):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=60))
            grown = psutil.Process(service.process.pid).memory_info().rss - before
            assert grown < 200_000_000

            def answers() -> bool:
                with suppress(requests.RequestException):
                    return service.get("/health/ready").ok
                return False

            until(answers, 60, "other clients are answered again")  # they are closed after ten seconds
            assert "Traceback" not in service.log.read_text()
    finally:
        for each in held:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_other_machines_need_a_key(own: Project) -> None:
    refused = own.command("lenet5", "serve", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "LENET5_SERVE_KEY" in refused.stderr
    spaces = own.command("lenet5", "serve", environment={"LENET5_SERVE_KEY": " "})
    assert spaces.returncode == 2
    assert "without spaces" in spaces.stderr
    image = {"data": png(images_of(own)[0])}
    kind = {"Content-Type": "image/png"}
    with serving(own, "--rate", "2", environment={"LENET5_SERVE_KEY": "secret"}) as service:
        assert service.post("/predict", **image, headers=kind).status_code == 401
        assert service.post("/predict", **image, headers={**kind, "X-API-Key": "other"}).status_code == 401
        assert service.get("/metrics").status_code == 401
        assert service.get("/health/ready").status_code == 200
        for header in (
            {"X-API-Key": "secret"},
            {"Authorization": "Bearer secret"},
            {"Authorization": "bearer secret"},
        ):
            assert service.post("/predict", **image, headers={**kind, **header}).status_code == 200
        codes = [
            service.post("/predict", **image, headers={**kind, "X-API-Key": "secret"}).status_code
            for _ in range(40)
        ]
        assert 429 in codes


@pytest.mark.parametrize("workers", ["1", "2"])
def test_start_that_fails_has_the_exit_code_of_what_is_not_available(own: Project, workers: str) -> None:
    content = b"no model"
    digest = hashlib.sha256(content).hexdigest()
    state = LocalState(own.root)
    models = state.folder / "models"
    models.mkdir(exist_ok=True)
    (models / f"{digest}.onnx").write_bytes(content)
    state.serving.mkdir(exist_ok=True)
    remembered = {"version": 1, "digest": digest}
    (state.serving / "last-lenet5-mnist-champion.json").write_text(json.dumps(remembered))
    port = str(free_port())
    done = own.command("lenet5", "serve", "--offline", "--port", port, "--workers", workers)
    assert done.returncode == 6
    assert "error: The service could not start." in done.stderr
