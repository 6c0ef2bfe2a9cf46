"""Pages of Data Docs are listed in an order that the file system does not decide."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lenet5.stages.validate import data_docs

pytestmark = pytest.mark.slow  # it needs Great Expectations


def test_the_index_of_data_docs_does_not_depend_on_the_order_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.html", "a.html", "c.html"):
        (tmp_path / name).touch()
    real = os.walk
    orders = []
    for reverse in (False, True):

        def walk(top: str, reverse: bool = reverse) -> Iterator[tuple[str, list[str], list[str]]]:
            for root, folders, names in real(top):
                yield root, folders, sorted(names, reverse=reverse)

        monkeypatch.setattr(os, "walk", walk)
        orders.append(data_docs.SortedFolder(base_directory=str(tmp_path)).list_keys())
    assert orders[0] == orders[1]
    assert {("a.html",), ("b.html",), ("c.html",)} < set(orders[0])
