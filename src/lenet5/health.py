"""The state of a checkout at a glance."""

import json
import os
import subprocess
import sys
from typing import Any

import requests

from lenet5.errors import Unavailable
from lenet5.paths import Paths
from lenet5.tracking import registry, store


def report(paths: Paths, model_name: str) -> dict[str, Any]:
    """What `lenet5 status` prints: text for people, and the same keys for scripts."""
    return {
        "project": str(paths.root),
        "stages": _stages(paths),
        "tracking": os.environ["MLFLOW_TRACKING_URI"],
        **_registry(paths, model_name),
        "prefect": _prefect(),
    }


def _stages(paths: Paths) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=paths.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"unknown: {done.stderr.strip().splitlines()[-1]}"
    changed = json.loads(done.stdout)
    return f"to be run: {', '.join(changed)} (`lenet5 run`)" if changed else "up to date"


def _registry(paths: Paths, model_name: str) -> dict[str, Any]:
    try:
        with store.reachable():
            versions = registry.versions(store.connect(paths), model_name)
    except Unavailable as error:
        return {"tracking answers": str(error)}
    state: dict[str, Any] = {"tracking answers": "yes", "versions": len(versions)}
    for alias in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
        at = next((v for v in versions if alias in v.aliases), None)
        state[alias] = f"version {at.number}, accuracy {at.figure('evaluate.accuracy'):.4f}" if at else "none"
    return state


def _prefect() -> str:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return "embedded (started with each flow run)"
    try:
        code = requests.get(f"{url.rstrip('/')}/health", timeout=5).status_code
    except requests.RequestException as error:
        return f"{url}: does not answer ({type(error).__name__})"
    return f"{url}: {'answers' if code == requests.codes.ok else f'answers {code}'}"
