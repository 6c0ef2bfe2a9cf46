"""A headless Chromium that opens pages and checks them with axe-core.

It speaks the Chrome DevTools Protocol through a pipe: https://chromedevtools.github.io/devtools-protocol.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser of this machine; None when it has none."""
PHONE, DESKTOP = 390, 1280
"""Widths in CSS pixels."""


@dataclass(frozen=True)
class Finding:
    """A rule of axe-core that a page breaks."""

    rule: str
    impact: str
    """``minor``, ``moderate``, ``serious`` or ``critical``."""
    places: tuple[str, ...]
    """What breaks it: the elements and why, at most three."""


class Browser:
    """A browser with one tab."""

    def __init__(self, requests: BinaryIO, answers: BufferedReader) -> None:
        self._requests, self._answers = requests, answers
        self._number, self._unread = 0, b""
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open a page from a file, as a reader with this width and this colour scheme sees it."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=page.absolute().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, or of its promise, in the open page."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def findings(self) -> list[Finding]:
        """Return what axe-core finds in the open page, with all its details unfolded."""
        self.value("for (const each of document.querySelectorAll('details')) each.open = true")
        self.value(f"{AXE}; undefined")
        found = self.value("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)")
        return [
            Finding(
                each["id"],
                each["impact"],
                tuple(f"{node['html'][:200]}: {node['failureSummary']}" for node in each["nodes"][:3]),
            )
            for each in found
        ]

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        self._requests.write(json.dumps(request).encode() + b"\0")
        self._requests.flush()
        while (message := self._read()).get("id") != self._number:
            pass
        assert "error" not in message, (method, message["error"])
        return dict(message["result"])

    def _read(self) -> dict[str, Any]:
        """Return the next message: an answer, or an event."""
        while b"\0" not in self._unread:
            part = self._answers.read1()
            assert part, "the browser ended"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """Start a browser whose profile is in this folder; it ends with the block."""
    assert PROGRAM
    for_browser, requests = os.pipe()
    answers, from_browser = os.pipe()
    words = [
        *(PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder}"),
    ]
    with (
        os.fdopen(requests, "wb") as writer,
        os.fdopen(answers, "rb") as reader,
        subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{for_browser} 4>&{from_browser}', "bash", *words],
            pass_fds=(for_browser, from_browser),
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        os.close(for_browser)
        os.close(from_browser)
        try:
            yield Browser(writer, reader)
        finally:
            process.terminate()
