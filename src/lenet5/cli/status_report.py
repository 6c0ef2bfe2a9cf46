"""The answer of ``lenet5 status``: stages, model versions and services of a checkout."""

from datetime import UTC, datetime
from typing import Any

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.orchestration import heartbeat
from lenet5.registry import model_versions, promotion_history
from lenet5.stages.params import Params
from lenet5.system import dvc, git, settings
from lenet5.system.git import GitFailed
from lenet5.system.settings import Settings
from lenet5.tracking import store, tags

_TIMEOUT_SECONDS = 5.0
_GIT_TIMEOUT_SECONDS = 10.0


def report(paths: Paths, params: Params) -> dict[str, Any]:
    """Return the state of a checkout by subject, then by fact.

    A service that does not answer is a fact (``answers`` is False, and ``problem`` says why), not an error.
    The report has a service that several machines share only if a setting names it.
    """
    found = settings.load(paths)
    return {
        "project": {"folder": str(paths.root)},
        "stages": _stages(paths),
        **_registry(paths, params, found),
        "prefect": _prefect(found),
        **_shared_services(paths, found),
    }


def _stages(paths: Paths) -> dict[str, Any]:
    try:
        return {"to run": dvc.stale_stages(paths.root)}
    except Lenet5Error as error:
        return {"to run": None, "problem": str(error)}


def _registry(paths: Paths, params: Params, found: Settings) -> dict[str, Any]:
    tracking = {"address": found.mlflow_tracking_uri}
    try:
        with store.reachable(paths):
            versions = model_versions.versions(store.connect(paths), params.register_.model_name)
            problems = promotion_history.drifted(versions, promotion_history.history(paths, params))
    except Lenet5Error as error:
        return {"tracking": tracking | {"answers": False, "problem": str(error)}}
    state: dict[str, Any] = {"tracking": tracking | {"answers": True, "versions": len(versions)}}
    for alias in (model_versions.CHAMPION, model_versions.CHALLENGER, model_versions.PREVIOUS):
        holder = model_versions.holder(versions, alias)
        state[alias] = {"version": holder.number, **_accuracy(holder)} if holder else None
    for alias, problem in sorted(problems.items()):
        state[alias] = (state.get(alias) or {}) | {"problem": problem}
    return state


def _accuracy(version: model_versions.Version) -> dict[str, float]:
    accuracy = version.tags.get(f"{tags.METRICS}accuracy")
    # a version that another program registered has no such tag
    return {} if accuracy is None else {"accuracy": float(accuracy)}


def _prefect(found: Settings) -> dict[str, Any]:
    if not found.prefect_api_url:
        return {"address": None, "embedded": True}
    import requests  # here and below: most checkouts have no services to ask

    address = found.prefect_api_url
    try:
        response = requests.get(f"{found.prefect_api_url.rstrip('/')}/health", timeout=_TIMEOUT_SECONDS)
    except requests.RequestException as error:
        return {"address": address, "answers": False, "problem": type(error).__name__}
    return {"address": address, "answers": response.ok}


def _shared_services(paths: Paths, found: Settings) -> dict[str, Any]:
    """Return the services that machines share, each if a setting names it."""
    state: dict[str, Any] = {}
    if found.prefect_api_url:
        state["work pools"] = _work_pools(found)
    if found.aws_endpoint_url_s3:
        state["object store"] = _object_store(found.aws_endpoint_url_s3)
    if found.lenet5_dvc_remote:
        state["data remote"] = _data_remote(paths, found.lenet5_dvc_remote)
    if found.lenet5_git_url:
        state["repository"] = _repository(paths, found.lenet5_git_url)
    return state


def _work_pools(found: Settings) -> dict[str, Any]:
    """Return the number of live workers in each work pool.

    The function calls Prefect's HTTP API, because importing Prefect's client takes longer than all other
    checks.
    """
    import requests

    with requests.Session() as session:
        session.auth = prefect_login(found)

        def read(path: str) -> list[dict[str, Any]]:
            url = f"{str(found.prefect_api_url).rstrip('/')}/work_pools/{path}filter"
            response = session.post(url, json={}, timeout=_TIMEOUT_SECONDS)
            response.raise_for_status()
            return list(response.json())

        try:
            pools = sorted(pool["name"] for pool in read(""))
            return {name: f"{_count_live(read(f'{name}/workers/'))} live workers" for name in pools}
        except requests.RequestException as error:
            return {"problem": str(error)}


def prefect_login(found: Settings) -> tuple[str, str] | None:
    """Return user and password for the Prefect server; None when it needs none."""
    secret = found.prefect_api_auth_string
    if secret is None:
        return None
    user, _, password = secret.get_secret_value().partition(":")
    return user, password


def _count_live(workers: list[dict[str, Any]]) -> int:
    now = datetime.now(UTC)
    return sum(
        heartbeat.is_recent(
            datetime.fromisoformat(worker["last_heartbeat_time"]),
            worker.get("heartbeat_interval_seconds"),
            now,
        )
        for worker in workers
        if worker["status"] == "ONLINE" and worker["last_heartbeat_time"]
    )


def _object_store(url: str) -> dict[str, Any]:
    import requests

    address = {"address": mask_urls(url)}
    try:
        requests.get(url, timeout=_TIMEOUT_SECONDS)  # without credentials, any response shows that it answers
    except requests.RequestException as error:
        return address | {"answers": False, "problem": type(error).__name__}
    return address | {"answers": True}


def _data_remote(paths: Paths, url: str) -> dict[str, Any]:
    import fsspec

    address = {"address": mask_urls(url)}
    try:
        file_system, path = fsspec.url_to_fs(url if "://" in url else str(paths.root / url))
        file_system.exists(path)
    except Exception as error:  # each driver raises exceptions of its own
        problem = str(error) or type(error).__name__
        return address | {"answers": False, "problem": problem}
    return address | {"answers": True}


def _repository(paths: Paths, url: str) -> dict[str, Any]:
    address = {"address": mask_urls(url)}
    try:
        heads = git.text(paths.root, "ls-remote", "--quiet", url, "HEAD", timeout=_GIT_TIMEOUT_SECONDS)
    except GitFailed as error:
        return address | {"answers": False, "problem": str(error)}
    return address | ({"answers": True} if heads else {"answers": False, "problem": "it has no commits"})
