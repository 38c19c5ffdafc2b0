# SPDX-License-Identifier: Apache-2.0
"""What labkit has a Jupyter server do: where its proxy leads, how it speaks to kernels, and which of these it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import websocket

from labkit.kernel import ENDS_AFTER, finished_mark
from labkit.ui.idle_kernels import CLOSED_AFTER, end_finished, settings
from tests.conftest import PATIENCE, REPOSITORY, wait_until
from tests.ports import kept_port
from tests.ui.jupyter import end


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
    with kept_port() as port:
        yield from _served(home, port)


def _served(home: Path, port: int) -> Iterator[str]:
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home}"]
    command += [f"--ServerProxy.host_allowlist={host}" for host in ("127.0.0.2", "0.0.0.0", "127.1", "10.0.0.1")]
    folders = {"JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTER_CONFIG_PATH": str(home / "etc" / "jupyter")}
    environment = {**os.environ, "HOME": str(home), **folders, ENDS_AFTER: "2"}
    shutil.copytree(REPOSITORY / "labkit" / "ui" / "jupyter" / "etc", home / "etc")
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: status(f"{url}/api") == 200, 90, "Jupyter to answer")
        yield url
    finally:
        end(server)


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


def start(jupyter: str) -> str:
    """A kernel, as a page of its own starts it: what stands in the cookie stands in a header as well."""
    own = {"Cookie": "_xsrf=1234", "X-XSRFToken": "1234"}
    request = urllib.request.Request(f"{jupyter}/api/kernels", b"{}", own, method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["id"])


def kernels(jupyter: str) -> dict[str, str]:
    """Those that run, and what they do."""
    with urllib.request.urlopen(f"{jupyter}/api/kernels", timeout=60) as answer:
        return {kernel["id"]: kernel["execution_state"] for kernel in json.load(answer)}


def test_kernels_are_spoken_to_in_secret(jupyter: str, home: Path) -> None:
    file = home / "runtime" / f"kernel-{start(jupyter)}.json"
    assert file.stat().st_mode & 0o077 == 0
    assert len(json.loads(file.read_text())["curve_secretkey"]) == 40


@contextlib.contextmanager
def opened(jupyter: str, kernel: str) -> Iterator[None]:
    """A page that has a kernel's notebook open."""
    page = websocket.create_connection(
        f"{jupyter.replace('http', 'ws')}/api/kernels/{kernel}/channels", timeout=PATIENCE
    )
    with contextlib.closing(page):
        wait_until(lambda: kernels(jupyter)[kernel] == "idle", 90, "the kernel to be idle")
        yield


def test_the_kernel_of_a_finished_lesson_ends_and_no_other(jupyter: str, home: Path) -> None:
    finished, other = start(jupyter), start(jupyter)
    with opened(jupyter, finished), opened(jupyter, other):
        mark = finished_mark(str(home / "runtime" / f"kernel-{finished}.json"))
        mark.touch()
        wait_until(lambda: finished not in kernels(jupyter), 90, "the finished lesson's kernel to end")
        assert other in kernels(jupyter)
        assert not mark.exists()


@dataclass
class Kernel:
    """What Jupyter knows of one."""

    connection_file: str
    execution_state: str
    last_activity: datetime


class Kernels(dict[str, Kernel]):
    """Jupyter's manager of them."""

    list_kernel_ids = dict.keys
    get_kernel = dict.__getitem__

    async def shutdown_kernel(self, kernel_id: str) -> None:
        del self[kernel_id]


async def test_what_is_busy_was_used_or_goes_on_is_left_alone(tmp_path: Path) -> None:
    long, now = datetime.now(UTC) - timedelta(minutes=11), datetime.now(UTC)
    manager = Kernels(
        busy=Kernel(f"{tmp_path}/busy.json", "busy", long),
        starting=Kernel(f"{tmp_path}/starting.json", "starting", long),
        used=Kernel(f"{tmp_path}/used.json", "idle", now),
        unfinished=Kernel(f"{tmp_path}/unfinished.json", "idle", long),
        finished=Kernel(f"{tmp_path}/finished.json", "idle", long),
    )
    for name in manager.keys() - {"unfinished"}:
        finished_mark(manager[name].connection_file).touch()
    assert await end_finished(manager, 600) == ["finished"]
    assert sorted(manager) == ["busy", "starting", "unfinished", "used"]


def test_jupyter_itself_ends_those_of_closed_notebooks_only() -> None:
    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

    assert settings().keys() <= set(MappingKernelManager.class_traits())
    assert settings()["cull_idle_timeout"] == CLOSED_AFTER
    assert not settings()["cull_connected"]
