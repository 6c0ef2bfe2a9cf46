"""What people say about answers: one JSON line for each label, joined with the inference log by request id.

A line is written with one call to the operating system, so worker processes can share a file. After a line
that a crash or a full disk tore, the next label begins a new line. A label that is sent again does not count
twice: the last one of an image holds.
"""

import errno
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lenet5.core import files

if TYPE_CHECKING:
    import pandas as pd


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
        line = f"{json.dumps(entry)}\n".encode()
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(folder: Path, on_torn: Callable[[Path, int], None] = lambda _, __: None) -> "pd.DataFrame":
    """Return the last label of each image, with the columns ``request_id``, ``row``, ``label`` and ``time``.

    Args:
        folder: of the labels.
        on_torn: called with the file and the number of each line that is torn or no label; it is left out.
    """
    import pandas as pd  # takes 50 MB, which the service itself does not need

    entries = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = files.read_bytes(path).decode(errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            entry = _parse(line)
            if entry is None:
                on_torn(path, number)
            else:
                entries.append(entry)
    frame = pd.DataFrame(entries, columns=["request_id", "row", "label", "time"])
    frame = frame.astype({"request_id": str, "row": "int64", "label": str})
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return frame.drop_duplicates(["request_id", "row"], keep="last", ignore_index=True)


def _parse(line: str) -> dict[str, object] | None:
    """Return the entry of a line; None if it is torn, or no label."""
    try:
        entry = json.loads(line)
        moment = datetime.fromisoformat(entry["time"])
        entry["time"] = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        entry["request_id"].encode(), entry["label"].encode()  # an escaped surrogate is no text
        return entry if type(entry["row"]) is int and 0 <= entry["row"] < 2**31 else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
