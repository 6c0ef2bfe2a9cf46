"""Drive a headless Chromium with a fresh profile, through the Chrome DevTools Protocol."""

import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect
from websockets.sync.connection import Connection

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_TIMEOUT_SECONDS = 60
_POLL_SECONDS = 0.2


def executable() -> str | None:
    """Return the path of Chromium or Chrome; None when this machine has neither."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser."""

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        """What the browser told, once :meth:`watch` was called."""
        self._watched = False
        for domain in ("Page", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result.

        Raises:
            RuntimeError: the browser refuses it.
        """
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, "sessionId": self._session}
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(timeout=120))
            if self._watched and "method" in answer:
                self.events.append(answer)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def watch(self) -> Self:
        """Record from now on which requests the page makes, and what the browser logs."""
        self._watched = True
        for domain in ("Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def resize(self, width: int, height: int, *, dark: bool = False, mobile: bool = False) -> Self:
        """Set the size of the page in CSS pixels, the colour scheme, and whether it is a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        return self

    def open(self, address: str) -> Self:
        """Open an address in this page, without the state of the page before."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)
        return self

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression as JSON has it.

        Raises:
            RuntimeError: the expression raises an exception.
        """
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if details := answer.get("exceptionDetails"):
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def text(self) -> str:
        """Return the visible text of the page."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, *patterns: str, seconds: float = 90) -> Self:
        """Wait until the visible text has a match of every pattern (a regular expression).

        Raises:
            TimeoutError: one did not appear; the message holds the text of the page.
        """
        deadline = time.monotonic() + seconds
        while True:
            text = self.text()
            missing = [pattern for pattern in patterns if not re.search(pattern, text)]
            if not missing:
                return self
            if time.monotonic() > deadline:
                raise TimeoutError(f"not on the page: {missing}\n{text[:2000]}")
            time.sleep(_POLL_SECONDS)

    def click(self, text: str) -> Self:
        """Click the smallest visible element with exactly this text.

        Raises:
            RuntimeError: there is none.
        """
        found = self.evaluate(
            f"""(() => {{
                const wanted = {json.dumps(text)};
                const all = [...document.querySelectorAll("*")].filter(
                    (each) => each.innerText && each.innerText.trim() === wanted && each.offsetParent);
                const last = all.at(-1);
                if (!last) return null;
                last.scrollIntoView({{block: "nearest"}});
                const box = last.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        if found is None:
            raise RuntimeError(f"there is no element with the text {text!r}:\n{self.text()[:2000]}")
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1
            )
        return self

    def drag(self, points: Sequence[tuple[float, float]]) -> Self:
        """Press the left button of the mouse at the first point, move it over the others, and release it.

        Args:
            points: x and y in CSS pixels of the window.
        """
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        return self

    def settle(self, seconds: float = 1.5, limit: float = 30) -> Self:
        """Wait until the picture of the page stays the same for a while, so that no animation is cut."""
        deadline = time.monotonic() + limit
        before = b""
        while (now := self.picture()) != before and time.monotonic() < deadline:
            before = now
            time.sleep(seconds)
        return self

    def picture(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def save(self, path: Path) -> None:
        """Write the page as a PNG."""
        path.write_bytes(self.picture())


@contextmanager
def fresh() -> Iterator[Page]:
    """Open a browser with an empty profile, and close it at the end of the block.

    Raises:
        FileNotFoundError: this machine has no browser.
        TimeoutError: the browser does not start.
    """
    program = executable()
    if program is None:
        raise FileNotFoundError(f"no browser: install one of {', '.join(_NAMES)}")
    with tempfile.TemporaryDirectory(prefix="lenet5-browser-", ignore_cleanup_errors=True) as profile:
        options = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}", "--lang=en-US", "about:blank"),
        ]
        process = subprocess.Popen(
            [program, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TZ": "UTC"},
            start_new_session=True,
        )
        try:
            with connect(_address(Path(profile), process), max_size=None, proxy=None) as connection:
                yield _page(connection)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """Return the address of the browser's protocol, which it writes into its profile when it is ready."""
    file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists() and len(lines := file.read_text().splitlines()) == 2:
            port, path = lines
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(_POLL_SECONDS)
    raise TimeoutError("the browser did not start")


def _page(connection: Connection) -> Page:
    """Attach to a new page of the browser."""

    def call(number: int, method: str, **params: Any) -> dict[str, Any]:
        connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(connection.recv(timeout=_START_TIMEOUT_SECONDS))).get("id") != number:
            pass
        return dict(answer["result"])

    target = call(-1, "Target.createTarget", url="about:blank")["targetId"]
    return Page(connection, call(-2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
