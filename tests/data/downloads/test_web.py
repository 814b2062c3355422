"""Redirects stay safe, and the first mirror with a good answer is found in time."""

import time
from http.client import HTTPMessage
from io import BytesIO
from urllib.request import Request

import pytest

from badserver import BODY, BadServer
from torchloupe.data.downloads.web import MirrorError, Patience, _Redirects, probe

QUICK = Patience(connect=5, silence=0.3, pause=0)


@pytest.mark.parametrize(
    ("old", "new", "followed"),
    [
        ("http://a/f", "http://b/f", True),
        ("http://a/f", "https://b/f", True),
        ("https://a/f", "https://b/f", True),
        ("https://a/f", "http://b/f", False),
        ("https://a/f", "ftp://b/f", False),
    ],
)
def test_a_redirect_never_leads_down_to_http(old: str, new: str, followed: bool) -> None:
    request, headers = Request(old, headers={"Range": "bytes=5-"}), HTTPMessage()
    if followed:
        onward = _Redirects().redirect_request(request, BytesIO(), 302, "Found", headers, new)
        assert onward is not None
        assert onward.get_header("Range") == "bytes=5-"
    else:
        with pytest.raises(MirrorError, match="unsafe address"):
            _Redirects().redirect_request(request, BytesIO(), 302, "Found", headers, new)


def test_probe_takes_the_first_good_answer(server: BadServer) -> None:
    ways = ["html", "silent", "trickling-header", "wrong-total", "missing", "good"]
    urls = [server.url(way) for way in ways]
    began = time.monotonic()
    found = probe(urls, bytes_expected=len(BODY), seconds=2, patience=QUICK)
    assert found == [urls[-1], *urls[:-1]]
    assert time.monotonic() - began < 1


def test_probe_ends_when_all_are_bad_or_the_time_is_up(server: BadServer) -> None:
    began = time.monotonic()
    bad = [server.url("html"), server.url("missing")]
    assert probe(bad, bytes_expected=len(BODY), seconds=5, patience=QUICK) == []
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert probe([server.url("silent")], bytes_expected=len(BODY), seconds=0.1, patience=Patience(silence=0.3)) == []
    assert time.monotonic() - began < 0.25
