# SPDX-License-Identifier: Apache-2.0
"""wget and nslookup in a pod: busybox' words, and the cluster's names."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BIN = REPOSITORY / "meshbox" / "images" / "shim" / "bin"
SERVICE = "127.1.2.3"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Site(http.server.BaseHTTPRequestHandler):
    """Sends back what it was asked."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        code = {"/gone": 404, "/old": 302}.get(self.path, 200)
        told = f"{self.command} {self.path} {self.headers['Host'].partition(':')[0]} {self.headers.get('X-A')} {body}"
        self.send_response(code)
        self.send_header("Location", "/new")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a server at the Service's address."""
    with http.server.ThreadingHTTPServer((SERVICE, 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Plays a program as in a pod of namespace shop."""
    names = tmp_path / "dns.json"
    content = {
        "services": {"web.shop": {"ip": SERVICE, "ports": [80]}, "far.other": {"ip": "127.1.2.4", "ports": [80]}},
        "headless": {"shop/db": ["127.1.64.2", "127.1.64.1"]},
        "pods": {"db-0.db.shop": "127.1.64.1"},
        "external": {"shop/alias": "far.other.svc.cluster.local"},
    }
    names.write_text(json.dumps(content))
    env = {
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(BIN.parent), "LABKIT_DNS": str(names),
        "LABKIT_NAMESPACE": "shop", "LABKIT_LOCAL_IP": "127.1.128.1", "LABKIT_POD_IP": "127.1.64.9",
    }  # fmt: skip

    def play(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return play


def test_wget_finds_a_service(run: Run, site: int) -> None:
    said = run("wget", "-qO-", f"http://web:{site}/a?b=c", "--header", "x-a: 1")
    assert (said.returncode, said.stdout, said.stderr) == (0, "GET /a?b=c web 1 ", "")
    assert (
        run("wget", "-q", "-O", "-", "--post-data=x=1", f"web.shop.svc:{site}").stdout == "POST / web.shop.svc None x=1"
    )
    assert run("wget", "-qO-", f"web:{site}/old").stdout == "GET /new web None "


def test_wget_tells_what_it_does(run: Run, site: int, tmp_path: Path) -> None:
    said = run("wget", f"web:{site}/page")
    assert said.stderr == f"Connecting to web ({SERVICE}:{site})\nsaving to 'page'\n'page' saved\n"
    assert (tmp_path / "page").read_text() == "GET /page web None "
    again = run("wget", f"web:{site}/page")
    assert (again.returncode, again.stderr) == (1, "wget: can't open 'page': File exists\n")
    assert run("wget", "--spider", "-S", "-T", "60", f"web:{site}").stderr.splitlines()[1] == "  HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nobody"], "bad address 'nobody'"),
        (["web:{port}/gone"], "server returned error: HTTP/1.1 404 Not Found"),
        (["web:1"], f"can't connect to remote host ({SERVICE}): Connection refused"),
        (["web:x"], "bad address 'web:x'"),
        (["ftp://web/"], "not an http or ftp url: ftp://web/"),
    ],
)
def test_wget_says_what_is_wrong(run: Run, site: int, words: list[str], problem: str) -> None:
    said = run("wget", "-qO-", *(word.format(port=site) for word in words))
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"wget: {problem}\n")


def test_wget_waits_no_longer_than_said(run: Run) -> None:
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind((SERVICE, 0))
        deaf.listen()
        said = run("wget", "-q", "-T", "0.1", "-O-", f"web:{deaf.getsockname()[1]}")
    assert said.stderr == "wget: download timed out\n"


@pytest.mark.parametrize(
    ("name", "whole", "addresses"),
    [
        ("web", "web.shop.svc.cluster.local", [SERVICE]),
        ("far.other", "far.other.svc.cluster.local", ["127.1.2.4"]),
        ("web.shop.svc.cluster.local.", "web.shop.svc.cluster.local", [SERVICE]),
        ("db", "db.shop.svc.cluster.local", ["127.1.64.1", "127.1.64.2"]),
        ("db-0.db", "db-0.db.shop.svc.cluster.local", ["127.1.64.1"]),
        ("alias", "alias.shop.svc.cluster.local", ["127.1.2.4"]),
    ],
)
def test_nslookup_tells_a_name_whole(run: Run, name: str, whole: str, addresses: list[str]) -> None:
    said = run("nslookup", name)
    answers = "".join(f"Name:\t{whole}\nAddress: {one}\n" for one in addresses)
    assert said.stdout.partition("\n\n")[2] == f"{answers}\n"
    assert said.stdout.startswith("Server:\t\tthe sandbox\n")
    assert said.returncode == 0


def test_nslookup_says_that_nobody_knows_a_name(run: Run) -> None:
    said = run("nslookup", "nobody.svc.cluster.local")
    assert said.returncode == 1
    assert said.stdout.endswith("\n** server can't find nobody.svc.cluster.local: NXDOMAIN\n\n")
