"""Make a registered version again, from its commit and its data, and compare it."""

import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lenet5.core.errors import DataError, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.orchestration import graph
from lenet5.registry import model_versions, reproduction
from lenet5.registry.model_versions import Version
from lenet5.registry.reproduction import DigestComparison
from lenet5.stages.params import Params
from lenet5.system import dvc, environment, git, settings
from lenet5.system.dvc import StageFailed
from lenet5.system.git import GitFailed
from lenet5.system.process import OnLine
from lenet5.system.state import LocalState
from lenet5.tracking import store, tags
from lenet5.tracking.embedded_client import Client

LAST = "evaluate"
"""The last stage that runs: registering makes nothing to compare, and the version is registered already."""


@dataclass(frozen=True)
class Reproduction:
    """The result of making a version again."""

    version: Version
    folder: Path | None
    """The worktree; None when it was removed, because the result is the same."""
    rows: list[DigestComparison]
    numbers: list[str]
    """How far apart the results are, when they differ."""
    causes: list[str]

    @property
    def identical(self) -> bool:
        return all(row.same for row in self.rows)


@dataclass(frozen=True)
class _Recipe:
    """What a version was made with."""

    commit: str
    patch: Path | None
    files: Mapping[str, Path]
    """``params.yaml``, ``dvc.lock`` and ``requirements.lock`` as they were logged."""


def reproduce(
    paths: Paths, params: Params, wanted: str, *, into: Path | None, record: bool, on_line: OnLine
) -> Reproduction:
    """Make a version again in a git worktree and compare it with what was registered.

    Args:
        paths: a clone that has the version's commit.
        params: the model's name.
        wanted: a version number or an alias.
        into: an empty or new folder, which is kept; when None, one below ``.lenet5``, which is kept when the
            result differs.
        record: tag the version with the outcome.
        on_line: called with each line of progress.

    Raises:
        UsageError: there is no such version or commit, or ``into`` is in use.
        DataError: a file that was logged with the version is gone or changed, or the data cannot be found.
        StageFailed: a stage ended with an error.
        Unavailable: the store does not answer.
    """
    with store.reachable(paths), tempfile.TemporaryDirectory() as kept:
        client = store.connect(paths)
        version = model_versions.find(client, params.register_.model_name, wanted)
        recipe = _recipe(client, version, Path(kept))
        folder = _free(paths, version, into)
        on_line(
            f"version {version.number}: commit {recipe.commit[:12]}{' and its patch' if recipe.patch else ''}"
        )
        try:
            _worktree(paths, recipe, folder)
            dvc.share_cache(paths, Paths(folder))
        except BaseException:
            _remove(paths, folder)  # an unfinished worktree would block the next reproduction
            raise
        on_line(f"worktree: {folder}")
        other = environment.other_packages(recipe.files["requirements.lock"].read_text())
        for name, (pinned, installed) in other.items():
            on_line(f"warning: {name} is {installed} here, and was {pinned}")
        stages = _run(folder, _engine(version), on_line)

        made = Paths(folder)
        rows = reproduction.compare_digests(version, made, recipe.files["dvc.lock"].read_text(), stages)
        same = all(row.same for row in rows)
        numbers = [] if same else reproduction.describe_differences(client, version, made)
        causes = [] if same else reproduction.causes(version, made, rows, other)
        if record:
            model_versions.tag(client, version, tags.REPRODUCED, _outcome(rows))
    if same and into is None:
        _remove(paths, folder)
        return Reproduction(version, None, rows, numbers, causes)
    return Reproduction(version, folder, rows, numbers, causes)


def _recipe(client: Client, version: Version, folder: Path) -> _Recipe:
    commit = version.tags.get(tags.COMMIT, "")
    if not re.fullmatch("[0-9a-f]{40}", commit):  # so git cannot take it for an option
        raise UsageError(
            f"Version {version.number} cannot be made again.",
            expected="the git commit it was made from",
            found=commit or "none: it was registered outside a git repository",
        )
    logged = {
        name: model_versions.artifact(client, version, f"code/{name}", folder)
        for name in ("params.yaml", "dvc.lock", "requirements.lock")
    }
    patch = model_versions.patch(client, version, folder)
    return _Recipe(commit, patch, logged)


def _free(paths: Paths, version: Version, into: Path | None) -> Path:
    """Return a folder for the worktree."""
    git.run(paths.root, "worktree", "prune")  # forget folders that were removed by hand
    if into is None:
        folder = LocalState(paths.root).folder / "reproduce" / f"{version.name}-{version.number}"
        _remove(paths, folder)  # of an earlier reproduction
        return folder
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UsageError(
            f"{into} is in use.", expected="a new or empty folder", fix="name another one with --into"
        )
    return into.resolve()


def _worktree(paths: Paths, recipe: _Recipe, folder: Path) -> None:
    if not git.has_commit(paths.root, recipe.commit):
        raise UsageError(
            "The version's commit is not in this clone.",
            expected=recipe.commit,
            fix="`git fetch --all`, or a clone of the repository that it was committed to",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    git.run(paths.root, "worktree", "add", "--quiet", "--detach", str(folder), recipe.commit)
    if recipe.patch:
        git.run(folder, "apply", "--whitespace=nowarn", str(recipe.patch))
    for name, file in recipe.files.items():
        shutil.copyfile(file, folder / name)


def _run(folder: Path, engine_variables: Mapping[str, str | None], on_line: OnLine) -> set[str]:
    """Run every stage up to :data:`LAST`; only source data that is lost comes from the cache."""
    stages = {stage.name: stage for stage in graph.stages(folder)}
    needed = _upstream(stages, LAST)
    LocalState(folder).prepare()
    variables = {**settings.embedded(Paths(folder)), **engine_variables, "PYTHONPATH": str(folder / "src")}
    for stage in stages.values():
        if stage.name not in needed:
            continue
        try:
            dvc.run_stage(
                folder,
                stage.name,
                timeout=stage.meta.timeout_seconds,
                on_line=lambda line: on_line(f"  {line}"),
                force=True,
                environment=variables,
            )
        except StageFailed as error:
            if stage.after or error.exit_code not in (DataError.exit_code, Unavailable.exit_code):
                raise
            on_line(f"warning: {error}\nlooking in the cache and the remote for the outputs of {stage.name}")
            if dvc.can_pull(folder, stage.name, environment=variables):
                continue
            raise DataError(
                "The data that the version was made from cannot be found.",
                expected="it at ingest.source, in the DVC cache or in the DVC remote",
                found=error,
            ) from None
    return needed


def _engine(version: Version) -> dict[str, str | None]:
    """Return the engine variables of the version, and None for every other one that is set here."""
    now = dict.fromkeys((variable.partition("=")[0] for variable in engine.variables()), None)
    then = (variable.partition("=") for variable in shlex.split(version.tags.get(tags.SWITCHES, "")))
    return now | {name: value for name, _, value in then}


def _upstream(stages: Mapping[str, graph.Stage], name: str) -> set[str]:
    return {name}.union(*(_upstream(stages, before) for before in stages[name].after))


def _outcome(rows: list[DigestComparison]) -> str:
    here = environment.machine()
    where = f"{datetime.now(UTC):%Y-%m-%d}, {here['host']} ({here['processor']})"
    other = [row.what for row in rows if not row.same]
    return f"no, {where}: other {', '.join(other)}" if other else f"yes, {where}"


def _remove(paths: Paths, folder: Path) -> None:
    """Remove a worktree, or what is left of one."""
    with suppress(GitFailed):  # it may not be a worktree any more
        git.run(paths.root, "worktree", "remove", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    git.run(paths.root, "worktree", "prune")
