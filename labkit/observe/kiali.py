# SPDX-License-Identifier: Apache-2.0
"""The mesh's graph from Kiali's API: nodes and edges as tables, and a figure from left to right."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from labkit import cluster
from labkit.ground.client import Answer, send
from labkit.ground.errors import ClusterError, SettingError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Kiali", "MeshGraph"]

GRAPH_TYPES = ("versionedApp", "app", "workload", "service")
_APPENDERS = "deadNode,responseTime,securityPolicy,serviceEntry"
"""What the tables are made of. Kiali answers 400 to a name, or a value of another parameter, that its version does not
know, so nothing is sent that is not in all of them: to have no boxes, for one, is to leave boxBy out."""


@dataclass(frozen=True)
class MeshGraph:
    """Who talked to whom.

    Args:
        nodes: A DataFrame, a row a node: index `name` (str, e.g. "reviews v3"), `kind` (str: "app", "workload",
            "service" or "unknown"), `namespace`, `workload`, `app`, `version`, `service` (str, "" where it has none),
            `in_rate`, `out_rate` (float64, requests a second).
        edges: A DataFrame, a row an edge: `source`, `target` (str, names of nodes), `protocol` (str), `rate` (float64,
            requests a second; bytes a second for "tcp"), `error_percent` (float64), `share_percent` (float64, of what
            the source sends), `response_ms` (float64, the 95th percentile unless Kiali was asked for another; NaN if
            unknown), `mtls_percent` (float64).
        namespaces: What was asked for.
        seconds: The window over which rates were taken.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    namespaces: tuple[str, ...]
    seconds: int

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Who calls whom: the names of each edge's ends."""
        return set(zip(self.edges["source"], self.edges["target"], strict=True))

    def figure(self) -> go.Figure:
        """The graph, callers left of those they call; the colour of an edge is its share of errors."""
        from labkit.observe.kiali_figure import draw

        where = ", ".join(self.namespaces)
        title = f"Who talks to whom in {where}: the last {self.seconds} s, requests per second"
        return draw(self.nodes, self.edges, title)

    def __repr__(self) -> str:
        where = ", ".join(self.namespaces)
        return f"MeshGraph({where}: {len(self.nodes)} nodes, {len(self.edges)} edges in the last {self.seconds} s)"


class Kiali:
    """Kiali's API.

    Args:
        url: Where its console is, e.g. "http://127.0.0.1:20001/kiali".
        user: The user, where Kiali asks for a password (Istio 1.2.2: "admin" in the Secret `kiali`).
        password: Their password.
        token: A token of Kubernetes', where Kiali asks for one (`kubectl create token NAME`).

    Raises:
        ClusterError: the user, password or token is wrong, or nobody answers.
    """

    def __init__(self, url: str, *, user: str = "", password: str = "", token: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._base = self.url
        if user:
            self._log_in(user, password)
        elif token:
            self._show(token)

    @classmethod
    def of_cluster(cls, url: str, namespace: str = "istio-system") -> Kiali:
        """Kiali at `url`, with the user and password of the cluster's Secret `kiali` if there is one.

        Args:
            url: Where its console is.
            namespace: Where the Secret is.

        Raises:
            ClusterError: the Secret's password is refused, or nobody answers.
        """
        found = cluster.get("secret", "kiali", namespace=namespace)
        data = (found[0].get("data") or {}) if found else {}
        user, password = (base64.b64decode(data.get(key, "")).decode() for key in ("username", "passphrase"))
        return cls(url, user=user, password=password)

    @property
    def console_url(self) -> str:
        """The console's address, with the session in it where the stand-in asks for a password."""
        return f"{self._base}/console"

    def page(self, path: str = "graph/namespaces", *, kiosk: bool = True, **parameters: str) -> str:
        """A page of the console, relative to where Kiali is: what `ui.embed("kiali", …)` takes.

        Args:
            path: Below console/, e.g. "overview", "graph/namespaces", "namespaces/bookinfo/services/reviews".
            kiosk: Whether to leave out head and menu.
            parameters: Of the page, e.g. namespaces="bookinfo", graphType="versionedApp", duration="60".
        """
        query = urlencode({**parameters, **({"kiosk": "true"} if kiosk else {})})
        below = self.console_url.removeprefix(f"{self.url}/")
        return f"{below}/{path.strip('/')}" + (f"?{query}" if query else "")

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """What is at `path` below api/.

        Raises:
            ClusterError: it cannot be reached, or refuses; the message carries its own words.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = cluster.fetch(f"{self._base}/api/{path}{query}", headers=self._headers)
        # 520: it asks for a password, and has been told none.
        if answer.status in (401, 520):
            raise ClusterError(
                f"Kiali asks who you are (/api/{path})",
                next_step="Kiali.of_cluster(url) takes user and password from the Secret `kiali`; or give a token",
            )
        return _content(answer.status, answer.text, f"{self._base}/api/{path}")

    def namespaces(self) -> list[str]:
        """The namespaces it shows, sorted."""
        return sorted(one["name"] for one in self.get("namespaces"))

    def graph(
        self, *namespaces: str, seconds: int = 60, kind: str = "versionedApp", services: bool = False
    ) -> MeshGraph:
        """The graph of the last `seconds`.

        Args:
            namespaces: At least one.
            seconds: The window, at least 1; shorter than two scrapes there is nothing in it.
            kind: "versionedApp", "app", "workload" or "service".
            services: Whether Services are nodes of their own.

        Raises:
            SettingError: no namespace, or no such kind.
            ClusterError: Kiali cannot be reached or refuses.
        """
        if not namespaces or kind not in GRAPH_TYPES:
            raise SettingError(
                f"graph({', '.join(namespaces)}, kind={kind!r}) cannot be drawn",
                next_step=f"name a namespace, and as kind one of {', '.join(GRAPH_TYPES)}",
            )
        given = {
            "namespaces": ",".join(namespaces),
            "duration": f"{seconds}s",
            "graphType": kind,
            "injectServiceNodes": "true" if services else "false",
            "appenders": _APPENDERS,
        }
        elements = self.get("namespaces/graph", given)["elements"]
        return _tables(elements.get("nodes") or [], elements.get("edges") or [], namespaces, seconds)

    def until(
        self,
        what: str,
        condition: Callable[[MeshGraph], object],
        *namespaces: str,
        seconds: int = 60,
        services: bool = False,
        timeout: float = 90.0,
    ) -> MeshGraph:
        """Look at the graph until something holds of it.

        Args:
            what: What is waited for, "an edge in red".
            condition: What must hold.
            namespaces: As for `graph`.
            seconds: As for `graph`.
            services: As for `graph`.
            timeout: Seconds.

        Raises:
            NotReadyError: It does not hold within `timeout`.
            ClusterError: As `graph`.
        """
        found: list[MeshGraph] = []

        def look() -> str | None:
            found[:] = [self.graph(*namespaces, seconds=seconds, services=services)]
            return None if condition(found[0]) else repr(found[0])

        cluster.wait_for(cluster.Condition(what, look), timeout=timeout)
        return found[0]

    def problems(self, namespace: str, kind: str, name: str, *, timeout: float = 30.0) -> list[str]:
        """What Kiali says is wrong with an object of Istio's, as soon as it says something.

        Args:
            namespace: Its namespace.
            kind: Its kind in small letters, "virtualservice".
            name: Its name.
            timeout: Seconds, as Kiali has to hear of it first.

        Raises:
            NotReadyError: Nothing is wrong with it, or Kiali does not know it within `timeout`.
        """
        found: list[str] = []

        def look() -> str | None:
            said = self.get(f"namespaces/{namespace}/istio", {"validate": "true"})["validations"]
            # Newer ones say "networking.istio.io/v1, Kind=VirtualService", and put the namespace after the name.
            of_kind = [found for key, found in said.items() if key.rpartition("Kind=")[2].lower() == kind]
            mine = [one for by_name in of_kind for key, one in by_name.items() if key in (name, f"{name}.{namespace}")]
            found[:] = [check["message"] for one in mine for check in one["checks"]]
            return None if found else "no complaint yet"

        cluster.wait_for(cluster.Condition(f"Kiali to complain of {kind} {name}", look), timeout=timeout)
        return found

    def _log_in(self, user: str, password: str) -> None:
        basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        answer = _send("POST", url := f"{self.url}/api/authenticate", {"Authorization": basic})
        if answer.status in (404, 405):
            # Kiali of Istio 1.2's time took the password with GET.
            answer = _send("GET", url, {"Authorization": basic})
        if answer.status == 401:
            raise ClusterError(
                f"Kiali refuses the password of {user!r}",
                next_step="it is in the Secret: kubectl -n istio-system get secret kiali -o yaml (base64)",
            )
        content = _content(answer.status, answer.text, url)
        if path := content.get("path"):
            self._base = self.url.removesuffix(urlsplit(self.url).path) + _joined(self.url, path)
        elif token := content.get("token"):
            self._headers = {"Authorization": f"Bearer {token}"}

    def _show(self, token: str) -> None:
        """Kiali takes Kubernetes' token in a form, and knows its bearer by cookies; a proxy before it by the token."""
        form = {"Content-Type": "application/x-www-form-urlencoded", **self._headers}
        answer = _send("POST", f"{self.url}/api/authenticate", form, urlencode({"token": token}))
        if answer.status == 401:
            raise ClusterError("Kiali refuses the token", next_step="`kubectl create token NAME` makes one")
        if found := [value.partition(";")[0] for name, value in answer.headers if name.lower() == "set-cookie"]:
            self._headers["Cookie"] = "; ".join(found)


def _joined(url: str, path: str) -> str:
    """`path` as it is seen at `url`: Kiali knows its own root, not what a proxy has put before it."""
    seen = urlsplit(url).path
    root = path.partition("/s/")[0]
    before = seen.removesuffix(root) if seen.endswith(root) else ""
    return before + path.rstrip("/")


def _send(method: str, url: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
    cluster.require_no_refusal()
    try:
        return send(url, method, headers, body, timeout=15)
    except OSError as error:
        raise ClusterError(
            f"no answer from {url}: {error}",
            next_step="forward a port to it: kubectl -n istio-system port-forward svc/kiali 20001",
        ) from None


def _content(status: int, text: str, url: str) -> Any:
    try:
        content = json.loads(text)
    except ValueError:
        raise ClusterError(
            f"{url} answers {status} without JSON: is that Kiali?", next_step="its address ends in /kiali"
        ) from None
    if status >= 400:
        said = content.get("error") if isinstance(content, dict) else content
        raise ClusterError(
            f"Kiali refused ({status}): {said}", next_step="is Prometheus ready, and the namespace there?"
        )
    return content


def _tables(
    raw_nodes: Iterable[Mapping[str, Any]],
    raw_edges: Iterable[Mapping[str, Any]],
    namespaces: tuple[str, ...],
    seconds: int,
) -> MeshGraph:
    import pandas as pd

    # Kiali 0.20 calls what it draws around others a group.
    data = [one["data"] for one in raw_nodes if not one["data"].get("isBox") and not one["data"].get("isGroup")]
    names = _names(data)
    nodes = pd.DataFrame(
        [
            {
                "name": names[one["id"]],
                "kind": one["nodeType"],
                **{key: one.get(key, "") for key in ("namespace", "workload", "app", "version", "service")},
                "in_rate": _sum(one, "In"),
                "out_rate": _sum(one, "Out"),
            }
            for one in data
        ],
        columns=["name", "kind", "namespace", "workload", "app", "version", "service", "in_rate", "out_rate"],
    )
    columns = ["source", "target", "protocol", "rate", "error_percent", "share_percent", "response_ms", "mtls_percent"]
    edges = pd.DataFrame([_edge(one["data"], names) for one in raw_edges], columns=columns)
    numbers = dict.fromkeys(columns[3:], "float64")
    return MeshGraph(
        nodes.astype({"in_rate": "float64", "out_rate": "float64"}).set_index("name").sort_index(),
        edges.astype(numbers).sort_values(["source", "target", "protocol"], ignore_index=True),
        tuple(namespaces),
        seconds,
    )


def _edge(one: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    traffic = one.get("traffic") or {}
    protocol, rates = str(traffic.get("protocol", "")), traffic.get("rates") or {}
    time = one.get("responseTime")
    return {
        "source": names[one["source"]],
        "target": names[one["target"]],
        "protocol": protocol,
        "rate": float(rates.get(protocol, 0)),
        "error_percent": float(rates.get(f"{protocol}PercentErr", 0)),
        "share_percent": float(rates.get(f"{protocol}PercentReq", 100)),
        "response_ms": float(time) if time else float("nan"),
        "mtls_percent": float(one.get("isMTLS") or 0),
    }


def _sum(node: Mapping[str, Any], suffix: str) -> float:
    """Requests a second in or out, of all protocols that have requests."""
    found = {part["protocol"]: part["rates"] for part in node.get("traffic") or []}
    return sum(float(rates.get(f"{name}{suffix}", 0)) for name, rates in found.items() if name in ("http", "grpc"))


def _names(nodes: list[Any]) -> dict[str, str]:
    """A short name for each node, with its namespace where two would have the same."""

    def short(one: Mapping[str, Any]) -> str:
        if one["nodeType"] == "service":
            return f"{one['service']} (service)"
        if one["nodeType"] == "app":
            return f"{one['app']} {one.get('version', '')}".strip()
        return str(one.get("workload") or one["nodeType"])

    names = [short(one) for one in nodes]
    return {
        one["id"]: f"{name} in {one['namespace']}" if names.count(name) > 1 else name
        for one, name in zip(nodes, names, strict=True)
    }
