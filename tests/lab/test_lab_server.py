# SPDX-License-Identifier: Apache-2.0
"""The start page's questions: who may ask them, and what a refusal says."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.identity import PasswordIdentityProvider
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application

from labkit.lab.copies import prepare
from labkit.lab.server import StartHandler

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As much of a Jupyter server as asks for a token, with a learner's copy as its root."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    prepare(tmp_path / "mine")
    provider = PasswordIdentityProvider(token=TOKEN)
    settings = {
        "base_url": "/",
        "cookie_secret": b"0" * 32,
        "identity_provider": provider,
        "authorizer": AllowAllAuthorizer(identity_provider=provider),
        "server_root_dir": str(tmp_path / "mine"),
        "xsrf_cookies": True,
        "local_hostnames": ["localhost"],
        "allow_remote_access": True,
        "headers": {},
    }
    (socket,) = bind_sockets(0, "127.0.0.1")
    started = threading.Event()
    loops: list[IOLoop] = []

    def serve() -> None:
        loop = IOLoop(make_current=True)
        http = HTTPServer(Application([("/labkit/start", StartHandler)], **settings))
        http.add_socket(socket)
        loops.append(loop)
        loop.add_callback(started.set)
        loop.start()
        http.stop()
        loop.close(all_fds=True)

    thread = threading.Thread(target=serve)
    thread.start()
    assert started.wait(120)
    yield f"http://127.0.0.1:{socket.getsockname()[1]}/labkit/start"
    loops[0].add_callback(loops[0].stop)
    thread.join()


def ask(url: str, *, token: str = TOKEN, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    sent = ({"Authorization": f"token {token}"} if token else {}) | (headers or {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, sent), timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_only_who_is_logged_in_may_ask_or_choose(server: str, tmp_path: Path) -> None:
    for token in ("", "a-wrong-one"):
        assert ask(server, token=token)[0] == 403
        assert ask(server, token=token, body={"release": "1.2.2"})[0] == 403
    assert not (tmp_path / "labkit" / "choice.json").exists()
    status, said = ask(server)
    assert status == 200
    facts = json.loads(said)
    assert (facts["release"], facts["start"], facts["copy"]) == ("1.30.3", "00-start.ipynb", True)


def test_what_is_chosen_is_kept_or_refused_in_words(server: str, tmp_path: Path) -> None:
    status, said = ask(server, body={"release": "1.2.2"})
    assert (status, json.loads(said)["release"]) == (200, "1.2.2")
    status, said = ask(server, body={"release": "1.22"})
    assert status == 400
    assert "1.22" in json.loads(said)["message"]
    assert "1.30.3" in json.loads(said)["next_step"]
    status, said = ask(server, body={"target": "nowhere"})
    assert status == 400
    assert "nowhere" in json.loads(said)["message"]
    assert ask(server, body=["release"])[0] == 200, "nothing is chosen"
    assert json.loads((tmp_path / "labkit" / "choice.json").read_text()) == {"release": "1.2.2"}


def test_every_tile_has_a_picture(server: str) -> None:
    _, said = ask(f"{server}?icons=1")
    pictures = {name: text for name, text in json.loads(said).items() if name.startswith("lab-")}
    assert sorted(pictures) == ["lab-bookinfo", "lab-grafana", "lab-jaeger", "lab-kiali", "lab-prometheus"]
    assert all(text.startswith("<svg ") for text in pictures.values())
