"""The commit and the patch of a checkout: they give the tree back, whatever the user's git is set to."""

import subprocess
from pathlib import Path

import pytest

from lenet5.core.paths import Paths
from lenet5.system.git import GitFailed, Source
from lenet5.tracking import source_code

IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, *IDENTITY, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD").strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / "src/code.py").write_text("one = 1\n")
    (root / "dvc.yaml").write_text("stages: {one: {cmd: one, deps: [src], outs: [evaluation.json]}}\n")
    (root / "params.yaml").write_bytes(b"a: 1\r\nb: caf\xe9\r\n")
    commit(root, "First")
    return root


SETTINGS = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "color.ui": "always",
    "diff.external": "echo not a patch #",
    "core.autocrlf": "false",
}


def test_a_patch_gives_the_tree_back_whatever_git_is_set_to(checkout: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(checkout), str(clone))
    for name, value in SETTINGS.items():
        git(checkout, "config", name, value)
    changes = {
        "src/code.py": b"one = 2\n",
        "params.yaml": b"a: 2\r\nb: caf\xe9\r\n",
        "src/new.bin": bytes(range(256)),
        "name with spaces.txt": b"no newline at the end",
    }
    for name, content in changes.items():
        (checkout / name).write_bytes(content)
    (checkout / "dvc.lock").write_text("is kept beside the patch\n")
    code = source_code.find(Paths(checkout))
    assert code
    (tmp_path / "patch").write_bytes(code.patch)
    git(clone, "apply", "--whitespace=nowarn", str(tmp_path / "patch"))
    for name, content in changes.items():
        assert (clone / name).read_bytes() == content
    assert not (clone / "dvc.lock").exists()


def test_an_earlier_commit_is_named_only_while_the_graph_reads_the_same(checkout: Path) -> None:
    result = checkout / "evaluation.json"
    result.write_text("{}")
    (checkout / ".gitignore").write_text("evaluation.json\n")
    (checkout / "dvc.lock").write_text("md5: 99914b932bd37a50b983c5e7c90ae93b\n")  # of {}
    first = commit(checkout, "The lock that names it")
    (checkout / "README.md").write_text("nothing that the graph reads")
    latest = commit(checkout, "Later")
    (checkout / "notes.txt").write_text("not committed, and not read either")
    assert source_code.find(Paths(checkout), result) == Source(first, b"")

    (checkout / "src/new.py").write_text("not committed, and read\n")
    found = source_code.find(Paths(checkout), result)
    assert found
    assert found.commit == latest
    assert b"not committed, and read" in found.patch
    (checkout / "src/new.py").unlink()

    (checkout / "params.yaml").write_text("a: 3\n")
    after = commit(checkout, "Another parameter, the same result")
    found = source_code.find(Paths(checkout), result)
    assert found
    assert found.commit == after


def test_outside_a_repository_there_is_no_code(tmp_path: Path) -> None:
    assert source_code.find(Paths(tmp_path)) is None


def test_a_git_that_fails_is_an_error_and_not_a_clean_tree(checkout: Path) -> None:
    """As where git-lfs is not installed: the filter of a file is missing."""
    (checkout / ".git/info/attributes").write_text("*.py filter=lfs\n")
    git(checkout, "config", "filter.lfs.required", "true")
    git(checkout, "config", "filter.lfs.clean", "git-lfs-that-is-not-there clean -- %f")
    (checkout / "src/code.py").write_text("one = 2\n")
    with pytest.raises(GitFailed, match=r"`git diff .* failed") as failed:
        source_code.find(Paths(checkout))
    assert "git-lfs-that-is-not-there" in str(failed.value)


def test_a_checkout_of_somebody_else_is_an_error(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(GitFailed, match="dubious ownership"):
        source_code.find(Paths(checkout))


def test_a_repository_in_the_environment_is_not_taken_for_this_one(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook, for which git sets GIT_DIR."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, *IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "Another history")
    here = git(checkout, "rev-parse", "HEAD").strip()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    source = source_code.find(Paths(checkout))
    assert source == Source(here, b"")
