"""Mapped content reads like bytes and leaves no file."""

from pathlib import Path

import numpy as np
import pytest

from lenet5.stages.ingest.memory_map import memory_mapped


@pytest.mark.parametrize("chunks", [[], [b""], [b"Le", b"", b"Net-5"]])
def test_mapped_content_equals_the_chunks(tmp_path: Path, chunks: list[bytes]) -> None:
    content, whole = memory_mapped(iter(chunks), tmp_path), b"".join(chunks)
    assert (len(content), content[:2], content[2:3], bytes(content)) == (
        len(whole), whole[:2], whole[2:3], whole,
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_array_keeps_the_mapped_content_alive(tmp_path: Path) -> None:
    array = np.frombuffer(memory_mapped([b"\1\2", b"\3"], tmp_path), np.uint8)
    assert array.tolist() == [1, 2, 3]
    assert not array.flags.writeable
