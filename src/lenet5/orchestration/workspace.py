"""One checkout for each flow run of a worker, at the commit that the flow run asks for.

A worker runs ``python -m lenet5.orchestration.workspace`` (``job_variables`` in ``prefect.yaml``). It makes
the workspace that the parameters of the flow run ask for, and becomes Prefect's engine there. So the flow is
the code of that commit, too. The worker's installation provides only packages: those that the commit pins.
All workspaces of a machine share one DVC cache.
"""

import base64
import os
import re
import shutil
import sys
import zlib
from pathlib import Path
from uuid import UUID

from filelock import FileLock
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict

from lenet5.core import files, storage
from lenet5.core.errors import Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import remote_runs
from lenet5.orchestration.remote_runs import StageResult
from lenet5.system import dvc, environment, git, logs, settings
from lenet5.system.git import GitFailed
from lenet5.system.state import LocalState
from lenet5.system.terminal import print_error


class Code(BaseModel):
    """The code that a flow run asks for: parameters that every deployed flow has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ref: str | None = None
    """A branch, tag or commit; the repository's own default when None."""
    patch: str | None = None
    """Uncommitted changes, as :func:`pack` encodes them."""
    lock: str | None = None
    """The content of ``dvc.lock``, which names the outputs of the stages before."""


def pack(patch: bytes) -> str | None:
    """Encode a patch as text that fits into a flow parameter; None for an empty one."""
    return base64.b85encode(zlib.compress(patch, 9)).decode() if patch else None


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def make(home: Paths, code: Code, name: str) -> Paths:
    """Make the workspace ``name`` at a commit, in place of one of that name.

    Args:
        home: the folder whose ``.lenet5`` holds workspaces, the mirror of the repository and the cache.
        code: the commit and its patch.
        name: of the folder.

    Raises:
        UsageError: there is no such commit, the patch does not apply, or the installed packages are not those
            that the commit pins.
        Unavailable: the repository does not answer.
    """
    configured = settings.load(home)
    if not configured.lenet5_git_url or not configured.lenet5_dvc_remote:
        raise UsageError(
            "The worker does not know where code and data are.",
            expected="their addresses in LENET5_GIT_URL and LENET5_DVC_REMOTE",
            found="no such setting",
            fix="set them where the worker runs, and start the worker again",
        )
    local = home.root / configured.lenet5_git_url
    url = str(local) if local.exists() else configured.lenet5_git_url
    workspaces = LocalState(home.root).workspaces
    workspaces.mkdir(parents=True, exist_ok=True)
    folder = workspaces / name
    with FileLock(repository_lock(home)):
        mirror = _mirror(home, url)
        commit = _resolve(mirror, code.ref or "HEAD", url)
        shutil.rmtree(folder, ignore_errors=True)
        git.run(workspaces, "clone", "--quiet", "--shared", "--no-checkout", str(mirror), str(folder))
    try:
        git.run(folder, "remote", "set-url", "origin", url)
        git.run(folder, "checkout", "--quiet", "--detach", commit)
        workspace = Paths(folder)
        if code.patch:
            git.run(folder, "apply", "--whitespace=nowarn", "-", stdin=_unpack(code.patch))
        if code.lock:
            workspace.lock.write_text(code.lock)
        _require_packages(workspace)
        # one cache for all workspaces; outputs are links into it, so that a workspace is small
        cache = {"dir": str(LocalState(home.root).folder / "cache"), "type": "hardlink,copy"}
        dvc.use_remote(workspace, home, configured.lenet5_dvc_remote, cache=cache)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # it holds nothing that anybody could look at
        raise
    return workspace


def repository_lock(home: Paths) -> Path:
    """Return the lock file that is held while a workspace is made, so that nothing removes shared files."""
    return LocalState(home.root).folder / "repository.lock"


def remove(paths: Paths) -> None:
    """Remove the workspace of a successful flow run; any other checkout stays."""
    if is_workspace(paths):
        os.chdir(LocalState(paths.root).folder)
        shutil.rmtree(paths.root, ignore_errors=True)


def is_workspace(paths: Paths) -> bool:
    """Return whether a checkout is a workspace of a worker."""
    return LocalState(paths.root).in_workspace


def publish(workspace: Paths, branch: str, message: str) -> str:
    """Commit and push what a run changed: ``dvc.lock``, and ``params.yaml`` for new data; return the commit.

    Raises:
        GitFailed: the repository refuses it.
    """
    git.run(workspace.root, "add", workspace.lock.name, workspace.params.name)
    git.run(workspace.root, "commit", "--quiet", "--allow-empty", "--message", message)
    url = settings.load(workspace).lenet5_git_url
    git.run(workspace.root, "push", "--quiet", "origin", f"+HEAD:refs/heads/{branch}", login_of=url)
    return git.text(workspace.root, "rev-parse", "HEAD")


def _mirror(home: Paths, url: str) -> Path:
    """Update the machine's mirror of the repository."""
    mirror = LocalState(home.root).folder / "repository.git"
    mirror.mkdir(parents=True, exist_ok=True)
    git.run(mirror, "init", "--quiet", "--bare")  # always: in an empty folder git would use the one around it
    everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    try:
        git.run(mirror, "fetch", "--quiet", "--prune", url, *everything)
        heads = git.text(mirror, "ls-remote", "--symref", url, "HEAD")
    except GitFailed as error:
        raise Unavailable(
            "The repository does not answer.",
            expected=url,
            found=error,
            fix="correct LENET5_GIT_URL, or give the worker access to it",
        ) from None
    # the repository may have changed its default branch
    if match := re.search(r"^ref: (refs/heads/\S+)\tHEAD$", heads, re.MULTILINE):
        git.run(mirror, "symbolic-ref", "HEAD", match[1])
    return mirror


def _resolve(mirror: Path, ref: str, url: str) -> str:
    """Return the commit of a branch, a tag or a commit id, in this order."""
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):
        commit = git.run(
            mirror,
            *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"),
            accept=(0, 1, 128),  # 1 or 128: there is none
        )
        if commit:
            return commit.decode().strip()
    raise UsageError(
        f"The repository has no {ref}.",
        expected="a branch, a tag or a commit that was pushed",
        found=f"none of that name at {url}",
        fix="`git push` it, or name another one",
    )


def _require_packages(workspace: Paths) -> None:
    other = environment.other_packages(files.read_text(workspace.requirements))
    if other:
        rows = [f"{name} {wanted}, not {installed}" for name, (wanted, installed) in sorted(other.items())]
        raise UsageError(
            "The worker has other packages than the commit pins: the result would not be that of its code.",
            expected=", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else ""),
            fix="set the worker up from that commit (`make setup`, or build its image again)",
        )


def main() -> None:
    """Make the workspace for the flow run that Prefect names in the environment, and run the flow there."""
    logs.configure()
    number = UUID(str(runtime.flow_run.id))
    home = Paths(folder) if (folder := settings.worker_home()) else Paths.find()
    with get_client(sync_client=True) as client:
        try:
            with storage.failures_named(home.root):
                settings.apply(home)
                run = client.read_flow_run(number)
                workspace = make(home, Code.model_validate(run.parameters), str(number))
        except Lenet5Error as error:
            print_error(error)
            remote_runs.publish_result(
                client, number, StageResult(exit_code=error.exit_code, message=str(error))
            )
            client.set_flow_run_state(number, Failed(message=str(error)))
            return
        state = client.read_flow_run(number).state
        if state and state.is_final():  # its sender gave up waiting
            shutil.rmtree(workspace.root, ignore_errors=True)
            return
    os.chdir(workspace.root)
    settings.set_variables({"PYTHONPATH": str(workspace.root / "src")})
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])  # nosec B606 # constants


if __name__ == "__main__":
    main()
