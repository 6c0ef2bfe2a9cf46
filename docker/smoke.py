"""Starts an empty stack, trains in it, checks the result, and removes the stack.

    python docker/smoke.py [--keep]

It needs only Docker with compose, and Python. It uses its own project name, ports, secrets and images, so it
does not touch a stack that is already running. It trains the last commit, and uses COMPOSE_FILE if it is set.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "lenet5-smoke"
MODEL = "lenet5-mnist"
SERVE_BYTES = 475_000_000
"""The most that the image of the service adds to the one of Python, which has 125 MB."""
# Runs in a container: lists a bucket with the container's own credentials, or without any.
LIST_BUCKET = """
import sys, boto3, botocore
from botocore.client import Config
bucket, *unsigned = sys.argv[1:]
store = boto3.client("s3", config=Config(signature_version=botocore.UNSIGNED) if unsigned else None)
try:
    sizes = [
        item["Size"]
        for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in page.get("Contents", [])
    ]
    print(f"{len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB" if sizes else "nothing")
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""


class Smoke(Exception):
    """An expectation of the stack that is not met."""


class Stack:
    """A compose project that belongs to this script."""

    def __init__(self, secrets: Path) -> None:
        self.secrets = secrets
        self.mlflow, self.prefect, self.serve = (f"http://127.0.0.1:{port}" for port in free_ports(3))
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "STACK_IMAGE": PROJECT,
            "STACK_SECRETS": str(secrets),
            "STACK_MLFLOW_PORT": self.mlflow.rpartition(":")[2],
            "STACK_PREFECT_PORT": self.prefect.rpartition(":")[2],
            "STACK_SERVE_PORT": self.serve.rpartition(":")[2],
        }

    def compose(self, *words: str) -> None:
        """Run `docker compose` and show its output."""
        subprocess.run(["docker", "compose", *words], cwd=ROOT, env=self.environment, check=True)

    def answer(self, *words: str) -> str:
        """Return what `docker compose` prints."""
        return subprocess.run(
            ["docker", "compose", *words],
            cwd=ROOT,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def get(self, path: str) -> Any:
        """Return the answer of MLflow's API to its administrator."""
        status, text = call(
            f"{self.mlflow}/api/2.0/mlflow/{path}", f"admin:{self.secret('mlflow_admin_password')}"
        )
        if status != 200:
            raise Smoke(f"expected: MLflow answers {path}\n  found:    {status} {text}")
        return json.loads(text)


def free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def call(
    url: str,
    login: str | None = None,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> tuple[int, str]:
    request = urllib.request.Request(url, body, headers or {}, method=method)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # nosec B310 # this script makes the addresses
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def expect(true: bool, what: str, found: object) -> None:
    if not true:
        raise Smoke(f"expected: {what}\n  found:    {found}")
    print(f"  ✓ {what}: {found}" if not isinstance(found, bool) else f"  ✓ {what}", flush=True)


@contextmanager
def step(name: str, seconds: dict[str, float]) -> Iterator[None]:
    print(f"\n{name}", flush=True)
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


def check_access(stack: Stack) -> None:
    """Check that servers require a log-in, ports are bound to this machine, and Docker shows no secret."""
    wrong = "admin:password"
    experiment = f"{stack.mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0"
    count = f"{stack.prefect}/api/flows/count"
    for what, login in (("without a log-in", None), ("with a wrong one", wrong)):
        for server, url, method in (("MLflow", experiment, "GET"), ("Prefect", count, "POST")):
            status, _ = call(url, login, method=method)
            expect(status == 401, f"{server} answers a call {what} with", status)

    containers = stack.answer("ps", "--all", "--quiet").split()
    inspected = subprocess.run(["docker", "inspect", *containers], capture_output=True, text=True, check=True)
    secrets = [path.read_text() for path in stack.secrets.iterdir() if path.suffix == ""]
    expect(not any(secret in inspected.stdout for secret in secrets), "docker inspect shows no secret", True)
    bound = {
        port["HostIp"]
        for container in json.loads(inspected.stdout)
        for ports in (container["HostConfig"]["PortBindings"] or {}).values()
        for port in ports
    }
    expect(bound == {"127.0.0.1"}, "ports are bound to", bound)


def check_champion(stack: Stack) -> dict[str, Any]:
    """Check that a version is registered and is the champion; return it."""
    alias = stack.get(f"registered-models/alias?name={MODEL}&alias=champion")["model_version"]
    expect(alias["status"] == "READY", f"champion of {MODEL}", f"version {alias['version']}")
    run = stack.get(f"runs/get?run_id={alias['run_id']}")["run"]
    metrics = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    accuracy = metrics.get("evaluate.accuracy", 0)
    expect(accuracy > 0.98, "its test accuracy", accuracy)
    return alias


def check_store(stack: Stack) -> None:
    """Check that artifacts and data are in the store, and that each identity can read only its own bucket."""

    def listing(service: str, *words: str) -> str:
        return stack.answer("exec", "-T", service, "entrypoint", "python", "-c", LIST_BUCKET, *words).strip()

    for service, bucket in (("mlflow", "mlflow"), ("worker", "dvc")):
        found = listing(service, bucket)
        expect("objects" in found, f"bucket {bucket} holds", found)
    for who, words in (("a worker", ["mlflow"]), ("an anonymous client", ["dvc", "unsigned"])):
        found = listing("worker", *words)
        expect(found == "AccessDenied", f"{who} that lists the bucket {words[0]} gets", found)


def check_service(stack: Stack, version: str) -> None:
    """Check that the service answers with a version, only to clients with the key, from a small image."""
    end = time.monotonic() + 120
    while (status := call(f"{stack.serve}/health/ready")[0]) != 200 and time.monotonic() < end:
        time.sleep(1)
    expect(status == 200, "the service is ready, which it answers with", status)
    body = json.dumps({"images": [[0] * 28 for _ in range(28)]}).encode()
    headers = {"Content-Type": "application/json"}
    status, _ = call(f"{stack.serve}/predict", method="POST", headers=headers, body=body)
    expect(status == 401, "the service answers a client without the key with", status)
    headers["X-API-Key"] = stack.secret("serve_key")
    status, text = call(f"{stack.serve}/predict", method="POST", headers=headers, body=body)
    expect(status == 200, "a client with the key gets", status)
    answer = json.loads(text)
    expect(str(answer["version"]) == version, "the answer is of version", answer["version"])
    expect(len(answer["predictions"][0]["probabilities"]) == 10, "its probabilities are", 10)
    images = (f"{PROJECT}:serve", "python:3.11-slim-bookworm")
    sizes = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", *images],
        capture_output=True,
        text=True,
        check=True,
    )
    own, base = map(int, sizes.stdout.split())
    added = f"{(own - base) / 1e6:.0f} MB"
    expect(own - base <= SERVE_BYTES, "its image adds to the one of Python", added)


def check_worker_stops(stack: Stack) -> None:
    """Check that a worker exits with code 0 on SIGTERM, and that a new one starts."""
    stack.compose("stop", "worker")
    [container] = stack.answer("ps", "--all", "--quiet", "worker").split()
    state = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.ExitCode}}", container],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    expect(state == "0", "a worker that receives SIGTERM exits with code", state)
    stack.compose("up", "--detach", "--wait", "worker")


def smoke(stack: Stack) -> dict[str, float]:
    """Run all steps; return the seconds that each step took, by name."""
    seconds: dict[str, float] = {}
    with step("build", seconds):
        stack.compose("build", "--quiet")
    with step("up", seconds):
        stack.compose("up", "--detach", "--wait")
    with step("access", seconds):
        check_access(stack)
    with step("deploy", seconds):
        stack.compose("exec", "-T", "worker", "lenet5", "deploy")
    with step("train", seconds):
        stack.compose("exec", "-T", "worker", "prefect", "deployment", "run", "lenet5/train", "--watch")
    with step("champion", seconds):
        champion = check_champion(stack)
        check_store(stack)
    with step("service", seconds):
        check_service(stack, champion["version"])
    with step("restart of the worker", seconds):
        check_worker_stops(stack)
    with step("down, and up again", seconds):
        stack.compose("--profile", "*", "down")
        stack.compose("up", "--detach", "--wait")
        expect(check_champion(stack)["run_id"] == champion["run_id"], "the champion is the same", True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the stack up; remove it yourself")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="lenet5-smoke-"))
    subprocess.run([sys.executable, str(ROOT / "docker/make_secrets.py"), str(folder)], check=True)
    stack = Stack(folder)
    stack.compose("--profile", "*", "down", "--volumes")
    try:
        seconds = smoke(stack)
    except (Smoke, OSError, subprocess.CalledProcessError) as error:
        stack.compose("ps", "--all")
        stack.compose("logs", "--no-color", "--tail", "60")
        print(f"\nsmoke: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        if not keep:
            stack.compose("--profile", "*", "down", "--volumes")
            shutil.rmtree(folder)
    print()
    for name, value in (seconds | {"all": sum(seconds.values())}).items():
        print(f"{value:6.0f} s  {name}")
    if keep:
        print(
            f"\nMLflow {stack.mlflow}, Prefect {stack.prefect}, passwords in {folder}; to remove all of it:"
        )
        print(f"STACK_SECRETS={folder} docker compose --project-name {PROJECT} --profile '*' down --volumes")
        print(f"rm -r {folder}")


if __name__ == "__main__":
    main()
