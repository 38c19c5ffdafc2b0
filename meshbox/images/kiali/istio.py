# SPDX-License-Identifier: Apache-2.0
"""Istio's objects as the console lists, shows and saves them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit.ground import reading
from labkit.ground.names import dns1123_label, dns1123_subdomain
from meshbox.images.kiali.mesh import SYSTEM, Json, Mesh, selects
from meshbox.images.kiali.sources import Kubernetes, SourceError

__all__ = [
    "KINDS",
    "Config",
    "Kind",
    "change",
    "config_of",
    "for_workload",
    "kind_of",
    "mesh_tls",
    "namespace_tls",
    "one",
    "page",
    "whole",
    "within",
]


@dataclass(frozen=True)
class Kind:
    """A kind of Istio's objects.

    Args:
        listed: Its key in lists, e.g. "virtualServices".
        single: Its key in details, e.g. "virtualService".
        group: Its API group.
    """

    listed: str
    single: str
    group: str

    @property
    def plural(self) -> str:
        """Its name in paths, e.g. "virtualservices"."""
        return self.listed.lower()

    @property
    def type(self) -> str:
        """Its name in validations, e.g. "virtualservice"."""
        return self.single.lower()


_NETWORK, _SECURITY = "networking.istio.io", "security.istio.io"
KINDS = (
    Kind("gateways", "gateway", _NETWORK),
    Kind("virtualServices", "virtualService", _NETWORK),
    Kind("destinationRules", "destinationRule", _NETWORK),
    Kind("serviceEntries", "serviceEntry", _NETWORK),
    Kind("workloadEntries", "workloadEntry", _NETWORK),
    Kind("envoyFilters", "envoyFilter", _NETWORK),
    Kind("sidecars", "sidecar", _NETWORK),
    Kind("authorizationPolicies", "authorizationPolicy", _SECURITY),
    Kind("peerAuthentications", "peerAuthentication", _SECURITY),
    Kind("requestAuthentications", "requestAuthentication", _SECURITY),
)
_WITH_PERMISSIONS = {"virtualServices", "destinationRules"}
_MAY = {"create": True, "update": True, "delete": True}

Config = dict[str, list[Any]]
"""A kind's key in lists → all its objects, of every namespace."""


def kind_of(plural: str) -> Kind | None:
    """The kind that a path names."""
    return next((kind for kind in KINDS if kind.plural == plural), None)


def config_of(kubernetes: Kubernetes) -> Config:
    """Read all of Istio's objects; a kind that this release or this role does not have is empty.

    Raises:
        SourceError: the API server cannot be reached.
    """
    found: Config = {}
    for kind in KINDS:
        base = kubernetes.resources(kind.group).get(kind.plural)
        try:
            found[kind.listed] = kubernetes.list(f"{base}/{kind.plural}") if base else []
        except SourceError as error:
            if error.status != 403:
                raise
            found[kind.listed] = []
    # Istio 1.2 says with these what a PeerAuthentication says today.
    for plural in ("meshpolicies", "policies"):
        base = kubernetes.resources("authentication.istio.io").get(plural)
        found[plural] = kubernetes.list(f"{base}/{plural}") if base else []
    return found


def within(config: Config, kind: Kind, namespace: str) -> list[Any]:
    """The objects of one kind in a namespace."""
    return [item for item in config.get(kind.listed, []) if item["metadata"].get("namespace") == namespace]


def whole(host: str) -> str:
    """A host as the console takes it, which also knows the form "reviews.bookinfo.svc"."""
    return f"{host}.cluster.local" if host.endswith(".svc") else host


def for_workload(config: Config, labels: dict[str, str]) -> Config:
    """The objects that name workloads by labels, and name the one with these."""

    def names_it(item: Json) -> bool:
        spec = item.get("spec") or {}
        selector = spec.get("selector") or spec.get("workloadSelector") or {}
        return selects(selector.get("matchLabels") or selector.get("labels") or selector, labels)

    return {listed: [item for item in items if names_it(item)] for listed, items in config.items()}


def page(config: Config, namespace: str, wanted: Iterable[str], validations: Json) -> Json:
    """The list of a namespace's objects.

    Args:
        config: All objects.
        namespace: Which namespace.
        wanted: Plurals as paths name them; none for all.
        validations: Type → name → validation.
    """
    names = set(wanted)
    answer: Json = {"namespace": {"name": namespace}, "permissions": {kind.plural: _MAY for kind in KINDS}}
    for kind in KINDS:
        items = within(config, kind, namespace) if not names or kind.plural in names else []
        answer[kind.listed] = {"permissions": _MAY, "items": items} if kind.listed in _WITH_PERMISSIONS else items
    return answer | {"validations": validations}


def _path(kubernetes: Kubernetes, kind: Kind, namespace: str, name: str) -> str:
    base = kubernetes.resources(kind.group).get(kind.plural)
    if base is None or dns1123_subdomain(name) or dns1123_label(namespace):
        raise SourceError(f"there is no {kind.single} {namespace}/{name}", 404)
    return f"{base}/namespaces/{namespace}/{kind.plural}/{name}"


def one(kubernetes: Kubernetes, kind: Kind, namespace: str, name: str, validation: Json | None) -> Json:
    """One object's page.

    Raises:
        SourceError: there is none, or the API server cannot be reached.
    """
    found = kubernetes.get(_path(kubernetes, kind, namespace, name))
    if found is None:
        raise SourceError(f"there is no {kind.single} {namespace}/{name}", 404)
    answer: Json = {"namespace": {"name": namespace}, "objectType": kind.plural, "permissions": _MAY}
    answer |= {item.single: None for item in KINDS}
    return answer | {kind.single: found, "validation": validation, "references": None}


def change(kubernetes: Kubernetes, kind: Kind, namespace: str, name: str, method: str, body: bytes) -> Json:
    """Save (PATCH: a merge patch) or delete an object.

    Raises:
        SourceError: the API server refuses; Istio's own words if it is Istio that does.
    """
    path = _path(kubernetes, kind, namespace, name)
    if method == "DELETE":
        kubernetes.delete(path)
        return {}
    try:
        content = reading.json_value(body)
    except reading.ReadingError:
        raise SourceError("the change is not JSON", 400) from None
    if not isinstance(content, dict):
        raise SourceError("the change is not an object", 400)
    saved = kubernetes.patch(path, json.dumps(content).encode())
    return {"namespace": {"name": namespace}, "objectType": kind.plural, "permissions": _MAY, kind.single: saved}


def _mode(spec: Json) -> str:
    if "mtls" in spec:
        return str((spec.get("mtls") or {}).get("mode") or "UNSET").upper()
    # Policy and MeshPolicy of Istio 1.2: `peers: [{mtls: {}}]` is strict unless it says otherwise.
    for peer in spec.get("peers") or []:
        if "mtls" in peer:
            return str((peer.get("mtls") or {}).get("mode") or "STRICT").upper()
    return "UNSET"


_ENABLED = {"STRICT": "MTLS_ENABLED", "PERMISSIVE": "MTLS_PARTIALLY_ENABLED", "DISABLE": "MTLS_DISABLED"}


def _wide(items: Iterable[Json]) -> list[str]:
    """The modes of the objects that hold for a whole namespace or mesh."""
    found = []
    for item in items:
        spec = item.get("spec") or {}
        if not spec.get("selector") and not spec.get("targets"):
            found.append(_mode(spec))
    return found


def mesh_tls(config: Config, mesh: Mesh) -> Json:
    """Whether the whole mesh demands mutual TLS."""
    peers = [item for item in config["peerAuthentications"] if item["metadata"]["namespace"] == SYSTEM]
    modes = _wide([*peers, *config.get("meshpolicies", [])])
    known = [_ENABLED[mode] for mode in modes if mode in _ENABLED]
    # Without a word from the user the proxies take both; Kiali calls that not enabled.
    status = known[0] if known else "MTLS_NOT_ENABLED"
    return {"status": "MTLS_NOT_ENABLED" if modes == ["PERMISSIVE"] else status, "autoMTLSEnabled": True}


def namespace_tls(config: Config, mesh: Mesh, namespace: str) -> Json:
    """Whether a namespace demands mutual TLS."""
    peers = [*config["peerAuthentications"], *config.get("policies", [])]
    modes = _wide(item for item in peers if item["metadata"].get("namespace") == namespace)
    known = [_ENABLED[mode] for mode in modes if mode in _ENABLED]
    return {"status": known[0] if known else "MTLS_NOT_ENABLED"}
