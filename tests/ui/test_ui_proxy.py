"""Where jupyter-server-proxy leads, once labkit has said where it may; and that kernels are spoken to in secret."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, wait_until


class Page(BaseHTTPRequestHandler):
    """A server that somebody else runs on a loopback address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def jupyter(home: Path) -> Iterator[str]:
    """A Jupyter server with our extension, told on its command line to let more through."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home}"]
    command += [f"--ServerProxy.host_allowlist={host}" for host in ("127.0.0.2", "0.0.0.0", "127.1", "10.0.0.1")]
    folders = {"JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTER_CONFIG_PATH": str(home / "etc" / "jupyter")}
    environment = {**os.environ, "HOME": str(home), **folders}
    shutil.copytree(REPOSITORY / "labkit" / "ui" / "jupyter" / "etc", home / "etc")
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: status(f"{url}/api") == 200, 90, "Jupyter to answer")
        yield url
    finally:
        server.terminate()
        server.wait(120)


@pytest.fixture(params=["127.0.0.1", "127.0.0.2"])
def somebody(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer((request.param, 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield request.param, int(server.server_address[1])
        server.shutdown()
        thread.join()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_the_proxy_leads_to_the_labs_own_address_only(jupyter: str, somebody: tuple[str, int]) -> None:
    host, port = somebody
    assert status(f"http://{host}:{port}/") == 200
    assert status(f"{jupyter}/proxy/{host}:{port}/") == (200 if host == "127.0.0.1" else 403)
    assert status(f"{jupyter}/proxy/absolute/{host}:{port}/") == (200 if host == "127.0.0.1" else 403)


@pytest.mark.parametrize("host", ["169.254.169.254:80", "10.0.0.1:443", "example.org:80", "0.0.0.0:80", "127.1:80"])
def test_nothing_outside_is_reached(jupyter: str, host: str) -> None:
    assert status(f"{jupyter}/proxy/{host}/") == 403


def test_kernels_are_spoken_to_in_secret(jupyter: str, home: Path) -> None:
    # As a page of its own does it: what stands in the cookie stands in a header as well.
    own = {"Cookie": "_xsrf=1234", "X-XSRFToken": "1234"}
    request = urllib.request.Request(f"{jupyter}/api/kernels", b"{}", own, method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        kernel = json.load(answer)["id"]
    file = home / "runtime" / f"kernel-{kernel}.json"
    assert file.stat().st_mode & 0o077 == 0
    assert len(json.loads(file.read_text())["curve_secretkey"]) == 40
