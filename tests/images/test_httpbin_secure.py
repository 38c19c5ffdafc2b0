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

from meshbox.blocks import claim
from meshbox.mesh.certificates import Authority
from tests.conftest import PATIENCE, wait_until

RUN = "import sys; from meshbox.images.httpbin.server import main_go; sys.exit(main_go())"
HOST = "bank.test"


PORT = 8443


def environment(root: Path, address: str = "127.0.0.1", port: int = 0) -> dict[str, str]:
    files = {"HTTPS_CERT_FILE": "/tls/tls.crt", "HTTPS_KEY_FILE": "/tls/tls.key"}
    return {**os.environ, **files, "LABKIT_ROOT": str(root), "LABKIT_BIND": address, "PORT": str(port)}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate is in its container's /tls."""
    authority = Authority(tmp_path / "public")
    authority.load()
    identity = authority.issue(f"https://{HOST}")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/tls.crt").write_text(identity.chain)
    (tmp_path / "tls/tls.key").write_text(identity.key)
    # At an address of its own: a port that is free now may be another's by the time that the server asks for it.
    (tmp_path / "addresses").mkdir()
    plan, lock = claim(tmp_path / "addresses")
    address = str(plan.pod_cidr[1])

    def listening() -> bool:
        try:
            socket.create_connection((address, PORT), timeout=120).close()
        except OSError:
            return False
        return True

    with lock:
        server = subprocess.Popen([sys.executable, "-c", RUN], env=environment(tmp_path, address, PORT))
        try:
            wait_until(listening, what="the server to listen")
            yield address
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=PATIENCE) == 0
        finally:
            server.kill()
            server.wait()


def test_it_speaks_https_and_says_so_to_others(secured: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(secured, PORT, timeout=PATIENCE, context=context)
    for _ in range(2):
        connection.request("GET", "/status/418")
        answer = connection.getresponse()
        assert answer.status == 418
        answer.read()
    connection.close()
    plain = http.client.HTTPConnection(secured, PORT, timeout=PATIENCE)
    plain.request("GET", "/get")
    answer = plain.getresponse()
    assert (answer.status, answer.read()) == (400, b"Client sent an HTTP request to an HTTPS server.\n")
    plain.close()


def test_without_its_certificate_it_does_not_begin(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RUN]
    ended = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout) == (1, "go-httpbin on port 0\n")
    assert "cannot serve HTTPS with /tls/tls.crt and /tls/tls.key" in ended.stderr
