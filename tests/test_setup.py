"""When ``make`` sets the folder up, and what it installs then.

``make --dry-run`` prints the commands; the tests install nothing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

CREATE = "-m venv --clear .venv"
PIPELINE = "requirements.lock --quiet"
DEVELOPMENT = "requirements-dev.lock --quiet"
TARGETS = re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
OTHERS = {"check", "audit", "bench", "lock"}
NEED_DEVELOPMENT = [name for name in TARGETS if name.startswith("test") or name in OTHERS]


def commands(folder: Path, target: str) -> str:
    """The commands that ``make TARGET`` would run."""
    # under `make test`, these variables would change what this `make` prints
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}
    }
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that set-up reads; nothing is set up."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    return folder


@pytest.fixture
def ready(checkout: Path) -> Path:
    """A folder that ``make pipeline`` has set up."""
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    (checkout / ".venv/installed").write_text(f"{checkout}\n")
    return checkout


@pytest.mark.parametrize("target", ["pipeline", "ui", "setup"])
def test_the_main_job_installs_only_what_it_needs(checkout: Path, target: str) -> None:
    told = commands(checkout, target)
    assert CREATE in told
    assert PIPELINE in told
    assert DEVELOPMENT not in told


@pytest.mark.parametrize("target", NEED_DEVELOPMENT)
def test_tests_and_checks_add_the_rest(ready: Path, target: str) -> None:
    told = commands(ready, target)
    assert CREATE not in told
    assert DEVELOPMENT in told
    (ready / ".venv/installed-dev").touch()
    assert DEVELOPMENT not in commands(ready, target)


def test_a_folder_that_is_set_up_is_used_as_it_is(ready: Path) -> None:
    assert commands(ready, "pipeline").splitlines() == [".venv/bin/lenet5 run"]


@pytest.mark.parametrize("lock", ["requirements.lock", "pyproject.toml"])
def test_other_packages_are_installed_anew(ready: Path, lock: str) -> None:
    later = (ready / ".venv/installed").stat().st_mtime + 10
    os.utime(ready / lock, (later, later))
    assert CREATE in commands(ready, "pipeline")


def test_a_folder_that_was_moved_is_set_up_again(ready: Path) -> None:
    (ready / ".venv/installed-dev").touch()
    moved = ready.rename(ready.parent / "moved here")
    assert CREATE in commands(moved, "pipeline")
    told = commands(moved, "test")
    assert CREATE in told
    assert DEVELOPMENT in told


def test_a_python_that_is_gone_is_replaced(ready: Path) -> None:
    (ready / ".venv/bin/python").unlink()
    (ready / ".venv/bin/python").symlink_to(ready / "uninstalled/python3")
    assert CREATE in commands(ready, "pipeline")
