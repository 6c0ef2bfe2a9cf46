"""git as a subprocess. A git that fails is an error with git's own words, never an empty answer."""

import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lenet5.core.errors import UsageError
from lenet5.system import process

_REPOSITORY_VARIABLES = frozenset(
    # `git rev-parse --local-env-vars`: git sets them for its hooks, and then they name another repository
    [
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    ]
)
_IDENTITY = {
    "GIT_AUTHOR_NAME": "lenet5",
    "GIT_AUTHOR_EMAIL": "lenet5@localhost",
    "GIT_COMMITTER_NAME": "lenet5",
    "GIT_COMMITTER_EMAIL": "lenet5@localhost",
}
"""The author of commits on machines where git has no user name."""
# independent of the user's settings: colours, prefixes and external tools make patches that do not apply
_DIFF = (
    *("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
_WEB_LOGIN = re.compile(r"(?P<scheme>https?)://(?P<user>[^/:@]+):(?P<password>[^/@]*)@(?P<host>[^/]+)")


class GitFailed(UsageError):
    """git ended with an error."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(f"`{command}` failed.", found=message)


@dataclass(frozen=True)
class Source:
    """The source code of a checkout."""

    commit: str
    patch: bytes
    """What ``git apply`` needs to turn the commit into the working tree; empty when nothing was changed."""


def run(
    folder: Path,
    *arguments: str,
    stdin: bytes | None = None,
    accept: Collection[int] = (0,),
    timeout: float | None = None,
    login_of: str | None = None,
) -> bytes:
    """Run git in a folder and return its standard output.

    Args:
        folder: the working directory.
        arguments: of git.
        stdin: what git reads.
        accept: exit codes that are no failure; ``git diff --no-index`` uses 1 for a difference.
        timeout: seconds.
        login_of: a URL with user and password for a remote that ``arguments`` do not spell out.

    User and password in a URL reach git through its environment, because every user of the machine can read
    arguments.

    Raises:
        GitFailed: git is not installed, ended with another exit code, or took too long.
    """
    words, login = _without_login(arguments)
    if login_of:
        login = _without_login([login_of])[1] or login
    shown = f"git {' '.join(arguments)}"
    environment = process.environment_for_child(
        {
            **dict.fromkeys(_REPOSITORY_VARIABLES),
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C.UTF-8",
            **login,
        }
    )
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            input=stdin,
            capture_output=True,
            env={**_IDENTITY, **environment},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise GitFailed(shown, "git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitFailed(shown, f"no answer within {timeout:g} seconds") from None
    if done.returncode not in accept:
        message = done.stderr.decode(errors="replace").strip()
        raise GitFailed(shown, message or f"exit code {done.returncode}")
    return done.stdout


def _without_login(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return arguments without user and password, and variables with which git gets them."""
    words, variables = [], {}
    for argument in arguments:
        if match := _WEB_LOGIN.match(argument):
            site = f"{match['scheme']}://{match['host']}"
            words.append(argument.replace(match[0], site, 1))
            helper = '!f() { echo "username=$GIT_LOGIN_USER"; echo "password=$GIT_LOGIN_PASSWORD"; }; f'
            variables = {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"credential.{site}.helper",
                "GIT_CONFIG_VALUE_0": helper,
                "GIT_LOGIN_USER": unquote(match["user"]),
                "GIT_LOGIN_PASSWORD": unquote(match["password"]),
            }
        else:
            words.append(argument)
    return words, variables


def text(folder: Path, *arguments: str, stdin: bytes | None = None, timeout: float | None = None) -> str:
    """Run git and return its standard output as stripped text.

    Raises:
        GitFailed: as in :func:`run`.
    """
    return run(folder, *arguments, stdin=stdin, timeout=timeout).decode(errors="replace").strip()


def is_checkout(folder: Path) -> bool:
    """Return whether a folder is in the working tree of a git repository, without calling git."""
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def source(root: Path, *, exclude: Sequence[str] = ()) -> Source | None:
    """Return the commit of a checkout and the patch on top of it; None outside a git repository.

    Args:
        root: the checkout.
        exclude: paths that are left out of the patch.

    Raises:
        GitFailed: there is a repository and git cannot read it: a filter is missing, or another user owns it.
    """
    if not is_checkout(root):
        return None
    return Source(text(root, "rev-parse", "--verify", "HEAD"), patch(root, exclude=exclude))


def patch(root: Path, *, exclude: Sequence[str] = ()) -> bytes:
    """Return the changes since the commit, files that git does not track included.

    Raises:
        GitFailed: git cannot compare them.
    """
    where = ("--", ".", *(f":(exclude){path}" for path in exclude))
    added = [
        run(root, *_DIFF, "--no-index", "/dev/null", name, accept=(0, 1)) for name in untracked(root, where)
    ]
    return b"".join([run(root, *_DIFF, "HEAD", *where), *added])


def untracked(root: Path, where: Sequence[str]) -> list[str]:
    """Return the files below some paths that git neither tracks nor ignores.

    Raises:
        GitFailed: git cannot list them.
    """
    listed = run(root, "ls-files", "--others", "--exclude-standard", "-z", *where)
    return [name for name in listed.decode().split("\0") if name]


def is_unchanged_since(root: Path, commit: str, paths: Sequence[str]) -> bool:
    """Return whether some paths are the same as in a commit.

    Raises:
        GitFailed: git cannot compare them.
    """
    where = ("--", *paths)
    return not run(root, *_DIFF, commit, *where) and not untracked(root, where)


def first_commit_with(root: Path, content: str, path: str) -> str | None:
    """Return the first commit in which a file holds some text; None when no commit does.

    Raises:
        GitFailed: git cannot read the history.
    """
    commits = text(root, "log", f"-S{content}", "--format=%H", "--", path).split()
    return commits[-1] if commits else None


def has_commit(root: Path, commit: str) -> bool:
    """Return whether a commit is in this clone.

    Raises:
        GitFailed: git cannot read the repository.
    """
    text(root, "rev-parse", "--git-dir")  # a repository that cannot be read is not a clone without the commit
    try:
        run(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitFailed:
        return False
    return True


def changed_files(root: Path, left: str, right: str, *, exclude: Sequence[str] = ()) -> dict[str, str]:
    """Return the files that differ between two commits, each with git's status letter: A, D, M or T.

    Raises:
        GitFailed: a commit is not in this clone.
    """
    where = ("--", ".", *(f":(exclude){path}" for path in exclude))
    listed = text(root, "diff", "--name-status", "--no-renames", "--end-of-options", left, right, *where)
    return {name: status for status, _, name in (line.partition("\t") for line in listed.splitlines())}
