"""A checkout of its own for each flow run of a worker: one commit of the repository, one DVC cache for all.

A worker starts ``python -m lenet5.orchestration.workspace`` (``job_variables`` in ``prefect.yaml``). It
makes the workspace that the flow run's parameters ask for, and becomes Prefect's engine there. So the flow,
too, is the code of that commit; what is installed on the worker gives it only packages, and those have to be
the ones that the commit pins.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from dvc.repo import Repo
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict

from lenet5.core.errors import Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration.stage_result import StageResult, tell
from lenet5.system import environment, settings
from lenet5.system.state import LocalState
from lenet5.system.terminal import print_error

IDENTITY = {
    "GIT_AUTHOR_NAME": "lenet5",
    "GIT_AUTHOR_EMAIL": "lenet5@localhost",
    "GIT_COMMITTER_NAME": "lenet5",
    "GIT_COMMITTER_EMAIL": "lenet5@localhost",
}


class Code(BaseModel):
    """Which code a flow run is of: the parameters that every deployed flow has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ref: str | None = None
    """A branch, tag or commit; the repository's own default when None."""
    patch: str | None = None
    """What was not committed, as :func:`pack` gives it."""
    lock: str | None = None
    """The content of ``dvc.lock``, which names the outputs of the stages before."""


def pack(patch: bytes) -> str | None:
    """A patch as text that fits into a parameter."""
    return base64.b85encode(zlib.compress(patch, 9)).decode() if patch else None


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def make(home: Paths, code: Code, name: str) -> Paths:
    """Make the workspace ``name`` at a commit; one that is there already is made anew.

    Args:
        home: the folder whose ``.lenet5`` holds workspaces, the copy of the repository and the cache.
        code: which commit.
        name: of the folder.

    Raises:
        UsageError: there is no such commit, the patch does not apply, or other packages are installed here
            than the commit pins.
        Unavailable: the repository does not answer.
    """
    found = settings.load(home)
    if not found.lenet5_git_url or not found.lenet5_dvc_remote:
        raise UsageError(
            "The worker does not know where code and data are.",
            expected="their addresses in LENET5_GIT_URL and LENET5_DVC_REMOTE",
            found="no such setting",
            fix="set them where the worker runs, and start the worker again",
        )
    local = home.root / found.lenet5_git_url
    url = str(local) if local.exists() else found.lenet5_git_url
    folder = LocalState(home.root).workspaces / name
    LocalState(home.root).workspaces.mkdir(parents=True, exist_ok=True)
    with FileLock(repository_lock(home)):
        mirror = _mirror(home, url)
        commit = _resolve(mirror, code.ref or "HEAD", url)
        shutil.rmtree(folder, ignore_errors=True)
        _git(
            LocalState(home.root).workspaces,
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            str(mirror),
            str(folder),
        )
    try:
        _git(folder, "remote", "set-url", "origin", url)
        _git(folder, "checkout", "--quiet", "--detach", commit)
        workspace = Paths(folder)
        if code.patch:
            _git(folder, "apply", "--whitespace=nowarn", "-", stdin=_unpack(code.patch))
        if code.lock:
            workspace.lock.write_text(code.lock)
        _require_packages(workspace)
        # one cache for all workspaces; outputs are links into it, so that a workspace is small
        cache = {"dir": str(LocalState(home.root).folder / "cache"), "type": "hardlink,copy"}
        use_remote(workspace, home, found.lenet5_dvc_remote, cache=cache)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # there is nothing to look at yet
        raise
    return workspace


def repository_lock(home: Paths) -> Path:
    """Held while a workspace is made: nothing may remove shared files meanwhile."""
    return LocalState(home.root).folder / "repository.lock"


def leave(paths: Paths) -> None:
    """Remove the workspace in which a flow run is that ended well; any other checkout stays."""
    if is_workspace(paths):
        os.chdir(LocalState(paths.root).folder)
        shutil.rmtree(paths.root, ignore_errors=True)


def is_workspace(paths: Paths) -> bool:
    return paths.root.parent == LocalState(paths.root).workspaces


def use_remote(checkout: Paths, home: Paths, url: str, **sections: Mapping[str, str]) -> None:
    """Let a checkout use a DVC remote, in its own local settings, which git ignores.

    Args:
        checkout: whose ``.dvc/config.local`` is written.
        home: where a path begins that is relative.
        url: of the remote that ``.dvc/config`` names as its default.
        sections: further settings of DVC, by section.
    """
    with Repo(str(checkout.root)) as repo:
        name = str(repo.config["core"].get("remote") or "storage")
        place = url if "://" in url else str((home.root / url).resolve())
        with repo.config.edit("local") as local:
            for section, values in {**sections, "remote": {name: {"url": place}}}.items():
                local[section] = {**local.get(section, {}), **values}


def publish(workspace: Paths, branch: str, message: str) -> str:
    """Commit and push what a run changed: ``dvc.lock``, and ``params.yaml`` for new data; the commit.

    Raises:
        UsageError: the repository does not take it.
    """
    _git(workspace.root, "add", workspace.lock.name, workspace.params.name)
    _git(workspace.root, "commit", "--quiet", "--allow-empty", "--message", message)
    _git(workspace.root, "push", "--quiet", "origin", f"+HEAD:refs/heads/{branch}")
    return _git(workspace.root, "rev-parse", "HEAD")


def _mirror(home: Paths, url: str) -> Path:
    """The machine's copy of the repository, as it is now."""
    mirror = LocalState(home.root).folder / "repository.git"
    mirror.mkdir(parents=True, exist_ok=True)
    _git(mirror, "init", "--quiet", "--bare")  # always: in an empty folder git would take the one around it
    everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    try:
        _git(mirror, "fetch", "--quiet", "--prune", url, *everything)
        said = _git(mirror, "ls-remote", "--symref", url, "HEAD")
    except UsageError as error:
        raise Unavailable(
            "The repository does not answer.",
            expected=settings.in_urls(url),
            found=error,
            fix="correct LENET5_GIT_URL, or give the worker access to it",
        ) from None
    # the default branch is the one that the repository says now
    if match := re.search(r"^ref: (refs/heads/\S+)\tHEAD$", said, re.MULTILINE):
        _git(mirror, "symbolic-ref", "HEAD", match[1])
    return mirror


def _resolve(mirror: Path, ref: str, url: str) -> str:
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):
        try:
            return _git(mirror, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except UsageError:
            continue
    raise UsageError(
        f"The repository has no {ref}.",
        expected="a branch, a tag or a commit that was pushed",
        found=f"none of that name at {settings.in_urls(url)}",
        fix="`git push` it, or name another one",
    )


def _require_packages(workspace: Paths) -> None:
    other = environment.other_packages(workspace.requirements.read_text())
    if other:
        rows = [f"{name} {wanted}, not {found}" for name, (wanted, found) in sorted(other.items())]
        raise UsageError(
            "The worker has other packages than the commit pins: the result would not be that of its code.",
            expected=", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else ""),
            fix="set the worker up from that commit (`make setup`, or build its image again)",
        )


def _git(folder: Path, *words: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env={**IDENTITY, **os.environ, "GIT_TERMINAL_PROMPT": "0"},
        check=False,
    )
    if not done.returncode:
        return done.stdout.decode().strip()
    said = settings.in_urls(done.stderr.decode(errors="replace").strip())
    shown = settings.in_urls(" ".join(words))
    raise UsageError(f"`git {shown}` failed.", found=said or f"exit code {done.returncode}")


def main() -> None:
    """Make the workspace of the flow run that Prefect names in the environment; become its engine there."""
    number = UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    home = Paths(Path(os.environ["LENET5_HOME"])) if os.environ.get("LENET5_HOME") else Paths.find()
    with get_client(sync_client=True) as client:
        try:
            settings.apply(home)
            run = client.read_flow_run(number)
            workspace = make(home, Code.model_validate(run.parameters), str(number))
        except Lenet5Error as error:
            print_error(error)
            tell(client, number, StageResult(exit_code=error.exit_code, message=str(error)))
            client.set_flow_run_state(number, Failed(message=str(error)))
            return
        state = client.read_flow_run(number).state
        if state and state.is_final():  # somebody gave up waiting for it
            shutil.rmtree(workspace.root, ignore_errors=True)
            return
    os.chdir(workspace.root)
    os.environ["PYTHONPATH"] = str(workspace.root / "src")
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])


if __name__ == "__main__":
    main()
