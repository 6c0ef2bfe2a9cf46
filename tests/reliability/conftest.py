"""Fixtures: a finished project that a test may harm, and its random numbers."""

import random
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.reliability import harness


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The random numbers of this test. Its output shows the seed."""
    return harness.seeded(request.node.name)


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project."""
    return finished.copy(tmp_path)
