"""The checks of ``lenet5 doctor``: what the pipeline needs of this machine and of this checkout.

A check is a function that yields its findings. A question that fails is a finding, too.
"""

import json
import os
import platform
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests

from lenet5.cli import status_report, ui_servers
from lenet5.core import files
from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup, model_versions, promotion_history
from lenet5.stages import params
from lenet5.stages.register import stage as register
from lenet5.system import dvc, environment, git, settings, sqlite
from lenet5.system.git import GitFailed
from lenet5.system.state import UI_PORTS, LocalState
from lenet5.tracking import embedded_store, store

_FREE_BYTES = 2_000_000_000
"""A training of MNIST writes 0.4 GB; the rest is room for runs."""
_PYTHON = (3, 11), (3, 13)
_TIMEOUT_SECONDS = 5.0
_FOREIGN = {
    "PYTHONPATH": "modules in these folders can replace those of the environment",
    "PYTHONHOME": "Python takes its own modules from there",
    "PIP_USER": "pip installs into the home folder and not into .venv",
}
"""Variables of other programs that replace code, with what they do."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    subject: str
    ok: bool
    found: str
    fix: str = ""
    """What the user can do; empty if all is well."""
    repair: Callable[[], str] | None = None
    """Mends it without a risk, and returns what it did; None if a person has to decide."""


def diagnose(paths: Paths) -> Iterator[Finding]:
    """Run every check. The order is from the machine to the models."""
    for check in (
        _python,
        _packages,
        _git,
        _folder,
        _disk,
        _variables,
        _ports,
        _clock,
        _databases,
        _cache,
        _stages,
        _registry,
        _servers,
    ):
        try:
            yield from check(paths)
        except (Lenet5Error, OSError) as error:
            yield Finding(check.__name__.strip("_"), False, str(error))


def _python(_: Paths) -> Iterator[Finding]:
    lowest, highest = _PYTHON
    fits = lowest <= sys.version_info[:2] <= highest
    found = f"{platform.python_version()} in {sys.prefix}"
    yield Finding("python", fits, found, "" if fits else "make PYTHON=python3.12 setup")


def _packages(paths: Paths) -> Iterator[Finding]:
    differing = environment.other_packages(files.read_text(paths.requirements))
    shown = ", ".join(f"{name} {here} (pinned: {pinned})" for name, (pinned, here) in differing.items())
    yield Finding(
        "packages",
        not differing,
        shown or "as requirements.lock pins them",
        "make setup" if differing else "",
    )


def _git(paths: Paths) -> Iterator[Finding]:
    if not git.is_checkout(paths.root):
        yield Finding(
            "git",
            False,
            f"{paths.root} is in no git repository, so versions have no commit",
            "clone the project with git",
        )
        return
    try:
        source = git.source(paths.root)
    except GitFailed as error:
        yield Finding("git", False, str(error), "mend what git names; until then nothing is registered")
        return
    assert source is not None  # the folder is a checkout
    changed = f" with {len(source.patch):,} bytes of uncommitted changes" if source.patch else ""
    yield Finding("git", True, f"commit {source.commit[:12]}{changed}")


def _folder(paths: Paths) -> Iterator[Finding]:
    folder = LocalState(paths.root).folder
    unwritable = [
        str(path) for path in (paths.root, folder, paths.raw.parent) if not os.access(path, os.W_OK)
    ]
    mode = stat.S_IMODE(folder.stat().st_mode)
    if unwritable:
        yield Finding("folder", False, f"not writable: {', '.join(unwritable)}", "chown or chmod them")
    elif mode & 0o077:  # every command closes a folder of its own user
        found = f"{folder} belongs to another user and has mode {mode:o}: others can read it"
        yield Finding("folder", False, found, f"`chmod 700 {folder}` as its owner")
    else:
        yield Finding("folder", True, str(paths.root))


def _disk(paths: Paths) -> Iterator[Finding]:
    free = shutil.disk_usage(paths.root).free
    enough = free >= _FREE_BYTES
    yield Finding(
        "disk",
        enough,
        f"{free / 1e9:.1f} GB free",
        ""
        if enough
        else f"make {_FREE_BYTES / 1e9:.0f} GB free; `dvc gc --workspace` removes unused outputs",
    )


def _variables(paths: Paths) -> Iterator[Finding]:
    settings.load(paths)  # an invalid setting is an error, which the caller reports
    foreign = settings.given(_FOREIGN)
    for name, value in foreign.items():
        yield Finding("variables", False, f"{name}={value}: {_FOREIGN[name]}", f"unset {name}")
    if not foreign:
        yield Finding("variables", True, "none that replaces code")


def _ports(_: Paths) -> Iterator[Finding]:
    for name, port in UI_PORTS.items():
        if ui_servers.is_in_use(port):
            fix = f"`lenet5 ui --{name}-port {port + 1}`"
            yield Finding("ports", True, f"{port} is in use; {fix} chooses another one")
            return
    *others, last = UI_PORTS.values()
    yield Finding("ports", True, f"{', '.join(map(str, others))} and {last} are free for `lenet5 ui`")


def _clock(paths: Paths) -> Iterator[Finding]:
    now = time.time()
    latest = max(path.stat().st_mtime for path in (paths.params, paths.graph))
    if git.is_checkout(paths.root):
        latest = max(latest, float(git.text(paths.root, "log", "-1", "--format=%ct")))
    late = latest > now + 60
    found = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if late:
        found += f", and the checkout has changes of {datetime.fromtimestamp(latest, UTC):%Y-%m-%d %H:%M} UTC"
    yield Finding("clock", not late, found, "set the clock of this machine" if late else "")


def _databases(paths: Paths) -> Iterator[Finding]:
    state = LocalState(paths.root)
    for database, repair in (
        (state.mlflow_database, _move_away_and_register),
        (state.folder / "prefect" / "prefect.db", _move_away),
        (state.sweeps / "sweeps.db", _move_away),
    ):
        if not database.exists():
            continue
        if problem := _damage(paths, database):
            yield Finding(
                "databases",
                False,
                f"{database}: {problem}",
                "`lenet5 doctor --repair` moves it away",
                lambda repair=repair, database=database: repair(paths, database),  # type: ignore[misc]
            )
        else:
            yield Finding("databases", True, f"{database.relative_to(state.folder)} is sound")


def _damage(paths: Paths, database: Path) -> str | None:
    """Return what is wrong with a SQLite file; None if nothing is."""
    try:
        with closing(sqlite.open_for_reading(database, _TIMEOUT_SECONDS)) as connection:
            [result] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            return str(result)
        if database == LocalState(paths.root).mlflow_database:
            embedded_store.require_sound(paths)
    except (sqlite3.Error, Lenet5Error) as error:
        return str(error)
    return None


def _move_away(_: Paths, database: Path) -> str:
    """Move a database and its journals aside. Nothing is deleted."""
    aside = database.parent / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    aside.mkdir()
    for file in database.parent.glob(f"{database.name}*"):
        file.rename(aside / file.name)
    return f"{database.name} is in {aside} now; the next command makes a new one"


def _move_away_and_register(paths: Paths, database: Path) -> str:
    done = _move_away(paths, database)
    if not paths.evaluation.exists():
        return done
    all_params = params.load(paths.params)
    registered = register.run(paths, all_params.register_, all_params.flat())
    return f"{done}. From DVC's files: {registered}; `lenet5 promote` asks the gate about it"


def _cache(paths: Paths) -> Iterator[Finding]:
    """Hash the objects of DVC's cache that ``dvc.lock`` names. DVC itself trusts them."""
    if not paths.lock.exists():
        yield Finding("cache", True, "no stage has run yet")
        return
    folder = dvc.cache_folder(paths.root)
    digests = set(dvc.recorded_outputs(paths.lock).values())
    objects, damaged = 0, []
    while digests:
        digest = digests.pop()
        path = folder / digest[:2] / digest[2:]
        if not path.exists():
            continue  # it was never here, or `dvc gc` removed it; DVC runs the stage again or pulls it
        objects += 1
        if files.md5(path) != digest.removesuffix(".dir"):
            damaged.append(path)
        elif digest.endswith(".dir"):
            digests |= {entry["md5"] for entry in json.loads(files.read_text(path))}
    if not damaged:
        yield Finding("cache", True, f"{objects} objects have the digests that dvc.lock names")
        return

    def remove() -> str:
        for path in damaged:
            path.chmod(0o600)
            path.unlink()
        return f"{len(damaged)} damaged objects are removed; `dvc repro` makes them again"

    yield Finding(
        "cache",
        False,
        f"{len(damaged)} of {objects} objects are damaged, such as {damaged[0]}",
        "`lenet5 doctor --repair` removes them",
        remove,
    )


def _stages(paths: Paths) -> Iterator[Finding]:
    stale = dvc.stale_stages(paths.root)
    yield Finding("stages", True, f"to run: {', '.join(stale)} (`lenet5 run`)" if stale else "up to date")


def _registry(paths: Paths) -> Iterator[Finding]:
    configured = params.load(paths.params)
    uri = settings.load(paths).mlflow_tracking_uri
    if store.is_embedded(paths, uri) and not LocalState(paths.root).mlflow_database.exists():
        yield Finding("registry", True, "no model is registered yet")
        return
    with store.reachable(paths):
        client = store.connect(paths)
        versions = model_versions.versions(client, configured.register_.model_name)
        champion = model_versions.holder(versions, model_versions.CHAMPION)
        changes = promotion_history.history(paths, configured)
        for problem in promotion_history.drifted(versions, changes).values():
            yield Finding("registry", False, problem, "`lenet5 history`, then `lenet5 rollback` or `promote`")
        if champion is None:
            yield Finding("registry", True, f"{len(versions)} versions, no champion (`lenet5 promote`)")
            return
        try:
            model_versions.verify(client, champion)
        except Lenet5Error as error:
            yield Finding("registry", False, str(error), "`lenet5 rollback --reason …`")
        else:
            found = f"{len(versions)} versions; all files of champion {champion.number} are as registered"
            yield Finding("registry", True, found)


def _servers(paths: Paths) -> Iterator[Finding]:
    """Ask the configured servers for their versions, and compare them with the installed clients."""
    configured = settings.load(paths)
    mlflow, prefect = configured.mlflow_tracking_uri.rstrip("/"), configured.prefect_api_url
    asked: list[tuple[str, str, str, dict[str, Any]]] = []
    if mlflow.startswith("http"):
        asked.append(("mlflow", f"{mlflow}/version", "MLFLOW_TRACKING_URI", fast_lookup.login(configured)))
    if prefect:
        auth = {"auth": status_report.prefect_login(configured)}
        asked.append(("prefect", f"{prefect.rstrip('/')}/admin/version", "PREFECT_API_URL", auth))
    for package, url, variable, login in asked:
        try:
            response = requests.get(url, timeout=_TIMEOUT_SECONDS, **login)
            response.raise_for_status()
        except requests.RequestException as error:
            yield Finding("servers", False, f"{url}: {error}", f"start it, or correct {variable}")
            continue
        theirs, ours = response.text.strip().strip('"'), version(package)
        same = theirs.split(".")[:2] == ours.split(".")[:2]
        fix = "" if same else f"run the same version of {package} on both sides"
        yield Finding("servers", same, f"{url} has {package} {theirs}, this machine {ours}", fix)
    if not asked:
        yield Finding("servers", True, "none is configured: everything is embedded")
