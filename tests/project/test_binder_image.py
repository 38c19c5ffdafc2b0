# SPDX-License-Identifier: Apache-2.0
"""A BinderHub is asked for the image of a commit, and what it says is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import REPOSITORY
from tools import binder_image

Hub = Callable[..., str]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Starts a BinderHub that answers with these events, and gives its address."""
    servers = []

    def start(*events: dict[str, str], status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b":keepalive\n\n")
                for event in events:
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

            def log_message(self, *_: object) -> None:
                pass

        asked: list[str] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append((server, asked))
        return f"http://127.0.0.1:{server.server_port}"

    start.asked = lambda: servers[-1][1]  # type: ignore[attr-defined]
    yield start
    for server, _ in servers:
        server.shutdown()
        server.server_close()


BUILDING = [
    {"phase": "waiting", "message": "Waiting\n"},
    {"phase": "building", "message": "Step 1\n"},
    {"message": "a line"},
    {"phase": "building", "message": "Step 2\n"},
]


def test_each_phase_is_told_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    address = hub(*BUILDING, {"phase": "built", "message": "Built"}, {"phase": "failed", "message": "no server"})
    assert binder_image.build("somebody/course", "main/x", address) == "built"
    assert capsys.readouterr().out.split() == ["waiting", "building", "built"]
    assert hub.asked() == ["/build/gh/somebody/course/main%2Fx"]  # type: ignore[attr-defined]


def test_an_image_that_was_there_is_as_good(hub: Hub) -> None:
    assert binder_image.build("a/b", "c", hub({"phase": "ready", "message": "server running", "url": "x"})) == "built"


def test_what_the_hub_says_of_a_failure(hub: Hub) -> None:
    address = hub(*BUILDING, {"phase": "failed", "message": "postBuild: line 3\n"})
    assert binder_image.build("a/b", "c", address) == "failed: postBuild: line 3"


def test_a_hub_that_ends_or_refuses_or_is_not_there(hub: Hub) -> None:
    address = hub(*BUILDING)
    assert (
        binder_image.build("a/b", "c", address) == f"failed: {address}/build/gh/a/b/c: the answer ended after building"
    )
    assert "HTTP Error 404" in binder_image.build("a/b", "c", hub(status=404))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert "refused" in binder_image.build("a/b", "c", f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_one_that_takes_longer_goes_on_without_us(hub: Hub) -> None:
    assert binder_image.build("a/b", "c", hub(*BUILDING, {"phase": "built"}), minutes=0) == "goes on without us"


def test_as_a_workflow_calls_it(hub: Hub) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.binder_image",
        "a/b",
        "c",
        "--hub",
        hub({"phase": "failed", "message": "x"}),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")) == (1, ["failed", "failed: x", ""])
