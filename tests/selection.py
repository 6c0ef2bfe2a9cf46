"""Which tests a run takes, and in which order.

``--fast`` is for ``make test-fast``. TensorFlow, Keras and Great Expectations cannot be imported in such a
run: a file that needs one of them is skipped, and a test that imports one nevertheless fails. Tests that are
marked ``slow`` are left out, and so are those that need a project, a tracking store or a server.
"""

import gc
import importlib
import itertools
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

HIDDEN = ("tensorflow", "keras", "great_expectations")
"""Packages that take seconds to import in each process, and whose tests take seconds, too."""
SLOW_FIXTURES = {"finished", "project", "empty_database", "examine", "origin", "repository"}
"""A test that needs one of these is slow, directly or through another fixture."""
SERVER_FIXTURES = {"postgres", "serve", "mlflow_server", "prefect_server"}
"""A test that needs one of these is an integration test, directly or through another fixture."""
ONE_PROCESS = {"promoters"}
"""Tests that need one of these run in one process: the fixture starts a server that imports MLflow."""
COLLECTED = pytest.StashKey[int]()
"""The position of a test that must keep its order, among all that must."""
_NUMBERS = itertools.count()
LEFT_OUT = {"slow", "long", "integration", "stack"}
"""Markers of the tests that ``--fast`` leaves out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast",
        action="store_true",
        help="hide TensorFlow and Great Expectations, skip the files that need them, and leave out the tests "
        "that are marked " + ", ".join(sorted(LEFT_OUT)),
    )


def pytest_configure(config: pytest.Config) -> None:
    # a process imports a million objects; to look for garbage among them takes a fifth of that time
    gc.disable()
    if config.getoption("fast"):
        _require_hidden("before the first test")
        for name in HIDDEN:
            sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("fast"):
        _require_hidden("during the tests")


def _require_hidden(when: str) -> None:
    if imported := [name for name in HIDDEN if sys.modules.get(name) is not None]:
        raise RuntimeError(
            f"A fast run imported {imported[0]} {when}.\n  expected: `make test-fast` does without it\n"
            "  fix:      import it where it is needed, or mark the test `slow`"
        )


class _FastModule(pytest.Module):
    """A file of tests, which is skipped where it needs a package that is hidden."""

    def collect(self) -> Generator[pytest.Item | pytest.Collector]:
        name = ".".join(self.path.relative_to(self.config.rootpath).with_suffix("").parts)
        try:
            importlib.import_module(name)  # otherwise pytest describes each failure: a second for all files
        except ImportError as error:
            if (error.name or "").partition(".")[0] in HIDDEN:
                pytest.skip(f"needs {error.name}", allow_module_level=True)
        yield from super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if not parent.config.getoption("fast"):
        return None
    return _FastModule.from_parent(parent, path=module_path)


def pytest_itemcollected(item: pytest.Item) -> None:
    fixtures = set(_fixtures(item))
    if SLOW_FIXTURES & fixtures:
        item.add_marker("slow")
    if SERVER_FIXTURES & fixtures:
        item.add_marker("integration")
        if not (item.get_closest_marker("xdist_group") or item.get_closest_marker("stack")):
            item.add_marker(pytest.mark.xdist_group("servers"))  # one process, so one server of each kind
    for name in ONE_PROCESS & fixtures:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(name))
    if item.get_closest_marker("stack"):
        item.add_marker(pytest.mark.xdist_group(item.path.stem))  # each file has services of its own
        item.stash[COLLECTED] = next(_NUMBERS)


@pytest.hookimpl(trylast=True)  # after the order of pytest-randomly
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest work first, and what needs ``finished`` last, as it is built meanwhile.

    A process takes a group of tests as one piece. One that starts near the end keeps the others waiting, so
    groups come before single tests. The tests of the stack keep their order.
    """
    if config.getoption("fast"):
        left_out = {item for item in items if LEFT_OUT & {mark.name for mark in item.iter_markers()}}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    waiting = {_group(item) for item in items if "finished" in _fixtures(item)}
    items.sort(
        key=lambda item: (
            item.get_closest_marker("stack") is None,
            _group(item) in waiting,
            not _is_grouped(item),
        )
    )
    in_order = iter(sorted((item for item in items if COLLECTED in item.stash), key=_collected))
    items[:] = [next(in_order) if COLLECTED in item.stash else item for item in items]


def _group(item: pytest.Item) -> str:
    """Return what pytest-xdist gives to one process: the name of a group, or of a test that has none."""
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else item.nodeid


def _is_grouped(item: pytest.Item) -> bool:
    return item.get_closest_marker("xdist_group") is not None


def _collected(item: pytest.Item) -> int:
    return item.stash[COLLECTED]


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Collect garbage again, and require that pytest-xdist sees the groups.

    Without this check, it would spread the tests of one group without a word.
    """
    gc.collect()
    gc.freeze()  # what was imported stays
    gc.enable()
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise RuntimeError(
                f"pytest-xdist does not see the group of {item.nodeid}.\n"
                "  expected: versions of pytest and pytest-xdist that work together\n"
                "  fix:      install those of requirements-dev.lock"
            )
