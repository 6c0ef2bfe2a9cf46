"""Fixtures: a project with a champion and a candidate without convolutions, and a browser."""

from collections.abc import Iterator

import pytest

from lenet5.stages import recipes
from tests.conftest import REPOSITORY, Project
from tests.pages.browser import PROGRAM, Browser, started


@pytest.fixture(scope="session")
def rejected(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project whose second version is of the recipe ``mlp``, and what ``lenet5 run`` said about it."""
    project = finished.copy(tmp_path_factory.mktemp("two-versions"))
    overrides = recipes.load(REPOSITORY / "recipes", "mlp").overrides | {"train.epochs": 2}
    project.set_params(**overrides, **{"register.gate.corruption_margin": 0.15})
    done = project.command("lenet5", "run")
    assert done.returncode == 3, done.stdout + done.stderr
    return project, done.stderr


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not PROGRAM:
        pytest.skip("this machine has no Chromium: `apt install chromium`")
    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
