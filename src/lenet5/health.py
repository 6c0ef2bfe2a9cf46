"""The state of a checkout at a glance."""

import json
import os
import subprocess
import sys
from typing import Any

import requests

from lenet5.errors import Unavailable, UsageError
from lenet5.paths import Paths
from lenet5.tracking import registry, store


def report(paths: Paths, model_name: str) -> dict[str, Any]:
    """What `lenet5 status` prints, by subject and then by fact."""
    return {
        "project": {"folder": str(paths.root)},
        "stages": _stages(paths),
        **_registry(paths, model_name),
        "prefect": _prefect(),
    }


def _stages(paths: Paths) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=paths.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"to run": None, "problem": done.stderr.strip().splitlines()[-1]}
    return {"to run": list(json.loads(done.stdout))}


def _registry(paths: Paths, model_name: str) -> dict[str, Any]:
    tracking = {"address": os.environ["MLFLOW_TRACKING_URI"]}
    try:
        with store.reachable():
            versions = registry.versions(store.connect(paths), model_name)
    except (Unavailable, UsageError) as error:
        return {"tracking": tracking | {"answers": False, "problem": str(error)}}
    state: dict[str, Any] = {"tracking": tracking | {"answers": True, "versions": len(versions)}}
    for alias in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
        at = registry.holder(versions, alias)
        state[alias] = {"version": at.number, "accuracy": at.figure("evaluate.accuracy")} if at else None
    return state


def _prefect() -> dict[str, Any]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return {"address": None, "embedded": True}
    try:
        code = requests.get(f"{url.rstrip('/')}/health", timeout=5).status_code
    except requests.RequestException as error:
        return {"address": url, "answers": False, "problem": type(error).__name__}
    return {"address": url, "answers": code == requests.codes.ok}
