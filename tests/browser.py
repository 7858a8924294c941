"""Headless Chromium for the tests, driven over the pipe of its DevTools protocol.

Chromium speaks the protocol over file descriptors 3 and 4, so no driver, no port and no package
is needed. Tests say `from browser import Browser, find_chromium`.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_SECONDS = 60.0
# The sandbox cannot start as root, as most containers run; the pages are our own.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-extensions --disable-background-networking --remote-debugging-pipe"
)


def find_chromium() -> str:
    """Path of the browser, "" if there is none; `CHROMIUM` names another."""
    found = (shutil.which(name) for name in (os.environ.get("CHROMIUM", ""), *NAMES) if name)
    return next(filter(None, found), "")


class Browser:
    """One page of a headless Chromium.

    Attributes:
        troubles: what the page logged as an error or threw, policy violations among it.
        requests: addresses that it asked for.
    """

    def __init__(self, path: str) -> None:
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self._profile = mkdtemp(prefix="chromium-")
        self._buffer, self._number, self._session = b"", 0, ""
        reads, writes = os.pipe(), os.pipe()
        self._input, self._output = writes[1], reads[0]
        # bash moves the two ends to the numbers that Chromium expects
        command = f'exec "$@" 3<&{writes[0]} 4>&{reads[1]}'
        arguments = [path, *FLAGS.split(), f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", *arguments],
            pass_fds=(writes[0], reads[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writes[0])
        os.close(reads[1])
        self._attach()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._input)
        os.close(self._output)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file and wait until it has been painted."""
        self.troubles.clear()
        self.requests.clear()
        self.prefer(dark)
        self.resize(width, height)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && performance.timing.loadEventEnd > 0")

    def prefer(self, dark: bool) -> None:
        """The colours that the system asks for."""
        wanted = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[wanted])

    def resize(self, width: int, height: int) -> None:
        """The size of the window in CSS pixels; below 600 it is a telephone with a touch screen."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1}
        self.call("Emulation.setDeviceMetricsOverride", **size, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON would say it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until the expression is true."""
        until = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > until:
                raise TimeoutError(expression)
            time.sleep(0.02)

    def place(self, selector: str, number: int = 0) -> tuple[float, float]:
        """The middle of an element's first line, scrolled into view."""
        return tuple(
            self.value(
                f"(() => {{ const node = document.querySelectorAll({json.dumps(selector)})"
                f"[{number}]; node.scrollIntoView({{ block: 'center', behavior: 'instant' }});"
                "const box = node.getClientRects()[0];"
                "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
            )
        )

    def point(self, selector: str, number: int = 0) -> None:
        """Move the mouse over an element."""
        x, y = self.place(selector, number)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str, number: int = 0) -> None:
        """Press the mouse on an element."""
        x, y = self.place(selector, number)
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", **event)

    def tap(self, selector: str, number: int = 0) -> None:
        """Touch an element with a finger."""
        x, y = self.place(selector, number)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str) -> None:
        """Press a key that writes nothing, for example ArrowRight."""
        code = {"Tab": 9, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code[key]}
            self.call("Input.dispatchKeyEvent", **event)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its answer; events on the way are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._input, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                break
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _attach(self) -> None:
        until = time.monotonic() + TIMEOUT_SECONDS
        pages: list[Mapping[str, Any]] = []
        while not pages:
            if time.monotonic() > until:
                raise TimeoutError("Chromium opens no page")
            time.sleep(0.02)
            targets = self.call("Target.getTargets")["targetInfos"]
            pages = [target for target in targets if target["type"] == "page"]
        page = pages[0]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _note(self, event: Mapping[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(params["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.troubles.append(params["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._output], [], [], TIMEOUT_SECONDS)[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._output, 1 << 16)
            if not data:
                raise RuntimeError("Chromium has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
