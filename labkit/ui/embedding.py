# SPDX-License-Identifier: Apache-2.0
"""Prometheus, Grafana, Jaeger, Kiali and BookInfo inside a notebook, wherever the notebook runs."""

from __future__ import annotations

import atexit
import html
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from labkit import cluster, display, istio, kernel
from labkit.ground.errors import ClusterError, SettingError
from labkit.ground.guard import new_secret
from labkit.istio.model import Addon
from labkit.istio.releases import NAMESPACE

if TYPE_CHECKING:
    from labkit.ui.embed_relay import Relay

__all__ = ["Page", "address_of", "embed", "open_relay", "somebody_looks"]

BOOKINFO = "bookinfo"
_FIRST = "/productpage"
_CLOSED = "BookInfo does not answer at the ingress gateway: 03-ingress opens it."
_KNOWN = 5.0
"""Seconds for which the way to the ingress gateway is taken to be what it was."""

_RELEASE_OF = ("1.2.2", "1.30.3")


@dataclass(frozen=True)
class Page:
    """A page that can be opened.

    Args:
        title: What it is, "Prometheus".
        url: Where a browser finds it: a path below the Jupyter server, or an address of this machine.
        live: Whether somebody may be looking: with nobody, a frame would only stay behind empty.
        height: Of the frame, in pixels.
    """

    title: str
    url: str
    live: bool
    height: int = 600

    def rich(self) -> display.Rich:
        """The frame, or only the link where nobody looks."""
        where, title = html.escape(self.url), html.escape(self.title)
        text = f"{self.title}: {self.url}"
        if not self.live:
            return display.Rich(f'<div>{title}: <a href="{where}">{where}</a> (while this notebook runs)</div>', text)
        # A frame by its name: what is left of an earlier run may show the same address.
        name = f"labkit-{new_secret()[:12]}"
        link = f'<a href="{where}" target="{name}">Reload</a> · '
        link += f'<a href="{where}" target="_blank" rel="noopener">{title} in a tab of its own</a>'
        style = "border:1px solid var(--jp-border-color1,#ccc);background:#fff"
        size = f'width="100%" height="{self.height}" style="{style}"'
        frame = f'<iframe src="{where}" title="{title}" {size} name="{name}"></iframe>'
        return display.Rich(f"<div>{link}</div>{frame}", text)


def embed(name: str, path: str = "", *, height: int = 600, still: Any = None) -> None:
    """Show an add-on's pages, or BookInfo's, in the notebook.

    A port-forward to an add-on is kept, and found again when its pod is replaced; BookInfo is asked through the ingress
    gateway, as everybody outside asks it. The address goes through the Jupyter
    server that the notebook runs on (so it works on Binder, on a JupyterHub and below any prefix), or is one of this
    machine where there is no such server.

    Args:
        name: "prometheus", "grafana", "jaeger", "kiali" or "bookinfo".
        path: The page below the add-on's first one, e.g. "graph?g0.expr=up"; "" for the first one, of BookInfo
            "productpage".
        height: Of the frame, in pixels.
        still: A table or figure that says the same; shown where nobody looks (a headless run), and stays.

    Raises:
        SettingError: There is no such page.
        ClusterError: It is not installed, its pod does not run, or the ingress gateway is not open.
    """
    if name == BOOKINFO:
        title, relay, where = "BookInfo", _shop(cluster.current()), f"/{path.lstrip('/')}" if path else _FIRST
    else:
        addon = _addon(name)
        title, relay, where = name.capitalize(), _relay(cluster.current(), addon), _path(addon, path)
    prefix = _jupyter_prefix()
    outside = f"{prefix}proxy/{relay.port}" if prefix else f"http://127.0.0.1:{relay.port}"
    page = Page(title, f"{outside}{relay.path}{where}", _server() is not None, height)
    display.show(page.rich())
    if still is not None and not page.live:
        _show(still)


def address_of(name: str, *, show: bool = True) -> str:
    """Where programs find an add-on: a port-forward to its Service, kept as long as the notebook runs.

    Args:
        name: An add-on, as for `embed`; where BookInfo is `istio.ingress` says.
        show: Whether to show the command.

    Returns:
        "http://127.0.0.1:PORT", with the path below which it serves.

    Raises:
        SettingError: There is no such add-on.
        ClusterError: It is not installed, or its pod does not run.
    """
    addon = _addon(name)
    forward = _forward(cluster.current(), addon)
    if show:
        display.show(display.command(forward.command, f"Forwarding from {forward.url} -> {forward.remote_port}"))
    return f"{forward.url}{_root(addon)}"


def open_relay(name: str, port: int, secret: str, choose: Callable[[], cluster.Chosen]) -> Relay:
    """A relay to an add-on or to BookInfo, which may not run yet: each request looks for it anew until it does.

    Args:
        name: As for `embed`.
        port: The port of 127.0.0.1 to listen at.
        secret: The first part of its path.
        choose: Says, for each request, which cluster is in use.
    """

    from labkit.ui.embed_relay import Relay

    def addon() -> tuple[cluster.Chosen, Addon]:
        return choose(), _addon(name)

    if name == BOOKINFO:
        return Relay(lambda: _way(choose()), port=port, secret=secret, home=lambda: _FIRST, silent=_CLOSED)
    return Relay(lambda: _forward(*addon()).url, port=port, secret=secret, home=lambda: _first_page(*addon()))


def _first_page(target: cluster.Chosen, addon: Addon) -> str:
    """The path of an add-on's first page; where Kiali asks who is there, that of somebody who has logged in."""
    if addon.name != "kiali":
        return _path(addon, "")
    from labkit.observe.kiali import Kiali

    kiali = Kiali.of_cluster(f"{_forward(target, addon).url}{_root(addon)}", NAMESPACE)
    return f"{_root(addon)}/{kiali.page('', kiosk=False)}".rstrip("/")


_lock = threading.Lock()
_forwards: dict[tuple[cluster.Chosen, str], cluster.PortForward] = {}
_relays: dict[tuple[cluster.Chosen, str], Relay] = {}
_ways: dict[cluster.Chosen, tuple[float, str]] = {}


def _forward(target: cluster.Chosen, addon: Addon) -> cluster.PortForward:
    with _lock:
        found = _forwards.get((target, addon.name))
        if found is None or found.closed:
            found = cluster.port_forward(f"svc/{addon.service}", addon.port, namespace=NAMESPACE, show=False)
            _forwards[target, addon.name] = found
            atexit.register(found.close)
    found.wait_until_bound()
    return found


def _relay(target: cluster.Chosen, addon: Addon) -> Relay:
    from labkit.ui.embed_relay import Relay

    _forward(target, addon)

    def upstream() -> str:
        with _lock:
            forward = _forwards[target, addon.name]
        forward.wait_until_bound(10.0)
        return forward.url

    with _lock:
        if (target, addon.name) not in _relays:
            _relays[target, addon.name] = Relay(upstream)
        return _relays[target, addon.name]


def _shop(target: cluster.Chosen) -> Relay:
    from labkit.ui.embed_relay import Relay

    page = f"{_way(target)}{_FIRST}"
    try:
        # Whatever else it answers is what a reader sees: a rule may say that the page fails.
        closed = cluster.fetch(page, timeout=5.0).status == 404
    except ClusterError:
        closed = True
    if closed:
        raise ClusterError(_CLOSED.rstrip("."), next_step="Play 03-ingress first, up to its Gateway.")

    def upstream() -> str:
        if cluster.current() != target:
            raise ClusterError("this notebook is on another cluster by now", next_step="Run the cell again.")
        return _way(target)

    with _lock:
        if (target, BOOKINFO) not in _relays:
            _relays[target, BOOKINFO] = Relay(upstream, home=lambda: _FIRST, silent=_CLOSED)
        return _relays[target, BOOKINFO]


def _way(target: cluster.Chosen) -> str:
    """Where the ingress gateway of the cluster in use answers."""
    found, url = _ways.get(target, (0.0, ""))
    if not url or time.monotonic() > found + _KNOWN:
        url = istio.ingress(show=False).url
        _ways[target] = time.monotonic(), url
    return url


def _addon(name: str) -> Addon:
    """The add-on of whichever release is installed: the Services tell."""
    known = {version: {one.name: one for one in istio.facts(version).addons} for version in _RELEASE_OF}
    names = list(known["1.2.2"])
    if name not in names:
        raise SettingError(f"there is no page {name!r}", next_step=f"Choose one of {', '.join((*names, BOOKINFO))}.")
    for version in _RELEASE_OF:
        # Of each release, the control plane's Deployment has another name.
        if cluster.exists("deployment", "istiod" if version != "1.2.2" else "istio-pilot", namespace=NAMESPACE):
            return known[version][name]
    raise ClusterError(f"there is no Istio to see with {name}", next_step="Play 01-install-istio first.")


def _root(addon: Addon) -> str:
    """What the add-on's own paths begin with; a first page that is no folder stands below one."""
    return addon.path.removesuffix("console").rstrip("/")


def _path(addon: Addon, path: str) -> str:
    if not path:
        return addon.path if addon.path.endswith("/console") else addon.path.rstrip("/") + "/"
    return f"{_root(addon)}/{quote(path.lstrip('/'), safe='/?&=%#:,;+@!$*()~-._[]')}"


def _show(still: Any) -> None:
    if isinstance(still, display.Rich) or not display.in_notebook():
        display.show(still if isinstance(still, display.Rich) else display.Rich(str(still), str(still)))
        return
    import IPython.display as front

    present: Any = front.display
    present(still)


def _jupyter_prefix() -> str:
    """The path of the Jupyter server whose proxy leads here, such as "/user/me/"; "" if there is none."""
    hub = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    server = _server()
    if hub:
        return hub.rstrip("/") + "/"
    if server is None or not _has_proxy(server["url"], server.get("token", "")):
        return ""
    return str(server["base_url"]).rstrip("/") + "/"


def _server() -> dict[str, Any] | None:
    """What the Jupyter server that started this kernel says of itself; None if something else started it."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if "ipykernel" not in sys.modules or not parent:
        return None
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        said: dict[str, Any] = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json").read_text())
    except (OSError, ValueError):
        return None
    return said


def somebody_looks() -> bool:
    """Whether a page is connected to this kernel; of a kernel that no Jupyter server has started nobody can tell."""
    server, shell = _server(), kernel.running()
    if server is None or shell is None:
        return False
    from ipykernel.connect import get_connection_file

    from labkit.ground.client import send

    name = Path(get_connection_file()).stem.removeprefix("kernel-")
    headers = {"Authorization": f"token {server['token']}"} if server.get("token") else {}
    try:
        said = json.loads(send(f"{server['url'].rstrip('/')}/api/kernels/{name}", headers=headers, timeout=5).body)
        return bool(said.get("connections"))
    except (OSError, ValueError, AttributeError):
        return False


@cache
def _has_proxy(url: str, token: str) -> bool:
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        return cluster.fetch(f"{url.rstrip('/')}/server-proxy/servers-info", headers=headers, timeout=5).status != 404
    except ClusterError:
        return False
