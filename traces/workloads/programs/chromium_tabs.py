# SPDX-License-Identifier: GPL-2.0-only
"""A browser without a window opens and closes tabs of several sites.

Usage: chromium_tabs.py BROWSER [FLAG...]. Pages come from a server in this process. Every site has
a host name of its own, so the browser gives each a renderer, which its zygote forks.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

SITES: Final = 4
ROUNDS: Final = 3
PR_SET_CHILD_SUBREAPER: Final = 36

# Sorts rows, makes a table of them, draws on a canvas, then tells the server that it is done.
PAGE: Final = """<!doctype html>
<canvas id=c width=600 height=400></canvas><table id=t></table>
<iframe src="{frame}"></iframe>
<script>
const rows = [];
for (let i = 0; i < 20000; i++) rows.push({{ id: i, text: `row ${{i}} of ${{location.host}}` }});
rows.sort((a, b) => a.text < b.text ? 1 : -1);
document.getElementById('t').innerHTML =
    rows.slice(0, 400).map((r) => `<tr><td>${{r.id}}<td>${{r.text}}`).join('');
const pen = document.getElementById('c').getContext('2d');
for (let i = 0; i < 300; i++) {{
    pen.fillStyle = `hsl(${{i}}, 80%, 50%)`;
    pen.fillRect(i * 7 % 600, i * 13 % 400, 40, 40);
}}
onload = () => fetch('/done');
</script>
"""
FRAME: Final = "<!doctype html><p>A frame of another site.</p>"


class PageServer(ThreadingHTTPServer):
    """Serves all sites; `done` gets an item for each page that has done its work."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()


class Handler(BaseHTTPRequestHandler):
    """Answers with the page, which holds a frame of the next site, or with that frame."""

    server: PageServer

    def do_GET(self) -> None:
        host, port = self.headers["Host"].split(":")
        site = int(host.removeprefix("site").removesuffix(".test"))
        frame = f"http://site{(site + 1) % SITES}.test:{port}/frame"
        text = PAGE.format(frame=frame) if self.path == "/" else FRAME
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(text.encode())
        if self.path == "/done":
            self.server.done.put(None)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says nothing."""


class Browser:
    """The browser, spoken to in its DevTools protocol over descriptors 3 and 4."""

    def __init__(self, command: list[str]) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # The shell in between puts the pipes where the browser looks for them.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", script, "browser", *command], pass_fds=(to_browser, from_browser)
        )
        os.close(to_browser)
        os.close(from_browser)
        self._ids = itertools.count(1)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            if not part:
                raise SystemExit(f"the browser ended early, with {self.process.wait()}")
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """The result of a method; events that come before it are kept."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self._events.append(answer)
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, method: str, target: str) -> None:
        """Wait for an event about this target."""
        while True:
            event = self._events.pop(0) if self._events else self._read()
            if event["method"] == method and event["params"]["targetId"] == target:
                return


def main() -> None:
    """Open and close all tabs, and leave when the last process of the browser has ended."""
    # Its helpers may outlive the browser: they become children of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    server = PageServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()

    browser = Browser([*sys.argv[1:], "--remote-debugging-pipe", "about:blank"])
    browser.call("Target.setDiscoverTargets", discover=True)
    for _ in range(ROUNDS):
        tabs = []
        for site in range(SITES):
            url = f"http://site{site}.test:{server.server_port}/"
            tabs.append(browser.call("Target.createTarget", url=url)["targetId"])
            server.done.get()
        for tab in tabs:
            browser.call("Target.closeTarget", targetId=tab)
            browser.wait_for("Target.targetDestroyed", tab)
    browser.call("Browser.close")
    status = browser.process.wait()
    server.shutdown()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    raise SystemExit(status)


if __name__ == "__main__":
    main()
