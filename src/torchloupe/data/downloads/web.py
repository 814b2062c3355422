"""Ask a web server for a file, or the rest of one, and judge the answer before a byte of it is used."""

import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from typing import IO, Literal, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from torchloupe.runtime.environment import __version__

WEB_PAGE = {"text/html", "application/xhtml+xml"}


@dataclass(frozen=True)
class Patience:
    """How long a mirror is waited for, in seconds, and below which rate it is left for one not yet tried."""

    connect: float = 10.0
    """Until the headers of the answer are there: name look-up, connection, redirects."""
    silence: float = 20.0
    """Without a single byte."""
    slow_window: float = 10.0
    """Over which the rate is measured."""
    slow_rate: float = 300_000.0
    """In bytes a second; CIFAR-10 takes ten minutes at this rate."""
    pause: float = 1.0
    """Before a mirror that just failed is asked again."""


class MirrorError(Exception):
    """What a mirror did wrong, shortly, and when it may be asked again.

    "fresh": at once, for the whole file, since the bytes that it went on from may have been the bad ones.
    """

    def __init__(self, reason: str, again: Literal["now", "later", "fresh", "never"]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class _Redirects(HTTPRedirectHandler):
    """At most five, between web addresses only, and never from https down to http."""

    max_redirections = 5

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and not new == old == "http":
            fp.close()
            raise MirrorError(f"redirected to an unsafe address ({newurl[:60]})", "never")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, span: str | None, patience: Patience) -> Future[HTTPResponse]:
    """Ask `url` for its bytes, or for the `span` of them ("bytes=100-"), in a thread of its own.

    A socket's timeout bounds neither the name look-up nor a header that trickles in; a thread can simply be left.

    >>> answer(ask("ftp://example.org/a", None, Patience()), 1.0)
    Traceback (most recent call last):
    ...
    torchloupe.data.downloads.web.MirrorError: not an http address
    """
    future: Future[HTTPResponse] = Future()

    def run() -> None:
        try:
            future.set_result(_open(url, span, patience.silence))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="torchloupe-ask").start()
    return future


def answer(future: Future[HTTPResponse], seconds: float) -> HTTPResponse:
    """Wait at most `seconds` for the headers of the answer; the caller closes what is returned.

    Raises:
        MirrorError: none came, or not a file.

    >>> answer(Future(), 0.0)
    Traceback (most recent call last):
    ...
    torchloupe.data.downloads.web.MirrorError: no answer within 0 s
    """
    try:
        return future.result(seconds)
    except TimeoutError:
        abandon(future)
        raise MirrorError(f"no answer within {seconds:g} s", "later") from None
    except MirrorError:
        raise
    except Exception as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise MirrorError(f"no connection ({str(cause)[:80] or type(cause).__name__})", "later") from None
    except BaseException:  # Ctrl-C while waiting
        abandon(future)
        raise


def abandon(future: Future[HTTPResponse]) -> None:
    """Close the answer, if there is or will be one.

    >>> abandon(Future())
    """
    future.add_done_callback(lambda done: None if done.exception() else done.result().close())


def first_byte(response: HTTPResponse, asked: int, expected: int) -> int:
    """Return which byte of the file the answer's body begins with: `asked`, or 0 where the server ignores ranges.

    Raises:
        MirrorError: the answer is not this file of `expected` bytes, or not from there on.

    >>> from types import SimpleNamespace
    >>> headers = HTTPMessage()
    >>> headers["Content-Range"] = "bytes 5-9/10"
    >>> first_byte(SimpleNamespace(status=206, headers=headers), 5, 10)
    5
    """
    if response.headers.get_content_type() in WEB_PAGE:
        raise MirrorError("a web page instead of the file", "never")
    if response.status == 206:
        span = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", span.strip())
        if not found or [int(number) for number in found.groups()] != [asked, expected]:
            raise MirrorError(f"other bytes than asked for ({span[:60] or 'no Content-Range'})", "never")
        return asked
    if response.status != 200:
        raise MirrorError(f"status {response.status}", "never")
    length = response.headers.get("Content-Length", "").strip()
    if length and length != str(expected):
        raise MirrorError(f"{length[:20]} bytes instead of {expected}", "never")
    return 0


def probe(urls: Sequence[str], *, bytes_expected: int, seconds: float, patience: Patience | None = None) -> list[str]:
    """Ask all mirrors at once for one byte, and return them with the first good answer in front; [] if none came.

    Takes at most `seconds`, and ends as soon as one mirror answers well or all have answered badly.

    >>> probe(["ftp://example.org/a"], bytes_expected=3, seconds=1)
    []
    """
    deadline = time.monotonic() + seconds
    asked = {ask(url, "bytes=0-0", patience or Patience()): url for url in dict.fromkeys(urls)}
    waiting = set(asked)
    try:
        while waiting:
            done, waiting = wait(waiting, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
            if not done:
                return []
            for future in done:
                try:
                    first_byte(answer(future, 0.0), 0, bytes_expected)
                except MirrorError:
                    continue
                return sorted(asked.values(), key=lambda url: url != asked[future])
        return []
    finally:
        for future in asked:
            abandon(future)


def _open(url: str, span: str | None, silence: float) -> HTTPResponse:
    if urlsplit(url).scheme not in ("http", "https"):
        raise MirrorError("not an http address", "never")
    headers = {"User-Agent": f"torchloupe/{__version__}", "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = span
    try:
        # Not urlopen: that follows a redirect from https to http. Proxies are taken from the environment.
        response = build_opener(_Redirects).open(Request(url, headers=headers), timeout=silence)
    except HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            raise MirrorError("redirected in a circle, or nowhere", "never") from None
        busy = error.code in (408, 425, 429) or error.code >= 500
        raise MirrorError(f"status {error.code}", "later" if busy else "never") from None
    return cast(HTTPResponse, response)
