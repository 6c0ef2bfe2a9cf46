"""What people say about answers: one JSON line for each label, joined with the inference log by request id.

A line is written with one call to the operating system, so worker processes can share a file, and a line that
a crash tore is the last one of its file. A label that is sent again does not count twice: the last one of an
image holds.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from lenet5.core import files


class FeedbackLog:
    """Appends labels to one file for each day."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def append(self, request_id: str, row: int, label: str) -> None:
        """Write a label to the disk.

        Raises:
            OSError: the disk is full or broken.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        entry = {"request_id": request_id, "row": row, "label": label, "time": now.isoformat()}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{now:%Y-%m-%d}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, f"{json.dumps(entry)}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(folder: Path) -> pd.DataFrame:
    """Return the last label of each image, with the columns ``request_id``, ``row``, ``label`` and ``time``.

    A torn line is left out.
    """
    entries = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in files.read_bytes(path).decode(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    frame = pd.DataFrame(entries, columns=["request_id", "row", "label", "time"]).dropna()
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame.drop_duplicates(["request_id", "row"], keep="last", ignore_index=True)
