"""A worker's checkout: the commit that was asked for with the patch that was sent, or a clear no."""

from pathlib import Path

import pytest
from dvc.repo import Repo

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.orchestration import checkout_lock, workspace
from lenet5.orchestration.workspace import Code
from lenet5.system import git
from lenet5.system.state import LocalState
from lenet5.tracking import source_code
from tests.conftest import Arrays, Project, clone, make_project

IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, digits: Arrays) -> Project:
    """A repository with two branches and a tag. The tests share it: read it, or change a clone."""
    project = make_project(tmp_path_factory.mktemp("origin"), digits)
    project.git("branch", "other")
    project.git("tag", "v1")
    return project


@pytest.fixture
def home(origin: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The machine of a worker: a folder, and two addresses."""
    monkeypatch.setenv("LENET5_GIT_URL", str(origin.root))
    monkeypatch.setenv("LENET5_DVC_REMOTE", str(tmp_path / "remote"))
    return Paths(tmp_path / "machine")


def head(paths: Paths) -> str:
    return Project(paths.root, paths.root).git("rev-parse", "HEAD").strip()


@pytest.mark.parametrize("ref", [None, "main", "other", "v1", "commit"])
def test_a_ref_is_a_branch_a_tag_a_commit_or_the_default(
    origin: Project, home: Paths, ref: str | None
) -> None:
    commit = origin.git("rev-parse", "HEAD").strip()
    made = workspace.make(home, Code(ref=commit if ref == "commit" else ref), "one")
    assert head(made) == commit
    assert made.root == LocalState(home.root).workspaces / "one"
    assert LocalState(made.root).folder == LocalState(home.root).folder, (
        "checkpoints and caches are the machine's"
    )
    with Repo(str(made.root)) as repo:
        assert str(repo.cache.local_cache_dir) == str(LocalState(home.root).folder / "cache")
        assert repo.config["remote"]["storage"]["url"].endswith("/remote")
        assert repo.config["remote"]["storage"]["verify"], "a damaged object is refused here, too"
    assert git.patch(made.root) == b""


def test_what_is_pushed_later_is_found(
    origin: Project, home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = clone(origin, tmp_path / "own")  # the other tests share `origin`
    monkeypatch.setenv("LENET5_GIT_URL", str(own.root))
    workspace.make(home, Code(), "one")
    own.git(*IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "Later")
    commit = own.git("rev-parse", "HEAD").strip()
    assert head(workspace.make(home, Code(), "two")) == commit
    assert head(workspace.make(home, Code(ref=commit), "one")) == commit, "made anew"


def test_a_patch_and_a_lock_make_the_very_tree_that_sent_them(
    origin: Project, home: Paths, tmp_path: Path
) -> None:
    laptop = clone(origin, tmp_path / "laptop")
    laptop.set_params(**{"train.seed": 7})
    (laptop.root / "notes.bin").write_bytes(bytes(range(256)))
    (laptop.root / "src/lenet5/serving/predictor.py").unlink()
    laptop.paths.lock.write_text("schema: '2.0'\nstages: {}\n")
    code = source_code.find(laptop.paths)
    assert code is not None
    sent = Code(ref=code.commit, patch=workspace.pack(code.patch), lock=laptop.paths.lock.read_text())
    made = workspace.make(home, sent, "one")
    assert made.params.read_bytes() == laptop.paths.params.read_bytes()
    assert (made.root / "notes.bin").read_bytes() == bytes(range(256))
    assert not (made.root / "src/lenet5/serving/predictor.py").exists()
    assert made.lock.read_text() == laptop.paths.lock.read_text()
    assert source_code.find(made) == code


@pytest.mark.parametrize("ref", ["nowhere", "f" * 40, "--upload-pack=touch"])
def test_what_the_repository_does_not_have_is_an_error(home: Paths, ref: str) -> None:
    with pytest.raises(UsageError, match="The repository has no ") as refused:
        workspace.make(home, Code(ref=ref), "one")
    assert "git push" in str(refused.value)
    assert not (LocalState(home.root).workspaces / "one").exists()


def test_a_patch_that_does_not_apply_is_an_error(home: Paths) -> None:
    patch = b"--- a/params.yaml\n+++ b/params.yaml\n@@ -1 +1 @@\n-not there\n+anything\n"
    with pytest.raises(UsageError, match=r"`git apply .* failed"):
        workspace.make(home, Code(patch=workspace.pack(patch)), "one")


def test_other_packages_than_the_commit_pins_are_an_error(
    origin: Project, home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = clone(origin, tmp_path / "other")
    lock = other.paths.requirements
    lock.write_text(lock.read_text().replace("\nnumpy==", "\nnumpy==0."))
    other.git(*IDENTITY, "commit", "--quiet", "--all", "--message", "Another NumPy")
    monkeypatch.setenv("LENET5_GIT_URL", str(other.root))
    with pytest.raises(UsageError, match="other packages than the commit pins") as refused:
        workspace.make(home, Code(), "one")
    assert "numpy 0." in str(refused.value)


def test_a_repository_that_does_not_answer_is_told_without_its_password(
    home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENET5_GIT_URL", "http://me:hidden@127.0.0.1:9/digits.git")
    with pytest.raises(Unavailable, match="The repository does not answer") as refused:
        workspace.make(home, Code(), "one")
    assert "hidden" not in str(refused.value)


def test_a_machine_without_addresses_is_told(home: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LENET5_GIT_URL")
    with pytest.raises(UsageError, match="where code and data are"):
        workspace.make(home, Code(), "one")


def test_a_workspace_in_which_somebody_works_is_not_free(home: Paths) -> None:
    made = workspace.make(home, Code(), "one")
    assert checkout_lock.is_free(made)
    with checkout_lock.hold(made):
        assert not checkout_lock.is_free(made)
        with pytest.raises(Unavailable, match="Another flow run is at work"):
            checkout_lock.hold(made)
    assert checkout_lock.is_free(made)


def test_remove_deletes_a_workspace_and_no_other_checkout(
    origin: Project, home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workspace.make(home, Code(), "one")
    monkeypatch.chdir(made.root)
    workspace.remove(made)
    assert not made.root.exists()
    workspace.remove(origin.paths)
    assert origin.paths.graph.exists()
