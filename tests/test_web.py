# SPDX-License-Identifier: Apache-2.0
"""The one HTTP server: how it sends files, whom it does not serve, and what a relay says of an error."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit.ground import peers, web
from labkit.ui.embed_relay import Relay


@contextmanager
def serving(app: web.App) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of `app`."""
    (served,) = web.listen({0: app}, "127.0.0.1")
    connection = http.client.HTTPConnection("127.0.0.1", int(served.server_address[1]), timeout=120)
    try:
        yield connection
    finally:
        connection.close()
        served.server_close()


def test_a_file_is_sent_whole_and_the_connection_stays(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "library.js").write_bytes(content)
    with serving(lambda _: web.Response(200, tmp_path / "library.js", content_type="text/javascript")) as connection:
        for method, wanted in (("GET", content), ("HEAD", b""), ("GET", content)):
            connection.request(method, "/")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Content-Length")) == (200, str(len(content)))
            assert answer.read() == wanted
            assert not answer.will_close


def test_who_is_somebody_else_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Relay(lambda: "http://127.0.0.1:1")
    monkeypatch.setattr(peers, "ours", lambda _: False)
    try:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=120) as connection:
            assert connection.recv(1000) == b""
    finally:
        relay.close()


def test_an_error_that_nobody_foresaw_is_told_in_the_page_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    def upstream() -> str:
        raise RuntimeError("no way")

    relay = Relay(upstream)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=120)
        connection.request("GET", f"{relay.path}/")
        answer = connection.getresponse()
        assert answer.status == 500
        assert "could not be handed on: RuntimeError: no way." in answer.read().decode()
        connection.request("BREW", f"{relay.path}/")
        assert connection.getresponse().status == 501
        connection.close()
    finally:
        relay.close()
    assert capfd.readouterr() == ("", "")
