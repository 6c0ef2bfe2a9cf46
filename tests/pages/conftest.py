"""Fixtures: a project with a champion and a candidate without convolutions, and a browser."""

from collections.abc import Iterator

import pytest

from lenet5.stages import recipes
from tests.conftest import REPOSITORY, Project
from tools import browser as chromium
from tools.browser import Page


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
def browser() -> Iterator[Page]:
    if not chromium.executable():
        pytest.skip("this machine has no Chromium: `apt install chromium`")
    with chromium.fresh() as page:
        yield page
