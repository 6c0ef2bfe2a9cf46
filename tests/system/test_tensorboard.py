"""TensorBoard serves local files, and its process does not load TensorFlow."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from lenet5.system import tensorboard
from tests.conftest import free_port, until

WRITE = """
import sys
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter(sys.argv[1])
for step in (1, 2):
    value = Summary.Value(tag="epoch_loss", simple_value=1 / step)
    writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[value])))
writer.close()
"""


@pytest.mark.integration
def test_curves_are_served_without_tensorflow(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / "training")], check=True)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", tensorboard.__name__, "--logdir", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:

        def curve() -> list[list[float]]:
            with suppress(requests.RequestException, ValueError):
                query = {"run": "training", "tag": "epoch_loss"}
                return list(requests.get(f"{address}/data/plugin/scalars/scalars", query, timeout=60).json())
            return []

        try:
            until(curve, 240, "the curve of the training")
            assert [(step, value) for _, step, value in curve()] == [(1, 1.0), (2, 0.5)]
            loaded = [each.path for each in psutil.Process(server.pid).memory_maps()]
            assert not [path for path in loaded if "tensorflow" in path]
        finally:
            server.terminate()
