"""A loopback server that misbehaves as the first folder of the address says: `/truncates/cifar.tar.gz`."""

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = random.Random(0).randbytes(200_000)
CUT = 70_000
"""Where the truncating ones stop, counted from the first byte they send."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "BadServer"

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        self.server.log.append((way, self.headers.get("Range", "")))
        self.server.counts[way] += 1
        self.close_connection = True
        WAYS[way](self)

    def log_message(self, *_: Any) -> None:
        pass

    def start(self) -> int:
        """Return the first byte asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, *, ranges: bool = True, cut: int | None = None, body: bytes = BODY, pause: float = 0) -> None:
        """Send what was asked for, or the first `cut` bytes of it, in blocks with a pause after each."""
        start = self.start() if ranges else 0
        if start:
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.head(206, Content_Length=len(body) - start, Content_Range=span)
        else:
            self.head(200, Content_Length=len(body))
        sent = body[start:] if cut is None else body[start : start + cut]
        block = 2_000 if pause else len(sent)
        for at in range(0, len(sent), max(1, block)):
            self.wfile.write(sent[at : at + block])
            if pause and self.server.closing.wait(pause):
                break

    def wait(self) -> None:
        self.server.closing.wait(5)


def _first(handler: _Handler, way: Callable[[], None], then: Callable[[], None]) -> None:
    (way if handler.server.counts[handler.path.split("/")[1]] == 1 else then)()


def _stalls(handler: _Handler) -> None:
    handler.body(cut=CUT)
    handler.wait()


def _trickling_header(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"x")


def _no_length(handler: _Handler, body: bytes) -> None:
    handler.head(200)
    handler.wfile.write(body)


def _elsewhere(handler: _Handler, to: str) -> None:
    handler.head(302, Location=to, Content_Length=0)


def _html(handler: _Handler) -> None:
    page = b"<html>log in to this network first</html>"
    handler.head(200, Content_Type="text/html; charset=utf-8", Content_Length=len(page))
    handler.wfile.write(page)


def _wrong_range(handler: _Handler, shift: int, total: int) -> None:
    start = handler.start() + shift
    span = f"bytes {start}-{len(BODY) - 1}/{total}"
    handler.head(206, Content_Length=len(BODY) - start, Content_Range=span)
    handler.wfile.write(BODY[start:])


WRONG = bytes(len(BODY))
WAYS: dict[str, Callable[[_Handler], None]] = {
    "good": lambda handler: handler.body(),
    "ignores-range": lambda handler: handler.body(ranges=False),
    "truncates-once": lambda handler: _first(handler, lambda: handler.body(cut=CUT), handler.body),
    "truncates": lambda handler: handler.body(cut=CUT),
    "truncates-ignores-range": lambda handler: handler.body(cut=CUT, ranges=False),
    "truncates-at-0": lambda handler: handler.body(cut=0),
    "truncates-then-missing": lambda handler: _first(handler, lambda: handler.body(cut=CUT), lambda: handler.head(404)),
    "stalls": _stalls,
    "trickles": lambda handler: handler.body(pause=0.003),
    "trickling-header": _trickling_header,
    "silent": lambda handler: handler.wait(),
    "html": _html,
    "wrong": lambda handler: handler.body(body=WRONG),
    "wrong-truncates": lambda handler: handler.body(body=WRONG, cut=CUT),
    "wrong-range": lambda handler: _wrong_range(handler, 1, len(BODY)),
    "wrong-total": lambda handler: _wrong_range(handler, 0, len(BODY) + 1),
    "missing": lambda handler: handler.head(404, Content_Length=0),
    "busy": lambda handler: handler.head(503, Content_Length=0),
    "longer": lambda handler: handler.body(body=BODY + b"more"),
    "longer-no-length": lambda handler: _no_length(handler, BODY + b"more"),
    "shorter": lambda handler: handler.body(body=BODY[:-1]),
    "shorter-no-length": lambda handler: _no_length(handler, BODY[:-1]),
    "loop": lambda handler: _elsewhere(handler, "/loop/file"),
    "redirects": lambda handler: _elsewhere(handler, "/good/file"),
    "redirects-to-disk": lambda handler: _elsewhere(handler, "file:///etc/hostname"),
    "redirects-to-ftp": lambda handler: _elsewhere(handler, "ftp://127.0.0.1/file"),
}


class BadServer(ThreadingHTTPServer):
    """What came in is in `log`, as (first folder, Range header)."""

    daemon_threads = False  # so that closing waits for them, and no socket is left open

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = threading.Event()
        self.log: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client left: that is what is tested

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{way}/file"

    def base(self, way: str) -> str:
        return self.url(way).removesuffix("/file")


@contextmanager
def serving() -> Iterator[BadServer]:
    """Run the server for a while.

    >>> with serving() as server:
    ...     server.url("good").startswith("http://127.0.0.1:")
    True
    """
    server = BadServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
