"""The state of a checkout at a glance."""

import json
import os
import subprocess
import sys
from typing import Any

import requests

from lenet5 import promotion
from lenet5.errors import Unavailable, UsageError
from lenet5.params import Params
from lenet5.paths import Paths
from lenet5.tracking import registry, store, tags


def report(paths: Paths, params: Params) -> dict[str, Any]:
    """What `lenet5 status` prints, by subject and then by fact."""
    return {
        "project": {"folder": str(paths.root)},
        "stages": _stages(paths),
        **_registry(paths, params),
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


def _registry(paths: Paths, params: Params) -> dict[str, Any]:
    tracking = {"address": os.environ["MLFLOW_TRACKING_URI"]}
    try:
        with store.reachable():
            versions = registry.versions(store.connect(paths), params.section("register").model_name)
            astray = promotion.astray(versions, promotion.history(paths, params))
    except (Unavailable, UsageError) as error:
        return {"tracking": tracking | {"answers": False, "problem": str(error)}}
    state: dict[str, Any] = {"tracking": tracking | {"answers": True, "versions": len(versions)}}
    for alias in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
        at = registry.holder(versions, alias)
        state[alias] = {"version": at.number, **_accuracy(at)} if at else None
    for alias, problem in sorted(astray.items()):
        state[alias] = (state.get(alias) or {}) | {"problem": problem}
    return state


def _accuracy(version: registry.Version) -> dict[str, float]:
    accuracy = version.tags.get(f"{tags.METRICS}accuracy")
    # one that was registered by other means has none
    return {} if accuracy is None else {"accuracy": float(accuracy)}


def _prefect() -> dict[str, Any]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return {"address": None, "embedded": True}
    try:
        code = requests.get(f"{url.rstrip('/')}/health", timeout=5).status_code
    except requests.RequestException as error:
        return {"address": url, "answers": False, "problem": type(error).__name__}
    return {"address": url, "answers": code == requests.codes.ok}
