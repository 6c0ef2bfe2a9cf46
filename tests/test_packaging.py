"""What the wheel holds, and that no folder of a user takes the place of our code."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("src", "pipelines"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "dist"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    [built] = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_the_package_and_no_flow(wheel: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"lenet5"}


def test_the_wheel_holds_every_file_of_the_package(wheel: list[str]) -> None:
    package = REPOSITORY / "src"
    files = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert any(name.endswith(".j2") for name in files)
    assert files <= set(wheel)


def test_a_folder_of_the_user_does_not_shadow_ours(tmp_path: Path) -> None:
    """As a worker starts it: in a folder that holds modules of the same names."""
    for name in ("lenet5", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('shadowed')\n")
    script = "import lenet5.orchestration.checkout_lock as ours; print(ours.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(REPOSITORY / "src")
    assert "python -P -m lenet5.orchestration.workspace" in (REPOSITORY / "prefect.yaml").read_text()
