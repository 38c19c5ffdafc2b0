# SPDX-License-Identifier: Apache-2.0
"""go-httpbin with a certificate: HTTPS at its port, and an answer to who speaks plain text there."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshbox.mesh.certificates import Authority
from tests.conftest import wait_until

RUN = "import sys; from meshbox.images.httpbin.server import main_go; sys.exit(main_go())"
HOST = "bank.test"


def environment(root: Path, port: int) -> dict[str, str]:
    files = {"HTTPS_CERT_FILE": "/tls/tls.crt", "HTTPS_KEY_FILE": "/tls/tls.key"}
    return {**os.environ, **files, "LABKIT_ROOT": str(root), "LABKIT_BIND": "127.0.0.1", "PORT": str(port)}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[int]:
    """The port of a server whose certificate is in its container's /tls."""
    authority = Authority(tmp_path / "public")
    authority.load()
    identity = authority.issue(f"https://{HOST}")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/tls.crt").write_text(identity.chain)
    (tmp_path / "tls/tls.key").write_text(identity.key)
    # A port that is free, and held until the server may have it.
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = int(held.getsockname()[1])
    server = subprocess.Popen([sys.executable, "-c", RUN], env=environment(tmp_path, port))

    def listening() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=120).close()
        except OSError:
            return False
        return True

    try:
        wait_until(listening, what="the server to listen")
        yield port
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()


def test_it_speaks_https_and_says_so_to_others(secured: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", secured, timeout=60, context=context)
    for _ in range(2):
        connection.request("GET", "/status/418")
        answer = connection.getresponse()
        assert answer.status == 418
        answer.read()
    connection.close()
    plain = http.client.HTTPConnection("127.0.0.1", secured, timeout=60)
    plain.request("GET", "/get")
    answer = plain.getresponse()
    assert (answer.status, answer.read()) == (400, b"Client sent an HTTP request to an HTTPS server.\n")
    plain.close()


def test_without_its_certificate_it_does_not_begin(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RUN]
    ended = subprocess.run(words, env=environment(tmp_path, 0), capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "go-httpbin on port 0\n")
    assert "cannot serve HTTPS with /tls/tls.crt and /tls/tls.key" in ended.stderr
