"""A real headless Chromium, spoken to over its debugging pipe: no driver, no port, no library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

ANSWER_WITHIN_S = 60
AXE = "axe_playwright_python/axe.min.js"
"""Read out of a package that is not imported: it wants a driver that these tests do without."""
TYPED = {"Enter": "\r", " ": " "}
"""The text of keys that type any."""

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `requests` are the URLs it asked for, `problems` what it threw or was refused."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        target = browser.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = browser.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.requests: list[str] = []
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Load a file and wait until it is loaded."""
        self._send("Page.navigate", {"url": path.as_uri()})
        self._browser.wait("Page.loadEventFired", self)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self._send("Runtime.evaluate", given)
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        given = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._send("Emulation.setDeviceMetricsOverride", given)

    def scheme(self, name: str) -> None:
        self._send("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]})

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            place = "Space" if name == " " else name
            given: dict[str, Any] = {"type": kind, "key": name, "code": place, "windowsVirtualKeyCode": code}
            if name in TYPED and kind == "keyDown":
                given["text"] = TYPED[name]
            self._send("Input.dispatchKeyEvent", given)

    def save_to(self, folder: Path) -> None:
        """Let downloads go into a folder."""
        self._browser.send("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def shoot(self, path: Path, *, whole: bool = False) -> None:
        data = self._send("Page.captureScreenshot", {"captureBeyondViewport": whole})["data"]
        path.write_bytes(base64.b64decode(data))

    def heard(self, event: dict[str, Any]) -> None:
        """Note an event of this tab."""
        if event.get("sessionId") != self._session:
            return
        method, given = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(given)[:500])
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.problems.append(given["entry"]["text"])

    def _send(self, method: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._browser.send(method, given or {}, self._session, self)


class Browser:
    """The process and its pipe: messages are JSON, each ended by a zero byte."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._left = b""
        self._count = 0
        self._missed: list[dict[str, Any]] = []

    def send(
        self, method: str, given: dict[str, Any], session: str | None = None, page: Page | None = None
    ) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": given} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._missed.append(answer)
            if page and "method" in answer:
                page.heard(answer)

    def wait(self, method: str, page: Page) -> None:
        if any(one.get("method") == method for one in self._missed):
            self._missed.clear()
            return
        while True:
            event = self._next()
            page.heard(event)
            if event.get("method") == method:
                self._missed.clear()
                return

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            waiting = not select.select([self._read], [], [], ANSWER_WITHIN_S)[0]
            assert not waiting, f"Chromium has not answered for {ANSWER_WITHIN_S} s"
            block = os.read(self._read, 1 << 20)
            assert block, "Chromium has gone"
            self._left += block
        line, self._left = self._left.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Chromium with a new profile, ended on leaving."""
    program = find_chromium()
    assert program
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    ends = [os.dup(end) for end in (to_read, from_write)]

    def place() -> None:
        # Chromium reads file descriptor 3 and writes to 4.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 100) for end in ends]
        for number, end in zip((3, 4), high, strict=True):
            os.dup2(end, number)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}"],
        close_fds=False,
        preexec_fn=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in ends:
        os.close(end)
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(process, to_write, from_read)
    finally:
        os.close(to_write)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_read)


def serious(page: Page) -> list[tuple[str, str]]:
    """Return the faults that axe-core calls serious or critical, each with the first element that has it."""
    page.run(_axe() + ";0")
    found: list[dict[str, Any]] = page.run("axe.run(document).then((all) => all.violations)")
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def _axe() -> str:
    try:
        return str(distribution("axe-playwright-python").locate_file(AXE).read_text(encoding="utf-8"))
    except PackageNotFoundError:
        pytest.skip("axe-playwright-python is not installed (the Makefile installs it, without what it depends on)")
