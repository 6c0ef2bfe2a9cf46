"""DVC: as a subprocess where it works on files, as a library where it only reads or edits its own files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lenet5.core import files, stage_code, storage
from lenet5.core.errors import DataError, Lenet5Error, Unavailable
from lenet5.core.paths import Paths
from lenet5.system import process
from lenet5.system.process import Ended, OnLine

if TYPE_CHECKING:
    from dvc.repo import Repo

# DVC repeats this advice after every stage; it would be half of the log
_ADVICE = re.compile(
    r"\s*$|To track the changes|\s+git add|To enable auto staging|\s+dvc config|Use `dvc push`"
)
_BLOCKED = re.compile(
    r"ERROR: .* is busy, it is being blocked by:|\s+\(PID \d+\): |If there are no processes with such PIDs"
)
"""What DVC prints while another command works on the files of a stage; ``--wait-for-lock`` is no help."""
_BLOCKED_SECONDS = 2.0
"""Pause before the next attempt."""
_STAGE_EXITED = re.compile(r"failed to run: .* exited with (-?\d+)$")
_LINE = "\n            "


class StageFailed(Lenet5Error):
    """A stage ended with an error; carries its message and its exit code."""

    def __init__(self, stage: str, message: str, exit_code: int) -> None:
        super().__init__(f"stage {stage} failed: {message}")
        self.message = message
        self.exit_code = exit_code


def run_stage(
    root: Path,
    stage: str,
    *,
    timeout: float,
    on_line: OnLine,
    force: bool = False,
    pull: bool = False,
    environment: Mapping[str, str | None] | None = None,
) -> None:
    """Bring one stage up to date; the stages before it stay as they are.

    Waits while another command of DVC works on the files of the stage.

    Args:
        root: the checkout.
        stage: its name in ``dvc.yaml``.
        timeout: seconds; then the stage and everything it started are killed.
        on_line: called with each line of output as it comes.
        force: run the stage even if nothing changed.
        pull: fetch from the DVC remote what the local cache lacks.
        environment: variables that differ from those of this process; None removes one.

    Raises:
        StageFailed: the stage refused, broke, or took too long.
        DataError: a file of the graph is no regular file.
    """
    require_regular(root)
    options = [*(["--force"] if force else []), *(["--pull"] if pull else [])]

    def pass_on(line: str) -> None:
        if not _ADVICE.match(line) and not _BLOCKED.match(line):
            on_line(line)

    deadline, blockers = time.monotonic() + timeout, list[str]()
    while True:
        ended = process.run(
            _command("repro", "--single-item", stage, *options),
            root,
            timeout=max(deadline - time.monotonic(), 0),
            on_line=pass_on,
            environment=environment,
        )
        if blockers and ended.timed_out and not any(line.startswith("Running stage") for line in ended.lines):
            raise StageFailed(stage, "\n".join(blockers), Unavailable.exit_code)
        found = [line.strip() for line in ended.lines if _BLOCKED.match(line)]
        if not ended.code or not found:
            break
        if not blockers:
            on_line(f"waiting for another command of DVC: {found[1]}")
        blockers = found
        time.sleep(_BLOCKED_SECONDS)
    _require_success(root, stage, ended, timeout)


def run_unrecorded(
    root: Path, stage: str, *, timeout: float, on_line: OnLine, environment: Mapping[str, str]
) -> None:
    """Run the command of a stage without DVC, for a stage that another machine records.

    Raises:
        StageFailed: as in :func:`run_stage`.
    """
    ended = process.run(
        ["lenet5", stage],
        root,
        timeout=timeout,
        on_line=on_line,
        environment={"DVC_STAGE": stage, **environment},
    )
    _require_success(root, stage, ended, timeout)


def require_regular(root: Path) -> None:
    """Require that DVC can read every file that the graph names: DVC would wait for a pipe without end.

    Raises:
        DataError: a folder that ``dvc.yaml`` names holds a pipe, a socket, a device or a loop of links.
        UsageError: ``dvc.yaml`` cannot be read.
    """
    for name in stage_code.files_of_graph(Paths(root)):
        path = root / name
        if path.is_dir():
            for folder, _, names in os.walk(path):
                for each in names:
                    files.regular(Path(folder, each))
        else:
            files.regular(path)


def stale_stages(root: Path) -> list[str]:
    """Return the stages that ``dvc repro`` would run.

    Raises:
        Unavailable: DVC cannot say.
        DataError: a file of the graph is no regular file.
    """
    require_regular(root)
    from dvc.exceptions import DvcException

    try:
        with repository(root) as repo:
            return stale(repo)
    except DvcException as error:
        raise Unavailable("`dvc status` failed.", found=error) from None


@contextmanager
def repository(root: Path) -> "Iterator[Repo]":
    """Open a checkout with DVC as a library, for reading. It waits for another command's lock, as ours do."""
    from dvc.repo import Repo

    with Repo(str(root), _wait_for_lock=True) as repo:
        yield repo


def stale(repo: "Repo") -> list[str]:
    """Return the stages that ``dvc repro`` would run. ``dvc status`` prints the same ones.

    Raises:
        DvcException: DVC cannot say.
    """
    # from a folder below, DVC writes the path of dvc.yaml before the name
    return [address.rpartition(":")[2] for address in repo.status()]


def changes(root: Path, stage: str) -> dict[str, str]:
    """Return what differs from ``dvc.lock`` for a stage: files and parameters by name, and how each differs.

    Outputs that are only missing do not count, because they can be fetched.

    Raises:
        StageFailed: DVC cannot say.
    """
    done = _call(root, "status", "--json", stage)
    if done.returncode:
        raise StageFailed(stage, *failure(root, done.stderr.splitlines(), done.returncode))
    found: dict[str, str] = {}
    for change in json.loads(done.stdout).get(stage, []):
        if isinstance(change, str):  # "changed command"
            found[stage] = change
            continue
        for kind, names in change.items():
            missing = ("deleted", "not in cache") if kind == "changed outs" else ()
            found |= {name: str(how) for name, how in names.items() if how not in missing}
    return found


def experiments(root: Path, commits: int) -> str:
    """Return what ``dvc exp show`` knows of the last commits, as JSON.

    Raises:
        Unavailable: DVC cannot say.
    """
    return _output(root, "exp", "show", "--json", "--num", str(commits))


def exchange(root: Path, *arguments: str) -> None:
    """Run ``dvc push`` or ``dvc pull``.

    Raises:
        Unavailable: the remote does not answer, or lacks what was asked for.
    """
    done = _call(root, *arguments)
    if done.returncode:
        raise Unavailable(
            f"`dvc {' '.join(arguments)}` failed.",
            expected="a DVC remote that answers",
            found=_last_lines(done.stderr),
            fix="correct LENET5_DVC_REMOTE or .dvc/config, and the keys of its store",
        )


def can_pull(root: Path, stage: str, *, environment: Mapping[str, str | None] | None = None) -> bool:
    """Fetch the outputs of a stage that ``dvc.lock`` names; return whether all of them are here now."""
    return _call(root, "pull", stage, environment=environment).returncode == 0


def restore(root: Path, digest: str, names: Sequence[str], into: Path) -> Path:
    """Write a part of a folder as DVC recorded it once; the outputs of the checkout stay as they are.

    DVC pulls into a project of its own, which has the cache and the remotes of the checkout.

    Args:
        root: the checkout.
        digest: of the whole folder in a ``dvc.lock``; it ends with ``.dir``.
        names: the files and folders to write, by their path in that folder.
        into: a new or empty folder for the project. It may get the keys of the remotes.

    Returns:
        The folder with these files.

    Raises:
        Unavailable: a file is neither in the cache nor in the remote.
    """
    from dvc.repo import Repo

    if not (root / ".dvc").is_dir():
        raise Unavailable(f"{root} has no DVC cache: there is no folder .dvc.")
    with Repo(str(root)) as repo:
        cache = {"dir": str(repo.cache.local_cache_dir)}
        default = repo.config["core"].get("remote")
        remotes = {name: dict(remote) for name, remote in repo.config["remote"].items()}
    (into / ".dvc").mkdir(mode=0o700, parents=True)
    (into / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    with Repo(str(into)) as repo, repo.config.edit("local") as local:
        local["cache"], local["remote"] = cache, remotes
        if default:
            local["core"] = {"remote": default}
    recorded = {"outs": [{"md5": digest, "hash": "md5", "path": "folder"}]}  # JSON is YAML
    (into / "folder.dvc").write_text(json.dumps(recorded))
    done = _call(into, "pull", *(f"folder/{name}" for name in names))
    if done.returncode:
        raise Unavailable(f"DVC cannot restore {digest}:{_LINE}{_last_lines(done.stderr)}")
    return into / "folder"


def recorded_outputs(lock: Path) -> dict[str, str]:
    """Return the MD5 of each output that a ``dvc.lock`` records, by its path from the root of the checkout.

    The digest of a folder ends with ``.dir``.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    try:
        stages = YAML(typ="safe").load(files.read_text(lock))["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}
    except (OSError, YAMLError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{lock} cannot be read.",
            expected="what `dvc repro` recorded",
            found=error,
            fix="`dvc repro` writes it; `git restore dvc.lock` brings back the committed one",
        ) from None


def cache_folder(root: Path) -> Path:
    """Return the folder of DVC's cache whose objects are named after their MD5."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


def remove_unused(root: Path, *, keep: Sequence[Path]) -> str:
    """Remove from the cache what no commit and no listed checkout names; return DVC's last line.

    Raises:
        Unavailable: DVC failed.
    """
    kept = [word for folder in keep for word in ("--projects", str(folder))]
    output = _output(root, "gc", "--workspace", "--all-commits", "--force", *kept)
    return output.splitlines()[-1] if output else "nothing to remove"


def failure(root: Path, lines: Sequence[str], code: int, *, memory_kills: int = 0) -> tuple[str, int]:
    """Return the message of a failed stage, and its exit code; DVC's own is 255 for every failure.

    Args:
        root: the checkout.
        lines: the output of DVC and of the stage.
        code: DVC's exit code.
        memory_kills: how many processes the kernel killed for memory while the stage ran.
    """
    exits = [int(match[1]) for line in lines if (match := _STAGE_EXITED.search(line))]
    kept = [line for line in lines if line and not _STAGE_EXITED.search(line)]
    starts = [number for number, line in enumerate(kept) if line.startswith("error: ")]
    kept = kept[starts[-1] :] if starts else kept[-20:]
    ended_with = exits[-1] if exits else code
    if ended_with in (-signal.SIGINT, process.INTERRUPTED):
        return "it was interrupted", process.INTERRUPTED
    if number := process.signal_number(ended_with):
        error = process.death("its process died.", number, memory_kills=memory_kills)
        return str(error), error.exit_code
    # DVC itself reports what it could not write; a stage that could not write has said so, with its exit code
    if not exits and (no_room := storage.failure_in_text(lines, root)):
        return str(no_room), no_room.exit_code
    return "\n".join(kept).removeprefix("error: "), ended_with


def locked_entry(paths: Paths, stage: str) -> str:
    """Return the entry of a stage in ``dvc.lock``, as YAML. The order of its keys counts."""
    entry, text = YAML().load(files.read_text(paths.lock))["stages"][stage], StringIO()
    YAML().dump(entry, text)
    return text.getvalue()


def replace_locked_entry(paths: Paths, stage: str, entry: str | None) -> str | None:
    """Write the entry of a stage into ``dvc.lock`` as DVC does, or remove it; return the previous entry."""
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    with (
        Repo(str(paths.root), _wait_for_lock=True) as repo,
        repo.lock,
        modify_yaml(str(paths.lock), fs=repo.fs) as content,
    ):
        before = locked_entry(paths, stage) if stage in content["stages"] else None
        if entry is None:
            content["stages"].pop(stage, None)
        else:
            content["stages"][stage] = YAML().load(entry)
    return before


def use_remote(checkout: Paths, home: Paths, url: str, **sections: Mapping[str, str]) -> None:
    """Write a DVC remote into the local settings of a checkout, which git ignores.

    Args:
        checkout: whose ``.dvc/config.local`` is written.
        home: the folder that a relative path starts from.
        url: of the remote that ``.dvc/config`` names as its default.
        sections: further settings of DVC, by section.
    """
    from dvc.repo import Repo

    with Repo(str(checkout.root)) as repo:
        name = str(repo.config["core"].get("remote") or "storage")
        place = url if "://" in url else str((home.root / url).resolve())
        with repo.config.edit("local") as local:
            for section, values in {**sections, "remote": {name: {"url": place}}}.items():
                local[section] = {**local.get(section, {}), **values}


def share_cache(source: Paths, worktree: Paths) -> None:
    """Let a worktree use the cache and the remotes of another checkout, its local settings included."""
    from dvc.repo import Repo

    with Repo(str(source.root)) as repo:
        cache = {"dir": str(repo.cache.local_cache_dir)}
        remotes = {name: {"url": str(remote["url"])} for name, remote in repo.config["remote"].items()}
    local_config = source.root / ".dvc" / "config.local"
    if local_config.exists():
        shutil.copy(local_config, worktree.root / ".dvc" / "config.local")  # with its mode: it may hold keys
    with Repo(str(worktree.root)) as repo, repo.config.edit("local") as local:
        local["cache"] = {**local.get("cache", {}), **cache}
        known = local.get("remote", {})
        local["remote"] = {**known, **{name: {**known.get(name, {}), **url} for name, url in remotes.items()}}


def _require_success(root: Path, stage: str, ended: Ended, timeout: float) -> None:
    if ended.timed_out:
        raise StageFailed(stage, f"it took more than {timeout:g} seconds and was killed", 1)
    if ended.code:
        raise StageFailed(stage, *failure(root, ended.lines, ended.code, memory_kills=ended.memory_kills))


def _output(root: Path, *arguments: str) -> str:
    done = _call(root, *arguments)
    if done.returncode:
        raise Unavailable(f"`dvc {arguments[0]}` failed.", found=_last_lines(done.stderr or done.stdout))
    return done.stdout.strip()


def _call(
    root: Path, *arguments: str, environment: Mapping[str, str | None] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(*arguments),
        cwd=root,
        env=process.environment_for_child(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def _command(*arguments: str) -> list[str]:
    # without --wait-for-lock, DVC gives up after 3 s and throws the result of a finished stage away
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def _last_lines(output: str) -> str:
    return _LINE.join(output.strip().splitlines()[-5:])
