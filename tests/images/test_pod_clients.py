# SPDX-License-Identifier: Apache-2.0
"""`wget` and `nslookup` in pods: they find the cluster's names, with the words of those that people know."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshbox.images import shim

SHIM = Path(shim.__file__).parent


class Page(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; /gone is not there, /old leads to /new."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_HEAD(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        body = f"{self.command} {self.path} {self.headers['User-Agent']} {self.headers.get('X-A')} {sent}\n".encode()
        self.send_response({"/gone": 404, "/old": 302}.get(self.path, 200))
        self.send_header("Location", "/new")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    names = {
        "services": {"web.default": {"ip": "127.0.0.1", "ports": []}, "db.prod": {"ip": "127.0.0.9", "ports": []}},
        "headless": {"default/shards": ["127.0.0.7", "127.0.0.8"]},
    }
    (tmp_path / "dns.json").write_text(json.dumps(names))
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(SHIM),
        "LABKIT_DNS": str(tmp_path / "dns.json"),
        "LABKIT_LOCAL_IP": "127.0.0.1",
        "LABKIT_NAMESPACE": "default",
    }


def run(env: dict[str, str], folder: Path, program: str, *arguments: str) -> tuple[int, str, str]:
    command = [str(SHIM / "bin" / program), *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_page_to_the_terminal(env: dict[str, str], tmp_path: Path, port: int) -> None:
    url = f"http://web.default.svc:{port}/page?a=1"
    assert run(env, tmp_path, "wget", "-qO-", url) == (0, "GET /page?a=1 Wget None \n", "")
    arguments = ["-q", "-O", "-", "--header", "X-A: b", "-U", "me", "--post-data", "c=d", f"web:{port}/"]
    assert run(env, tmp_path, "wget", *arguments) == (0, "POST / me b c=d\n", "")
    assert run(env, tmp_path, "wget", "-qO-", f"web:{port}/old") == (0, "GET /new Wget None \n", "")


def test_a_page_to_a_file(env: dict[str, str], tmp_path: Path, port: int) -> None:
    connecting = f"Connecting to web:{port} (127.0.0.1:{port})\n"
    said = f"{connecting}saving to 'index.html'\n'index.html' saved\n"
    assert run(env, tmp_path, "wget", f"web:{port}") == (0, "", said)
    assert (tmp_path / "index.html").read_text() == "GET / Wget None \n"
    again = f"{connecting}wget: can't open 'index.html': File exists\n"
    assert run(env, tmp_path, "wget", f"web:{port}") == (1, "", again)
    assert run(env, tmp_path, "wget", "-q", "-O", "index.html", f"web:{port}/other")[0] == 0
    assert (tmp_path / "index.html").read_text() == "GET /other Wget None \n"


def test_what_is_not_there(env: dict[str, str], tmp_path: Path, port: int) -> None:
    refused = "wget: server returned error: HTTP/1.1 404 Not Found\n"
    assert run(env, tmp_path, "wget", "-qO-", f"web:{port}/gone") == (1, "", refused)
    assert run(env, tmp_path, "wget", "-q", "--spider", f"web:{port}/gone") == (1, "", refused)
    assert run(env, tmp_path, "wget", "-q", "--spider", f"web:{port}/there") == (0, "", "")
    assert run(env, tmp_path, "wget", "-q", "http://no-such.invalid/") == (
        1,
        "",
        "wget: bad address 'no-such.invalid'\n",
    )
    code, _, said = run(env, tmp_path, "wget", "-q", "ftp://web/")
    assert (code, said) == (1, "wget: not an http or https URL: ftp://web/\n")
    assert run(env, tmp_path, "wget", "--mirror", "web")[2].startswith("wget: option --mirror not recognized\nusage: ")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", [("web.default.svc.cluster.local", "127.0.0.1")]),
        ("web.default", [("web.default.svc.cluster.local", "127.0.0.1")]),
        ("db.prod.svc.cluster.local.", [("db.prod.svc.cluster.local", "127.0.0.9")]),
        ("shards", [("shards.default.svc.cluster.local", f"127.0.0.{last}") for last in (7, 8)]),
        ("localhost", [("localhost", "127.0.0.1")]),
    ],
)  # fmt: skip
def test_names(env: dict[str, str], tmp_path: Path, name: str, found: list[tuple[str, str]]) -> None:
    code, said, errors = run(env, tmp_path, "nslookup", name)
    answers = "".join(f"Name:\t{full}\nAddress: {address}\n" for full, address in found)
    assert (code, said.partition("\n\n")[2], errors) == (0, f"{answers}\n", "")
    assert said.startswith("Server:\t\tthe sandbox\n")


def test_a_name_that_nobody_has(env: dict[str, str], tmp_path: Path) -> None:
    code, said, _ = run(env, tmp_path, "nslookup", "db.prod.invalid")
    assert (code, said.partition("\n\n")[2]) == (1, "** server can't find db.prod.invalid: NXDOMAIN\n\n")
