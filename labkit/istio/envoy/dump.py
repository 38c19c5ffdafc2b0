# SPDX-License-Identifier: Apache-2.0
"""An Envoy's configuration at one moment, as its config dump gives it: listeners, routes, clusters, endpoints, secrets.

The dumps of today's Envoys and of those of Istio 1.2's time differ in a few names; both are read.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from labkit.cluster import Obj
from labkit.ground.names import is_ip
from labkit.istio.envoy.admin import Admin

__all__ = ["KINDS", "Dump", "Packed", "Resource", "address_of", "completed", "config_of", "configuration", "read"]

KINDS = ("listeners", "routes", "clusters", "endpoints", "secrets")

_HEALTHY = ("", "HEALTHY", "UNKNOWN")
_BAD = {
    "failed_active_health_check": "failed its health check",
    "failed_outlier_check": "ejected by outlier detection",
    "failed_active_degraded_check": "degraded",
    "pending_dynamic_removal": "being removed",
    "excluded_via_immediate_hc_fail": "failed its health check",
}


@dataclass(frozen=True)
class Resource:
    """One thing of a configuration.

    Args:
        name: Its name.
        body: What it says.
        version: The version under which the control plane gave it; "" for what Envoy began with.
        updated: When Envoy took it up; None where it does not say.
    """

    name: str
    body: Obj = field(repr=False)
    version: str = ""
    updated: datetime | None = None


@dataclass(frozen=True)
class Packed:
    """A dump as little bytes, to be kept."""

    pages: bytes = field(repr=False)
    read_at: datetime

    def open(self) -> Dump:
        """The dump again."""
        pages = json.loads(zlib.decompress(self.pages))
        return Dump(pages["config"], pages["health"], pages["certificates"], self.read_at)


class Dump:
    """What an Envoy said.

    Args:
        config: Its /config_dump.
        health: Its /clusters, as JSON.
        certificates: Its /certs.
        read_at: When it did.
    """

    def __init__(self, config: Obj, health: Obj, certificates: Obj, read_at: datetime) -> None:
        self.read_at = read_at
        self._config, self._health, self._certificates = config, health, certificates

    def with_pages(self, health: Obj, certificates: Obj) -> Dump:
        """It, with these two pages."""
        return Dump(self._config, health, certificates, self.read_at)

    def packed(self) -> Packed:
        """It, to be kept."""
        pages = {"config": self._config, "health": self._health, "certificates": self._certificates}
        return Packed(zlib.compress(json.dumps(pages).encode()), self.read_at)

    def of(self, kind: str) -> dict[str, Resource]:
        """Resources of one of `KINDS` by name."""
        found: dict[str, Resource] = getattr(self, kind)
        return found

    @cached_property
    def listeners(self) -> dict[str, Resource]:
        """Listeners that are active, by name."""
        part = self._part("Listeners")
        new = [
            {"name": one.get("name", ""), **one["active_state"]}
            for one in part.get("dynamic_listeners") or []
            if "active_state" in one
        ]
        old = part.get("dynamic_active_listeners") or []
        return dict(_resources([*(part.get("static_listeners") or []), *new, *old], "listener"))

    @cached_property
    def routes(self) -> dict[str, Resource]:
        """Route tables by name."""
        part = self._part("Routes")
        every = [*(part.get("static_route_configs") or []), *(part.get("dynamic_route_configs") or [])]
        return dict(_resources(every, "route_config"))

    @cached_property
    def clusters(self) -> dict[str, Resource]:
        """Clusters by name, without their endpoints."""
        return {
            name: Resource(
                name, {k: v for k, v in one.body.items() if k != "load_assignment"}, one.version, one.updated
            )
            for name, one in self._whole_clusters.items()
        }

    @cached_property
    def _whole_clusters(self) -> dict[str, Resource]:
        part = self._part("Clusters")
        every = [*(part.get("static_clusters") or []), *(part.get("dynamic_active_clusters") or [])]
        return dict(_resources(every, "cluster"))

    @cached_property
    def endpoints(self) -> dict[str, Resource]:
        """What each cluster leads to, by its name; of each endpoint its address, weight, health and metadata."""
        part = self._part("Endpoints")
        every = [*(part.get("static_endpoint_configs") or []), *(part.get("dynamic_endpoint_configs") or [])]
        given = {one.body.get("cluster_name", name): one for name, one in _resources(every, "endpoint_config")}
        for name, one in self._whole_clusters.items():
            if "load_assignment" in one.body and name not in given:
                given[name] = Resource(name, one.body["load_assignment"], one.version, one.updated)
        health = self._health_by_cluster
        found = {}
        for name in self._whole_clusters:
            service = (self._whole_clusters[name].body.get("eds_cluster_config") or {}).get("service_name", name)
            own = given.get(service) or given.get(name)
            rows = list(_endpoints(own.body if own else {}, health.get(name, {})))
            body = {"endpoints": rows}
            found[name] = Resource(name, body, own.version if own else "", own.updated if own else None)
        return found

    @cached_property
    def _health_by_cluster(self) -> dict[str, dict[str, str]]:
        """By cluster and address whether an endpoint may be chosen: "" if so, else why not."""
        found: dict[str, dict[str, str]] = {}
        for one in self._health.get("cluster_statuses") or []:
            hosts = found.setdefault(str(one.get("name", "")), {})
            for host in one.get("host_statuses") or []:
                hosts[address_of(host.get("address") or {})] = _trouble(host.get("health_status") or {})
        return found

    @cached_property
    def secrets(self) -> dict[str, Resource]:
        """What proves who the proxy is, and whom it believes; never a private byte."""
        part = self._part("Secrets")
        every = [*(part.get("static_secrets") or []), *(part.get("dynamic_active_secrets") or [])]
        known = list(self.certificates)
        return {
            name: Resource(name, _public(one.body, known), one.version, one.updated)
            for name, one in _resources(every, "secret")
        }

    @cached_property
    def certificates(self) -> tuple[Obj, ...]:
        """Certificates in use, each once: serial, names (list), valid_from, expires; whether it is an authority's."""
        found: dict[str, Obj] = {}
        for group in self._certificates.get("certificates") or []:
            for kind, authority in (("cert_chain", False), ("ca_cert", True)):
                for one in group.get(kind) or []:
                    names = [str(value) for name in one.get("subject_alt_names") or [] for value in name.values()]
                    about = {"names": names, "valid_from": one.get("valid_from", ""), "authority": authority}
                    found.setdefault(
                        str(one.get("serial_number", "")), {**about, "expires": one.get("expiration_time", "")}
                    )
        return tuple({"serial": serial, **one} for serial, one in found.items() if serial)

    @property
    def identity(self) -> str:
        """The SPIFFE id in the proxy's own certificate; "" where it has none."""
        every = (name for one in self.certificates if not one["authority"] for name in one["names"])
        return next((name for name in every if name.startswith("spiffe://")), "")

    @property
    def node(self) -> Obj:
        """What the proxy says of itself to the control plane."""
        found: Obj = (self._part("Bootstrap").get("bootstrap") or {}).get("node") or {}
        return found

    @property
    def refused(self) -> tuple[str, ...]:
        """What Envoy was given and did not take, with its words."""
        found = []
        for part in self._config.get("configs") or []:
            for one in (item for value in part.values() if isinstance(value, list) for item in value):
                if isinstance(one, dict) and (state := one.get("error_state")):
                    found.append(f"{one.get('name', '')}: {state.get('details', 'no reason given')}".lstrip(": "))
        return tuple(found)

    @cached_property
    def moments(self) -> dict[tuple[str, str], tuple[str, datetime | None]]:
        """Of all that the control plane gave: its version, and when it was taken up."""
        found = {
            (kind, name): (one.version, one.updated)
            for kind in ("listeners", "routes", "clusters", "secrets")
            for name, one in self.of(kind).items()
            if one.version
        }
        found |= {
            ("endpoints", name): (one.version, one.updated) for name, one in self.endpoints.items() if one.version
        }
        return found

    @property
    def latest(self) -> datetime | None:
        """When something was taken up last."""
        return max((when for _, when in self.moments.values() if when), default=None)

    def _part(self, name: str) -> Obj:
        parts = self._config.get("configs") or []
        return next((one for one in parts if str(one.get("@type", "")).endswith(f".{name}ConfigDump")), {})


def read(admin: Admin) -> Dump:
    """Ask an Envoy for all of it: three pages; errors as of `Admin.json`."""
    return completed(configuration(admin), admin)


def configuration(admin: Admin) -> Dump:
    """Ask for what an Envoy was told alone: without its endpoints' health and its certificates."""
    began = datetime.now(UTC)
    return Dump(admin.json("/config_dump?include_eds"), {}, {}, began)


def completed(dump: Dump, admin: Admin) -> Dump:
    """What an Envoy was told, with what is missing."""
    return dump.with_pages(admin.json("/clusters?format=json"), admin.json("/certs"))


def config_of(named: Mapping[str, Any]) -> Obj:
    """The configuration of a filter or transport socket; Envoys of Istio 1.2's time called it `config`."""
    found: Obj = named.get("typed_config") or named.get("config") or {}
    return found


def address_of(address: Mapping[str, Any]) -> str:
    """An address as "host:port", or a path; "" for none."""
    socket = address.get("socket_address") or {}
    if "address" in socket:
        host = socket["address"]
        return f"[{host}]:{socket.get('port_value', 0)}" if ":" in host else f"{host}:{socket.get('port_value', 0)}"
    return str((address.get("pipe") or {}).get("path", ""))


def _resources(items: list[Obj], key: str) -> Iterator[tuple[str, Resource]]:
    for row, one in enumerate(items):
        body = one.get(key) or {}
        name = str(body.get("name") or one.get("name") or body.get("cluster_name") or "")
        yield name or f"#{row}", _resource(name, body, one)


def _resource(name: str, body: Obj, about: Obj) -> Resource:
    when = about.get("last_updated")
    return Resource(name, body, str(about.get("version_info", "")), datetime.fromisoformat(when) if when else None)


def _endpoints(body: Obj, health: Mapping[str, str]) -> Iterator[Obj]:
    given = [
        (group, one, address_of((one.get("endpoint") or {}).get("address") or {}))
        for group in body.get("endpoints") or []
        for one in group.get("lb_endpoints") or []
    ]
    known = {where for _, _, where in given}
    for group, one, where in given:
        trouble = health.get(where, "")
        if not trouble and one.get("health_status", "") not in _HEALTHY:
            trouble = str(one["health_status"]).lower()
        yield {
            "address": where,
            "weight": int(one.get("load_balancing_weight", 1)),
            "priority": int(group.get("priority", 0)),
            "trouble": trouble if where in health or not _by_name(where) else "a name, resolved below",
            "metadata": (one.get("metadata") or {}).get("filter_metadata") or {},
        }
    # What Envoy found by itself: the addresses of a name.
    if not known or any(map(_by_name, known)):
        for where in sorted(health.keys() - known):
            yield {"address": where, "weight": 1, "priority": 0, "trouble": health[where], "metadata": {}}


def _by_name(where: str) -> bool:
    host = where.rpartition(":")[0].strip("[]")
    return bool(host) and not is_ip(host)


def _trouble(status: Mapping[str, Any]) -> str:
    reasons = [words for key, words in _BAD.items() if status.get(key)]
    eds = str(status.get("eds_health_status", ""))
    return ", ".join(reasons) or ("" if eds in _HEALTHY else eds.lower())


def _public(secret: Obj, known: list[Obj]) -> Obj:
    """What of a secret may be shown."""
    if "tls_certificate" in secret:
        return {"kind": "certificate and key", **_about(secret["tls_certificate"].get("certificate_chain"), known)}
    if "validation_context" in secret:
        return {"kind": "trusted authority", **_about(secret["validation_context"].get("trusted_ca"), known)}
    return {"kind": next((key.replace("_", " ") for key in secret if key not in ("name", "@type")), "not yet given")}


def _about(source: Obj | None, known: list[Obj]) -> Obj:
    """The certificate of Envoy's own list that these bytes hold: its serial number is among them."""
    der = _der(source or {})
    for one in known:
        serial = one["serial"]
        if serial and serial.rjust(len(serial) + len(serial) % 2, "0") in der:
            return {key: one[key] for key in ("serial", "names", "valid_from", "expires")}
    return {}


def _der(source: Obj) -> str:
    # Few ask for certificates, and labkit is imported by every command.
    import ssl

    try:
        pem = base64.b64decode(source.get("inline_bytes", "")).decode("ascii") or source.get("inline_string", "")
        first = pem[pem.index(ssl.PEM_HEADER) : pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
        return ssl.PEM_cert_to_DER_cert(first).hex()
    except (ValueError, binascii.Error):
        return ""
