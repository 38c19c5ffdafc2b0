# SPDX-License-Identifier: Apache-2.0
"""The tables of `istioctl proxy-config`: what of an Envoy's configuration istioctl shows, and in what words."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.cluster import Obj
from labkit.istio.envoy.dump import Dump, config_of
from labkit.istio.envoy.states import manager_of
from labkit.istioctl.common import part_of, table

__all__ = [
    "bootstrap",
    "cluster_fits",
    "clusters",
    "elsewhere",
    "endpoints",
    "endpoints_of",
    "hosts",
    "listener_fits",
    "listeners",
    "order",
    "route_fits",
    "routes",
    "secret_rows",
    "secrets",
]

Wanted = Mapping[str, str]

_ALPN = {
    ("http/1.0", "http/1.1", "h2c", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: HTTP TLS",
    ("istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: Istio HTTP Plain",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
}
_CAPTURED = {"virtualOutbound": 15001, "virtualInbound": 15006}
_APIS = "/apis/networking.istio.io/"
_MAY_SIGN = re.compile(rb"\x06\x03\x55\x1d\x13(?:\x01\x01\xff)?\x04.\x30.\x01\x01\xff", re.DOTALL)
"""basicConstraints (2.5.29.19), with cA: TRUE, in DER."""


def _managed(body: Mapping[str, Any]) -> str:
    """The object that something comes from, as its metadata says: "reviews.bookinfo"."""
    path = str((((body.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}).get("config", ""))
    pieces = path.split("/")
    if path.startswith(_APIS) and len(pieces) == 8:
        return f"{pieces[7]}.{pieces[5]}"
    return "<unknown>" if path else ""


def _key(name: str) -> tuple[str, str, str, int]:
    """Direction, subset, host and port in a cluster's name."""
    parts = name.split("|")
    if len(parts) < 4:
        return "", "", name, 0
    return parts[0], parts[2], parts[3], int(parts[1]) if parts[1].isdigit() else 0


def order(name: str) -> tuple[str, str, int, str]:
    """Where a cluster of that name stands in a list: by host, subset and port."""
    direction, subset, host, port = _key(name)
    return host, subset, port, direction


def cluster_fits(body: Obj, wanted: Wanted) -> bool:
    """Whether a cluster is one of those asked for."""
    name = str(body.get("name", ""))
    port = f"|{wanted['port']}|" if "port" in wanted else ""
    return port in name and all(wanted.get(key, "") in name for key in ("fqdn", "direction", "subset"))


def clusters(dump: Dump, wanted: Wanted, *, named: bool = False) -> Iterator[tuple[object, ...]]:
    """Rows of clusters, by host, subset and port.

    Args:
        dump: The configuration.
        wanted: fqdn, port, subset, direction.
        named: Whether each row begins with Envoy's own name of it.
    """
    yield *(("NAME",) if named else ()), "SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"
    for one in sorted(dump.clusters.values(), key=lambda one: order(one.name)):
        if not cluster_fits(one.body, wanted):
            continue
        direction, subset, host, port = _key(f"cluster/{one.name}" if named and one.name.count("|") < 3 else one.name)
        row = host, port or "-", subset or "-", direction or "-", one.body.get("type") or "STATIC", _managed(one.body)
        yield (f"cluster/{one.name}", *row) if named else row


def _socket(body: Obj) -> tuple[str, int]:
    """Address and port; the path of a socket that is a file, and nothing of who is reached inside an Envoy only."""
    address = body.get("address") or {}
    socket = address.get("socket_address") or address.get("pipe") or {}
    return str(socket.get("address") or socket.get("path") or ""), int(socket.get("port_value", 0))


def _addresses(body: Obj) -> str:
    """All the addresses of a listener."""
    more = [_socket(one)[0] for one in body.get("additional_addresses") or []]
    return ",".join(one for one in (_socket(body)[0], *more) if one)


def _chains(body: Obj) -> list[Obj]:
    default = body.get("default_filter_chain")
    return [*(body.get("filter_chains") or []), *([default] if default else [])]


def _kind(body: Obj) -> str:
    filters = [one for chain in _chains(body) for one in chain.get("filters") or []]
    known = ["HTTP"] if any("http_connection_manager" in str(one.get("name")) for one in filters) else []
    proxies = [config_of(one) for one in filters if "tcp_proxy" in str(one.get("name"))]
    known += ["TCP"] if any("BlackHoleCluster" not in str(one) for one in proxies) else []
    return "+".join(known) or "UNKNOWN"


def _ports(body: Obj) -> set[int]:
    """The port of a listener, and the one of the listener of Istio's whose part it has."""
    name = str(body.get("name", ""))
    return {_socket(body)[1], *(port for start, port in _CAPTURED.items() if name.startswith(start))}


def elsewhere(dump: Dump, port: int) -> bool:
    """Whether what Istio's listener of this port does is done by listeners of other ports only."""
    bodies = [one.body for one in dump.listeners.values()]
    return any(port in _ports(one) for one in bodies) and all(port != _socket(one)[1] for one in bodies)


def listener_fits(body: Obj, wanted: Wanted) -> bool:
    """Whether a listener is one of those asked for."""
    address = _socket(body)[0]
    return (
        wanted.get("address", address).lower() == address.lower()
        and ("port" not in wanted or int(wanted["port"]) in _ports(body))
        and ("type" not in wanted or wanted["type"].upper() == _kind(body))
    )


def listeners(dump: Dump, wanted: Wanted, *, named: bool = False, verbose: bool = True) -> Iterator[tuple[object, ...]]:
    """Rows of listeners, by port.

    Args:
        dump: The configuration.
        wanted: address, port, type.
        named: Whether each row begins with Envoy's own name of it.
        verbose: Whether each chain of filters has a row.
    """
    head = ("MATCH", "DESTINATION") if verbose else ("TYPE",)
    yield *(("NAME",) if named else ()), "ADDRESSES", "PORT", *head
    bodies = [one.body for one in dump.listeners.values() if listener_fits(one.body, wanted)]
    for body in sorted(bodies, key=lambda one: (_socket(one)[1], _socket(one)[0], _kind(one))):
        found = [(_match(one.get("filter_chain_match") or {}), _destination(one)) for one in _chains(body)]
        rows = sorted(found, key=lambda one: one[1], reverse=True) if verbose else [(_kind(body),)]
        for cells in rows:
            row = _addresses(body), _socket(body)[1], *cells
            yield (body.get("name", ""), *row) if named else row


def _match(match: Obj) -> str:
    parts = []
    if match.get("server_names"):
        parts.append(f"SNI: {','.join(match['server_names'])}")
    if match.get("transport_protocol"):
        parts.append(f"Trans: {match['transport_protocol']}")
    if match.get("application_protocols"):
        given = tuple(match["application_protocols"])
        parts.append(_ALPN.get(given, f"App: {','.join(given)}"))
    port = f":{match['destination_port']}" if match.get("destination_port") else ""
    ranges = [f"{one['address_prefix']}/{one.get('prefix_len', 0)}" for one in match.get("prefix_ranges") or []]
    if ranges or port:
        parts.append(f"Addr: {','.join(ranges) or '*'}{port}")
    return "; ".join(parts) or "ALL"


def _destination(chain: Obj) -> str:
    manager = manager_of(chain)
    if manager is not None:
        if "route_config" in manager:
            return _inline(manager["route_config"])
        name = (manager.get("rds") or {}).get("route_config_name")
        return f"Route: {name}" if name else "HTTP"
    for one in chain.get("filters") or []:
        if "tcp_proxy" in str(one.get("name", "")):
            config = config_of(one)
            several = (config.get("weighted_clusters") or {}).get("clusters") or []
            name = config.get("cluster") or ", ".join(str(part.get("name", "")) for part in several)
            if "BlackHoleCluster" not in name:
                return name if name.endswith("Cluster") else f"Cluster: {name}"
    return "Non-HTTP/Non-TCP"


def _inline(table_of: Obj) -> str:
    vhosts = table_of.get("virtual_hosts") or []
    if len(vhosts) == 1 and vhosts[0].get("domains") == ["*"] and len(vhosts[0].get("routes") or []) == 1:
        only = vhosts[0]["routes"][0]
        name = str((only.get("route") or {}).get("cluster", ""))
        if (only.get("match") or {}).get("prefix") == "/" and name:
            return name if name.endswith("Cluster") else f"Cluster: {name}"
    said = []
    for one in vhosts:
        domains = "" if one.get("domains") == ["*"] else "/".join(one.get("domains") or []) + " "
        said.append(domains + ", ".join(_path(route.get("match") or {}) for route in one.get("routes") or []))
    return f"Inline Route: {'; '.join(said)}"


def _path(match: Obj) -> str:
    parts = [f"{match['prefix']}*"] if match.get("prefix") else []
    parts += [f"PathPrefix:{match['path_separated_prefix']}"] if match.get("path_separated_prefix") else []
    parts += [str(match["path"])] if match.get("path") else []
    regex = (match.get("safe_regex") or {}).get("regex")
    return " ".join([*parts, *([f"regex {regex}"] if regex else [])])


def route_fits(body: Obj, wanted: Wanted) -> bool:
    """Whether a route table is the one asked for."""
    return wanted.get("name", body.get("name")) == body.get("name")


def routes(dump: Dump, wanted: Wanted, *, verbose: bool = True) -> Iterator[tuple[object, ...]]:
    """Rows of routes: tables with numbers first, then those that were sent, then what Envoy began with."""
    yield ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE") if verbose else ("NAME", "VIRTUAL HOSTS")
    found = [one for one in dump.routes.values() if route_fits(one.body, wanted)]
    found.sort(key=lambda one: (not one.name.isdigit(), int(one.name) if one.name.isdigit() else not one.version))
    for body in (one.body for one in found):
        if not verbose:
            yield body.get("name", ""), len(body.get("virtual_hosts") or [])
            continue
        for vhost in body.get("virtual_hosts") or []:
            about = body.get("name", ""), vhost.get("name", ""), _domains(vhost.get("domains") or [])
            given = vhost.get("routes") or []
            for route in given:
                if (route.get("route") or {}).get("cluster") != "PassthroughCluster":
                    yield (*about, _path(route.get("match") or {}), _managed(route))
            if not given:
                yield (*about, "/*", "404")


def _domains(domains: list[str]) -> str:
    """The two shortest ways to say it, and how many others there are."""
    if len(domains) == 1:
        return domains[0]
    plain = [one for one in domains if ":" not in one or (one.count(":") > 2 and one.endswith("]"))]
    known = set(plain)
    longer = {
        one
        for one in plain
        for end in (".svc.cluster.local", ".svc")
        if one.endswith(end) and one.removesuffix(end) in known
    }
    left = [one for one in plain if one not in longer]
    return ", ".join(left[:2]) + (f" + {len(left) - 2} more..." if len(left) > 2 else "")


def hosts(health: Obj, wanted: Wanted) -> list[Obj]:
    """What Envoy says of the clusters that have an endpoint asked for."""
    every = health.get("cluster_statuses") or []
    return [one for one in every if any(_host_fits(host, one, wanted) for host in one.get("host_statuses") or [])]


def _host_fits(host: Obj, of: Obj, wanted: Wanted) -> bool:
    return _end_fits(*_end(host), str(of.get("name", "")), _status(host), wanted)


def _end_fits(address: str, port: int, name: str, status: str, wanted: Wanted) -> bool:
    return (
        wanted.get("address", address).lower() == address.lower()
        and wanted.get("port", str(port)) == str(port)
        and wanted.get("cluster", "").lower() in ("", name.lower())
        and wanted.get("status", "").upper() in ("", status)
    )


def _end(host: Obj) -> tuple[str, int]:
    address = host.get("address") or {}
    if "socket_address" in address:
        return _socket(host)
    return f"unix://{(address.get('pipe') or {}).get('path', '')}", 0


def _status(host: Obj) -> str:
    return str((host.get("health_status") or {}).get("eds_health_status", "UNKNOWN"))


def endpoints(health: Obj, wanted: Wanted) -> Iterator[tuple[object, ...]]:
    """Rows of endpoints, by address."""
    yield "ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"
    found = [
        (
            *_end(host),
            str(one.get("name", "")),
            _status(host),
            bool((host.get("health_status") or {}).get("failed_outlier_check")),
        )
        for one in health.get("cluster_statuses") or []
        for host in one.get("host_statuses") or []
        if _host_fits(host, one, wanted)
    ]
    for address, port, name, status, failed in sorted(found):
        yield f"{address}:{port}" if port else address, status, "FAILED" if failed else "OK", name


def secrets(config: Obj, dump: Dump) -> str:
    """What proves who the proxy is, and whom it trusts."""
    rows = list(secret_rows(config, dump))
    return table(rows) if len(rows) > 1 else "No active or warming secrets found."


def secret_rows(config: Obj, dump: Dump) -> Iterator[tuple[object, ...]]:
    """Rows of what proves who the proxy is, and whom it trusts."""
    yield "RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"
    about = part_of(config, "Secrets")
    warming = [str(one.get("name", "")) for one in about.get("dynamic_warming_secrets") or []]
    active = [str(one.get("name", "")) for one in about.get("dynamic_active_secrets") or []]
    yield from ((name, "", "WARMING", "false", "", "", "") for name in warming)
    now = datetime.now(UTC)
    given = {str(one.get("name", "")): one.get("secret") or {} for one in about.get("dynamic_active_secrets") or []}
    for name in active:
        body = dump.secrets[name].body
        kind = {"certificate and key": "Cert Chain", "trusted authority": "CA"}.get(body["kind"], "")
        if _of_authority(given[name]):
            kind = "CA"
        after, before = body.get("expires", ""), body.get("valid_from", "")
        good = bool(after and before) and datetime.fromisoformat(before) <= now <= datetime.fromisoformat(after)
        serial = body["serial"].lstrip("0").zfill(32) if body.get("serial") else ""
        yield name, kind, "ACTIVE", str(good).lower(), serial, after, before


def _of_authority(secret: Obj) -> bool:
    """Whether a certificate is one that may sign others, as its basic constraints say, whatever it is used for."""
    try:
        pem = base64.b64decode(secret["tls_certificate"]["certificate_chain"]["inline_bytes"]).decode("ascii")
        first = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
        return bool(_MAY_SIGN.search(base64.b64decode(first)))
    except (LookupError, TypeError, ValueError):
        return False


def bootstrap(config: Obj) -> str:
    """Which versions an Envoy is of."""
    about = part_of(config, "Bootstrap")
    node = (about.get("bootstrap") or {}).get("node") or {}
    build = node.get("user_agent_build_version") or {}
    version, more = build.get("version") or {}, build.get("metadata") or {}
    numbers = ".".join(str(version.get(key, 0)) for key in ("major_number", "minor_number", "patch"))
    built = [str(more[key]) for key in ("revision.status", "build.type", "build.label", "ssl.version") if more.get(key)]
    said = node.get("metadata") or {}
    rows = [
        ("Istio Version:", str(said.get("ISTIO_VERSION") or "")),
        ("Istio Proxy Version:", str(said.get("ISTIO_PROXY_SHA") or "").rpartition(":")[2]),
        ("Envoy Version:", "/".join([numbers, *built]) if build else ""),
    ]
    return table([row for row in rows if row[1]], gap=1)


def endpoints_of(config: Obj, wanted: Wanted) -> Iterator[tuple[object, ...]]:
    """Rows of endpoints as `proxy-config all` has them, by cluster."""
    yield "NAME", "STATUS", "LOCALITY", "CLUSTER"
    part = part_of(config, "Endpoints")
    every = [*(part.get("dynamic_endpoint_configs") or []), *(part.get("static_endpoint_configs") or [])]
    found = [(str(one["endpoint_config"].get("cluster_name", "")), one["endpoint_config"]) for one in every]
    for name, given in sorted(found, key=lambda of: order(of[0])):
        for group in given.get("endpoints") or []:
            locality = "/".join(filter(None, map((group.get("locality") or {}).get, ("region", "zone", "sub_zone"))))
            for one in group.get("lb_endpoints") or []:
                address, port = _socket(one.get("endpoint") or {})
                inside = ((one.get("endpoint") or {}).get("address") or {}).get("envoy_internal_address") or {}
                own = f"envoy://{inside.get('server_listener_name', '')}/{inside.get('endpoint_id', '')}"
                at = f"{address}:{port}" if port else own if inside else address
                status = str(one.get("health_status", "UNKNOWN"))
                if _end_fits(address, port, name, status, wanted):
                    yield f"endpoint/{at}", status, locality, name
