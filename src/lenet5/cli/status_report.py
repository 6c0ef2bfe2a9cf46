"""The state of a checkout at a glance."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions, promotion
from lenet5.stages.params import Params
from lenet5.system import settings
from lenet5.system.settings import Settings
from lenet5.tracking import store, tags

_SECONDS = 5.0
"""That an answer may take."""


def report(paths: Paths, params: Params) -> dict[str, Any]:
    """What `lenet5 status` prints, by subject and then by fact."""
    return {
        "project": {"folder": str(paths.root)},
        "stages": _stages(paths),
        **_registry(paths, params),
        "prefect": _prefect(),
        **_shared(paths, settings.load(paths)),
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
    tracking = {"address": settings.in_urls(os.environ["MLFLOW_TRACKING_URI"])}
    try:
        with store.reachable(paths):
            versions = model_versions.versions(store.connect(paths), params.register_.model_name)
            astray = promotion.drifted(versions, promotion.history(paths, params))
    except (Unavailable, UsageError) as error:
        return {"tracking": tracking | {"answers": False, "problem": str(error)}}
    state: dict[str, Any] = {"tracking": tracking | {"answers": True, "versions": len(versions)}}
    for alias in (model_versions.CHAMPION, model_versions.CHALLENGER, model_versions.PREVIOUS):
        at = model_versions.holder(versions, alias)
        state[alias] = {"version": at.number, **_accuracy(at)} if at else None
    for alias, problem in sorted(astray.items()):
        state[alias] = (state.get(alias) or {}) | {"problem": problem}
    return state


def _accuracy(version: model_versions.Version) -> dict[str, float]:
    accuracy = version.tags.get(f"{tags.METRICS}accuracy")
    # one that was registered by other means has none
    return {} if accuracy is None else {"accuracy": float(accuracy)}


def _prefect() -> dict[str, Any]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return {"address": None, "embedded": True}
    address = settings.in_urls(url)
    try:
        code = requests.get(f"{url.rstrip('/')}/health", timeout=_SECONDS).status_code
    except requests.RequestException as error:
        return {"address": address, "answers": False, "problem": type(error).__name__}
    return {"address": address, "answers": code == requests.codes.ok}


def _shared(paths: Paths, found: Settings) -> dict[str, Any]:
    """What only machines that work together have: each where it is set."""
    state: dict[str, Any] = {}
    if found.prefect_api_url:
        state["work pools"] = _work_pools(found)
    if found.aws_endpoint_url_s3:
        state["object store"] = _object_store(found.aws_endpoint_url_s3)
    if found.lenet5_dvc_remote:
        state["data remote"] = _data_remote(found.lenet5_dvc_remote)
    if found.lenet5_git_url:
        state["repository"] = _repository(paths, found.lenet5_git_url)
    return state


def _work_pools(found: Settings) -> dict[str, Any]:
    """Live workers by pool. Asked by hand: importing Prefect takes longer than all of this."""
    secret = found.prefect_api_auth_string
    user, _, password = secret.get_secret_value().partition(":") if secret else ("", "", "")
    with requests.Session() as session:
        session.auth = (user, password) if secret else None

        def ask(path: str) -> list[dict[str, Any]]:
            url = f"{str(found.prefect_api_url).rstrip('/')}/work_pools/{path}filter"
            answer = session.post(url, json={}, timeout=_SECONDS)
            answer.raise_for_status()
            return list(answer.json())

        try:
            pools = [pool["name"] for pool in ask("")]
            return {name: f"{_alive(ask(f'{name}/workers/'))} live workers" for name in sorted(pools)}
        except requests.RequestException as error:
            return {"problem": settings.in_urls(str(error))}


def _alive(workers: list[dict[str, Any]]) -> int:
    online = [worker["last_heartbeat_time"] for worker in workers if worker["status"] == "ONLINE"]
    heard = [datetime.fromisoformat(last) for last in online if last]
    return sum(datetime.now(UTC) - last < timedelta(seconds=90) for last in heard)


def _object_store(url: str) -> dict[str, Any]:
    try:
        requests.get(url, timeout=_SECONDS)  # any answer is one: what it holds is not for everybody
    except requests.RequestException as error:
        return {"address": url, "answers": False, "problem": type(error).__name__}
    return {"address": url, "answers": True}


def _data_remote(url: str) -> dict[str, Any]:
    import fsspec

    try:
        file_system, path = fsspec.url_to_fs(url)
        file_system.exists(path)
    except Exception as error:  # each driver has its own kinds
        problem = settings.in_urls(str(error)) or type(error).__name__
        return {"address": settings.in_urls(url), "answers": False, "problem": problem}
    return {"address": settings.in_urls(url), "answers": True}


def _repository(paths: Paths, url: str) -> dict[str, Any]:
    said = {"address": settings.in_urls(url)}
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--quiet", "--exit-code", url, "HEAD"],
            cwd=paths.root,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            timeout=2 * _SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return said | {"answers": False, "problem": "it took too long"}
    if done.returncode:
        problem = settings.in_urls(done.stderr.strip()) or "it has no commits"
        return said | {"answers": False, "problem": problem}
    return said | {"answers": True}
