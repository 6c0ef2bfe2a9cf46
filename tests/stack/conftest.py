"""Everything that machines share, for real, on this one: PostgreSQL, S3, MLflow, Prefect, git, workers.

Each machine is a clone in a folder of its own with an empty home: a developer's, and two on which workers
run, of which one stands for the GPU machine. They have nothing in common but addresses. Each module has
services and workers of its own: what one does to them is no other one's surprise.
"""

import gzip
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import requests

from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from tests.conftest import (
    BIN,
    Arrays,
    Project,
    Serve,
    clone,
    free_port,
    make_project,
    serve_mlflow,
    servers,
    until,
)
from tests.postgres import NewDatabase

LOGIN = "admin:of-the-tests"
AUTH = ("admin", "of-the-tests")
KEYS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Worker:
    """A worker, in its clone."""

    project: Project
    pool: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """As if somebody pulled the plug of the machine: the worker and all that it started."""
        everything = [psutil.Process(self.process.pid), *self.descendants()]
        for process in everything:
            process.suspend()  # so that none of them sees another one die
        for process in everything:
            process.kill()
        self.process.wait()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@dataclass
class Stack:
    """The shared services, and how to ask them."""

    developer: Project
    repository: Path
    """A bare git repository."""
    environment: dict[str, str]
    """What every machine has to know."""
    folder: Path
    mlflow: str
    prefect: str

    def lenet5(self, *words: str, **more: str) -> str:
        return self.developer.run("lenet5", *words, environment=self.environment | more)

    def api(self, path: str, **body: Any) -> Any:
        """Ask Prefect."""
        answer = requests.post(f"{self.prefect}/api/{path}", json=body, auth=AUTH, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        """Runs of a deployment, the first one first."""
        flow, name = deployment.split("/")
        return list(
            self.api(
                "flow_runs/filter",
                flows={"name": {"any_": [flow]}},
                deployments={"name": {"any_": [name]}},
                flow_runs={"state": {"type": {"not_any_": ["SCHEDULED"]}}},
                sort="START_TIME_ASC",
            )
        )

    def sent_for(self, flow_run: str) -> list[dict[str, Any]]:
        """Stages that were sent to a worker for a flow run, the first one first."""
        sent = self.flow_runs("lenet5-stage/stage-on-gpu")
        return [run for run in sent if run["parameters"]["for_flow_run"] == flow_run]

    def start(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run; its id."""
        found = requests.get(
            f"{self.prefect}/api/deployments/name/{deployment}", auth=AUTH, timeout=30
        ).json()
        state = {"type": "SCHEDULED"}
        run = self.api(f"deployments/{found['id']}/create_flow_run", parameters=parameters, state=state)
        return str(run["id"])

    def run(self, number: str) -> dict[str, Any]:
        address = f"{self.prefect}/api/flow_runs/{number}"
        return dict(requests.get(address, auth=AUTH, timeout=30).json())

    def cancel(self, number: str) -> None:
        """Cancel a run, as the button in the UI does."""
        self.api(f"flow_runs/{number}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def wait(self, number: str, *, state: str = "COMPLETED", seconds: float = 400) -> dict[str, Any]:
        """Wait until a run has ended in a state; the run."""
        try:
            run = until(
                lambda: (found := self.run(number))["state_type"] in ENDED and found, seconds, f"run {number}"
            )
        except AssertionError as error:
            error.add_note(f"{self.run(number)['state']}\n{self.log(number)}")
            raise
        assert run["state_type"] == state, f"{run['state']['message']}\n{self.log(number)}"
        return dict(run)

    def log(self, number: str) -> str:
        """What a run logged, its tasks included."""
        lines = self.api(
            "logs/filter", logs={"flow_run_id": {"any_": [number]}}, limit=200, sort="TIMESTAMP_ASC"
        )
        return "\n".join(line["message"] for line in lines)

    def mlflow_runs(self) -> list[dict[str, Any]]:
        """Every run of the experiment: ``status``, ``tags``, ``metrics``."""
        from mlflow import MlflowClient

        client = MlflowClient(self.mlflow)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [
            {"status": run.info.status, "tags": run.data.tags, "id": run.info.run_id}
            for run in client.search_runs(experiments)
        ]

    def versions(self) -> list[dict[str, Any]]:
        return list(json.loads(self.lenet5("versions", "--json")))

    def machine(self, name: str) -> Project:
        """Another machine: a clone, and an empty home."""
        return clone(Project(self.repository, self.developer.home), self.folder / name)

    def deployed(self) -> tuple[set[str], list[str]]:
        """The ids of deployments and pools, and the names of automations, which are made anew each time."""
        found = [each["id"] for kind in ("deployments", "work_pools") for each in self.api(f"{kind}/filter")]
        return set(found), sorted(each["name"] for each in self.api("automations/filter"))

    def git(self, *words: str) -> str:
        return self.developer.git(*words)

    def push(self, branch: str, message: str, **parameters: Any) -> str:
        """Commit changed parameters to a branch and push it; the commit. The checkout is as before then."""
        self.git("checkout", "--quiet", "-B", branch, "origin/main")
        self.developer.set_params(**parameters)
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")
        self.git(*identity, "commit", "--quiet", "--all", "--message", message)
        self.git("push", "--quiet", "--force", "origin", branch)
        commit = self.git("rev-parse", "HEAD").strip()
        self.git("checkout", "--quiet", "main")
        return commit


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, digits: Arrays, postgres: NewDatabase) -> Iterator[Stack]:
    """The services, with everything deployed and no worker yet."""
    folder = tmp_path_factory.mktemp("stack")
    origin = make_project(folder / "origin", digits, **{"ingest.source": "s3://source/mnist"})
    repository = folder / "repository.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(origin.root), str(repository)], check=True)
    developer = clone(Project(repository, origin.home), folder / "developer")
    with servers(folder) as start:
        s3 = _s3(start, folder)
        upload(_s3_client(s3), digits)
        with ThreadPoolExecutor() as both:
            starting = (
                both.submit(_mlflow, start, postgres(), s3),
                both.submit(_prefect, start, postgres(), folder),
            )
            mlflow, prefect = (server.result() for server in starting)
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL_S3": s3,
            "MLFLOW_TRACKING_URI": mlflow,
            "PREFECT_API_URL": f"{prefect}/api",
            "PREFECT_API_AUTH_STRING": LOGIN,
            "LENET5_GIT_URL": str(repository),
            "LENET5_DVC_REMOTE": "s3://dvc/data",
            "LENET5_CHECKPOINTS": "s3://dvc/checkpoints",
            "LENET5_SWEEP_STORAGE": postgres(),
            "LENET5_NIGHTLY": "* * * * *",  # so that a night is over within a minute
            "LENET5_WATCH": "0 0 1 1 *",  # the tests look themselves
            "LENET5_TIMEZONE": "Europe/Paris",
            "LENET5_GPUS": "2",
            "LENET5_RUNS": "4",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        made = Stack(developer, repository, environment, folder, mlflow, prefect)
        made.lenet5("deploy")
        yield made


def _s3(start: Serve, folder: Path) -> str:
    """SeaweedFS, with a log-in; its S3 address."""
    rights = {"name": "tests", "actions": ["Admin"]}
    keys = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    (folder / "s3.json").write_text(json.dumps({"identities": [rights | {"credentials": keys}]}))
    (folder / "s3").mkdir()
    port = free_port()
    others = [
        f"-{part}={free_port()}"
        for name in ("master", "volume", "filer")
        for part in (f"{name}.port", f"{name}.port.grpc")
    ]
    address = start(
        *("weed", "-logtostderr", "server", f"-dir={folder / 's3'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-filer", "-s3", f"-s3.port={port}", f"-s3.port.grpc={free_port()}", *others),
        *(f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=0"),
        port=port,
        probe="/healthz",
        environment={},
    )
    client = _s3_client(address)
    for bucket in ("mlflow", "dvc", "source"):
        until(partial(_made, client, bucket), 30, f"bucket {bucket}")
    return address


def _made(client: Any, bucket: str) -> bool:
    with suppress(client.exceptions.ClientError):
        client.create_bucket(Bucket=bucket)
        return True
    return False


def _s3_client(address: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )


def upload(client: Any, digits: Arrays) -> None:
    """Let the source hold these digits, as IDX files."""
    for item in MNIST_FILES:
        content = gzip.compress(idx.encode(digits[item.key]), compresslevel=1, mtime=0)
        client.put_object(Bucket="source", Key=f"mnist/{item.file}.gz", Body=content)


@pytest.fixture(scope="module")
def s3(stack: Stack) -> Any:
    """A client of the object store."""
    return _s3_client(stack.environment["AWS_ENDPOINT_URL_S3"])


def _mlflow(start: Serve, database: str, s3: str) -> str:
    return serve_mlflow(start, database, "s3://mlflow/artifacts", KEYS | {"MLFLOW_S3_ENDPOINT_URL": s3})


def _prefect(start: Serve, database: str, folder: Path) -> str:
    port = free_port()
    home = folder / "prefect"
    home.mkdir()
    return start(
        *("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        port=port,
        probe="/api/health",
        environment={
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_DATABASE_CONNECTION_URL": database.replace("+psycopg", "+asyncpg"),
            "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
            "PREFECT_API_AUTH_STRING": LOGIN,
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        },
    )


Employ = Callable[..., Worker]
"""``employ("cpu", "--limit", "1")``."""


@pytest.fixture(scope="module")
def employ(stack: Stack) -> Iterator[Employ]:
    """Start a worker for a pool, in a clone of its own; ended with the module."""
    with ExitStack() as all_of_them:
        count = iter(range(1, 100))

        def start(pool: str, *options: str) -> Worker:
            name = f"{pool}-{next(count)}"
            return all_of_them.enter_context(_worker(stack, pool, name, options))

        yield start


@contextmanager
def _worker(stack: Stack, pool: str, name: str, options: tuple[str, ...]) -> Iterator[Worker]:
    machine = stack.machine(name)
    log = stack.folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / "lenet5"), "worker", "--pool", pool, "--name", name, *options],
            cwd=machine.root,
            env=machine.environment()
            | stack.environment
            | {"PREFECT_WORKER_WEBSERVER_PORT": str(free_port())},
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: name in live(stack, pool) or process.poll() is not None, 60, f"worker {name}")
        assert process.poll() is None, log.read_text()
        yield Worker(machine, pool, process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)


def live(stack: Stack, pool: str) -> list[str]:
    return [
        each["name"] for each in stack.api(f"work_pools/{pool}/workers/filter") if each["status"] == "ONLINE"
    ]
