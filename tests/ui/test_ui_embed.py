# SPDX-License-Identifier: Apache-2.0
"""Consoles in notebooks: the relay that browsers meet, and the address that is chosen."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import display, istio
from labkit.ground.errors import NotReadyError, SettingError
from labkit.observe.kiali import Kiali
from labkit.ui import embed_launcher, embedding
from labkit.ui.embed_relay import Relay, rewritten
from tests.cluster.api_like import api_like, kubeconfig
from tests.ports import kept_port

SECRET = "a-secret-of-the-tests-which-is-long-enough"
PAGE = b"""<base href="/"><script src="/static/a.js"></script><a href="/graph">x</a><a href="https://far.example/x">y</a>
<a href="//far.example">z</a><a href="relative">r</a><script>var PATH_PREFIX = ""; window.WEB_ROOT='/kiali';
x = {"appSubUrl":"","other":"/kept"}</script>"""


class _Console(BaseHTTPRequestHandler):
    """Says what it was asked, and answers as consoles do."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).seen.append((self.command, self.path, dict(self.headers.items()), body))
        moved = self.path == "/old"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "/new?a=1")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "session=1; Path=/kiali; HttpOnly")
        self.send_header("X-Frame-Options", "deny")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    do_POST = do_GET  # noqa: N815 (its name)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def console() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str], bytes]]]]:
    handler = type("Console", (_Console,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def relay(console: tuple[str, Any]) -> Iterator[Relay]:
    made = Relay(lambda: console[0])
    yield made
    made.close()


def ask(
    relay: Relay, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=120)
    connection.request(method, path, b"q=1" if method == "POST" else None, {"Connection": "close", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def test_addresses_are_moved_below_the_prefix() -> None:
    text = rewritten(PAGE, "text/html; charset=utf-8", "/user/me/proxy/1/s").decode()
    for moved in ('<base href="/user/me/proxy/1/s/">', 'src="/user/me/proxy/1/s/static/a.js"', "s/graph"):
        assert moved in text
    for setting in ('PATH_PREFIX = "/user/me/proxy/1/s"', "WEB_ROOT='/user/me/proxy/1/s/kiali'", 'appSubUrl":"/user'):
        assert setting in text
    for kept in ('"https://far.example/x"', '"//far.example"', 'href="relative"', '"other":"/kept"'):
        assert kept in text
    assert rewritten(text.encode(), "text/html", "/user/me/proxy/1/s").decode() == text, "never twice"
    assert rewritten(PAGE, "application/json", "/p") == PAGE
    assert rewritten(PAGE * 100, "text/javascript", "/p") == PAGE * 100, "a library is left alone"


def test_without_its_secret_the_relay_answers_nobody(relay: Relay, console: tuple[str, Any]) -> None:
    for path in ("/", "/graph", "/wrong/graph", f"/{relay.secret[:-1]}/graph"):
        status, _, text = ask(relay, path)
        assert status == 403
        assert "the workshop" in text
    assert ask(relay, "/api/v1/query", "POST", {"Host": "evil.example"})[0] == 403
    assert console[1] == []


def test_what_the_browser_says_to_jupyter_stays_here(relay: Relay, console: tuple[str, Any]) -> None:
    sent = {"Cookie": "_xsrf=2; username-127=x; session=1", "Authorization": "token t", "Origin": "http://hub"}
    status, headers, text = ask(
        relay, f"{relay.path}/a?b=/c", "POST", {**sent, "X-Forwarded-Prefix": "/user/me/proxy/1"}
    )
    assert status == 200
    (method, path, seen, body) = console[1][-1]
    assert (method, path, body) == ("POST", "/a?b=/c", b"q=1")
    assert seen["Cookie"] == "session=1"
    assert not {"Authorization", "Origin", "X-Forwarded-Prefix"} & set(seen)
    assert seen["Host"] == console[0].removeprefix("http://")
    assert f'href="/user/me/proxy/1/{relay.secret}/graph"' in text
    assert headers["Set-Cookie"] == f"session=1; Path=/user/me/proxy/1/{relay.secret}/kiali; HttpOnly"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "X-Frame-Options" not in headers


def test_redirects_stay_below_the_secret(relay: Relay, console: tuple[str, Any]) -> None:
    assert ask(relay, f"{relay.path}/old")[1]["Location"] == f"{relay.path}/new?a=1"
    assert ask(relay, relay.path)[1]["Location"] == f"{relay.path}/"
    home = Relay(lambda: console[0], home=lambda: "/jaeger/")
    assert ask(home, f"{home.path}/")[1]["Location"] == f"{home.path}/jaeger/"
    home.close()


@pytest.mark.parametrize(
    ("referrer", "seen"),
    [
        ("http://hub/user/me/proxy/1/{secret}/productpage?u=test", "{console}/productpage?u=test"),
        ("http://hub/user/me/lab/tree/02.ipynb", ""),
        ("http://hub/user/me/proxy/1/{secret}", ""),
        ("http://hub/{secret}/productpage", ""),
    ],
)
def test_a_page_hears_of_its_own_pages_only(relay: Relay, console: tuple[str, Any], referrer: str, seen: str) -> None:
    sent = {"Referer": referrer.format(secret=relay.secret), "X-Forwarded-Prefix": "/user/me/proxy/1"}
    assert ask(relay, f"{relay.path}/login", "POST", sent)[0] == 200
    assert console[1][-1][2].get("Referer", "") == seen.format(console=console[0])


def test_while_a_pod_is_replaced_the_page_says_so_and_tries_again() -> None:
    def nobody() -> str:
        raise NotReadyError("svc/grafana has no <pod>", next_step="wait")

    relay = Relay(nobody)
    status, _, text = ask(relay, f"{relay.path}/")
    relay.close()
    assert status == 503
    assert 'http-equiv="refresh"' in text
    assert "no &lt;pod&gt;" in text
    gone = Relay(lambda: "http://127.0.0.1:1")
    assert ask(gone, f"{gone.path}/")[0] == 503
    gone.close()
    shop = Relay(lambda: "http://127.0.0.1:1", silent="The gateway is closed.")
    assert "The gateway is closed." in ask(shop, f"{shop.path}/productpage")[2]
    shop.close()


@pytest.mark.parametrize(
    ("hub", "server", "proxy", "prefix"),
    [
        ("", None, True, ""),
        ("", "/", True, "/"),
        ("", "/base/", True, "/base/"),
        ("", "/base/", False, ""),
        ("/user/me/", None, False, "/user/me/"),
    ],
)
def test_the_way_is_chosen_by_where_the_kernel_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: str, server: str | None, proxy: bool, prefix: str
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", hub)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    monkeypatch.setitem(embedding.sys.modules, "ipykernel", object())
    monkeypatch.setattr(embedding, "_has_proxy", lambda url, token: proxy)
    if server is not None:
        (tmp_path / "jpserver-7.json").write_text(json.dumps({"base_url": server, "url": "http://x/", "token": "t"}))
    assert embedding._jupyter_prefix() == prefix
    assert (embedding._server() is not None) == (server is not None)


def test_with_nobody_looking_a_link_stays_and_no_frame() -> None:
    page = embedding.Page("Jaeger", "http://127.0.0.1:1/s/", live=False)
    assert "<iframe" not in page.rich().html
    assert 'href="http://127.0.0.1:1/s/"' in page.rich().html
    assert page.rich().text == "Jaeger: http://127.0.0.1:1/s/"
    looked = embedding.Page("Jaeger", "/user/me/proxy/1/s/", live=True, height=300).rich().html
    assert '<iframe src="/user/me/proxy/1/s/" title="Jaeger" width="100%" height="300"' in looked


def test_an_unknown_console_is_told() -> None:
    with pytest.raises(SettingError) as told:
        embedding.embed("zipkin")
    assert "prometheus, grafana, jaeger, kiali, bookinfo" in told.value.next_step


@pytest.mark.parametrize(
    "entry",
    [
        embed_launcher.prometheus,
        embed_launcher.grafana,
        embed_launcher.jaeger,
        embed_launcher.kiali,
        embed_launcher.bookinfo,
    ],
)
def test_launcher_entries_keep_their_secret(entry: Callable[[], dict[str, Any]]) -> None:
    said, again = entry(), entry()
    (secret,) = said["environment"].values()
    assert said["launcher_entry"]["path_info"] == f"lab-{entry.__name__}/{secret}/"
    assert all(secret not in word for word in said["command"])
    assert said["environment"] != again["environment"]
    assert Path(said["launcher_entry"]["icon_path"]).is_file()


def test_a_tile_never_leads_to_the_readers_own_cluster(tmp_path: Path, until: Callable[..., Any]) -> None:
    with kept_port() as port, api_like(tmp_path) as api:
        own = kubeconfig(tmp_path / ".kube" / "config", {"mine": api.entry})
        environment = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": str(own), "LABKIT_RELAY_SECRET": SECRET}
        environment |= {"LABKIT_HOME": str(tmp_path / "labkit")}
        command = [sys.executable, "-m", "labkit.ui.embed_launcher", "kiali", str(port)]

        def page() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                connection.request("GET", f"/{SECRET}/kiali/")
                return connection.getresponse().read().decode()
            except OSError:
                return ""
            finally:
                connection.close()

        with subprocess.Popen(command, env=environment) as tile:
            assert "there is no sandbox &#x27;default&#x27; here" in until(page, 30, "the tile to answer")
            tile.terminate()
        assert api.connections == 0


def test_plotly_needs_no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.io

    before = plotly.io.renderers.default
    monkeypatch.setenv("PLOTLY_RENDERER", "")
    monkeypatch.delenv("PLOTLY_RENDERER")
    display.figures_without_internet()
    assert plotly.io.renderers.default == "plotly_mimetype"
    monkeypatch.setenv("PLOTLY_RENDERER", "png")
    display.figures_without_internet()
    assert plotly.io.renderers.default == "png", "the reader's own choice stays"
    plotly.io.renderers.default = before


def test_the_first_figure_compiles_no_grammars() -> None:
    code = (
        "import sys; from labkit import display; display.figures_without_internet()\n"
        "import plotly.graph_objects as go, plotly.io as pio\n"
        "bundle = pio.renderers._build_mime_bundle(go.Figure(go.Bar(y=[1])).to_dict())\n"
        "assert list(bundle) == ['application/vnd.plotly.v1+json'], bundle\n"
        "assert 'nbformat' in sys.modules and 'rfc3987_syntax' not in sys.modules\n"
        "import rfc3987_syntax\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_launchers_relay_ends_with_its_jupyter_server(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(embed_launcher, "end_with_parent", lambda: order.append("leash"))
    monkeypatch.setattr(embedding, "open_relay", lambda *_: order.append("relay") or SimpleNamespace(wait=lambda: None))
    monkeypatch.setenv("KUBECONFIG", "none")
    monkeypatch.setenv("LABKIT_RELAY_SECRET", "s")
    assert embed_launcher.main(["grafana", "1"]) == 0
    assert order == ["leash", "relay"]


@pytest.mark.parametrize(("base", "page"), [("/kiali", "/kiali/console"), ("/kiali/s/me", "/kiali/s/me/console")])
def test_the_launchers_kiali_logs_in_as_the_notebooks_does(
    monkeypatch: pytest.MonkeyPatch, base: str, page: str
) -> None:
    made = Kiali("http://127.0.0.1:1/kiali")
    made._base = f"http://127.0.0.1:1{base}"
    asked: list[str] = []
    monkeypatch.setattr(Kiali, "of_cluster", lambda url, namespace: asked.append(url) or made)
    monkeypatch.setattr(embedding, "_forward", lambda *_: SimpleNamespace(url="http://127.0.0.1:1"))
    kiali, grafana = (
        next(one for one in istio.facts("1.2.2").addons if one.name == name) for name in ("kiali", "grafana")
    )
    assert embedding._first_page(SimpleNamespace(), kiali) == page
    assert asked == ["http://127.0.0.1:1/kiali"]
    assert embedding._first_page(SimpleNamespace(), grafana) == "/"
