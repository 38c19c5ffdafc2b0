# SPDX-License-Identifier: Apache-2.0
"""Istio's objects as the console lists, shows and saves them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit.ground import reading
from meshbox.images.kiali.mesh import SYSTEM, Json, Mesh, selects
from meshbox.images.kiali.permissions import Permissions
from meshbox.images.kiali.sources import Kubernetes, SourceError

__all__ = [
    "KINDS",
    "NETWORKING",
    "Config",
    "Kind",
    "auto_mtls",
    "config_of",
    "details",
    "for_workload",
    "kind_of",
    "mesh_tls",
    "namespace_tls",
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

    @property
    def kind(self) -> str:
        """Its name in objects, e.g. "VirtualService"."""
        return self.single[0].upper() + self.single[1:]


NETWORKING, _SECURITY = "networking.istio.io", "security.istio.io"
KINDS = (
    Kind("gateways", "gateway", NETWORKING),
    Kind("virtualServices", "virtualService", NETWORKING),
    Kind("destinationRules", "destinationRule", NETWORKING),
    Kind("serviceEntries", "serviceEntry", NETWORKING),
    Kind("workloadEntries", "workloadEntry", NETWORKING),
    Kind("envoyFilters", "envoyFilter", NETWORKING),
    Kind("sidecars", "sidecar", NETWORKING),
    Kind("authorizationPolicies", "authorizationPolicy", _SECURITY),
    Kind("peerAuthentications", "peerAuthentication", _SECURITY),
    Kind("requestAuthentications", "requestAuthentication", _SECURITY),
)
_WITH_PERMISSIONS = {"virtualServices", "destinationRules"}

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


def page(config: Config, namespace: str, wanted: Iterable[str], validations: Json, may: Permissions) -> Json:
    """The list of a namespace's objects.

    Args:
        config: All objects.
        namespace: Which namespace.
        wanted: Plurals as paths name them; none for all.
        validations: Type → name → validation.
        may: What may be done with them.

    Raises:
        SourceError: the API server cannot be reached.
    """
    names = set(wanted)
    allowed = {kind.plural: may.of(namespace, kind.group, kind.plural) for kind in KINDS}
    answer: Json = {"namespace": {"name": namespace}, "permissions": allowed}
    for kind in KINDS:
        items = within(config, kind, namespace) if not names or kind.plural in names else []
        listed = {"permissions": allowed[kind.plural], "items": items}
        answer[kind.listed] = listed if kind.listed in _WITH_PERMISSIONS else items
    return answer | {"validations": validations}


def details(may: Permissions, kind: Kind, namespace: str, found: Json) -> Json:
    """One object's page: every kind has a place in it, and one is filled."""
    answer: Json = {"namespace": {"name": namespace}, "objectType": kind.plural}
    answer["permissions"] = may.of(namespace, kind.group, kind.plural)
    answer |= {item.single: None for item in KINDS}
    return answer | {kind.single: found, "validation": None, "references": None}


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


def auto_mtls(kubernetes: Kubernetes) -> bool:
    """Whether proxies use mutual TLS by themselves, as the mesh's configuration says; Istio 1.2 did not have that.

    Raises:
        SourceError: the API server cannot be reached.
    """
    if not kubernetes.resources(_SECURITY):
        return False
    found = kubernetes.get(f"/api/v1/namespaces/{SYSTEM}/configmaps/istio") or {}
    try:
        mesh = reading.yaml_value(str((found.get("data") or {}).get("mesh") or "").encode())
    except reading.ReadingError:
        mesh = None
    return not isinstance(mesh, dict) or mesh.get("enableAutoMtls") is not False


def mesh_tls(config: Config, auto: bool) -> Json:
    """Whether the whole mesh demands mutual TLS.

    Args:
        config: All objects.
        auto: Whether proxies use it by themselves.
    """
    peers = [item for item in config["peerAuthentications"] if item["metadata"]["namespace"] == SYSTEM]
    modes = _wide([*peers, *config.get("meshpolicies", [])])
    known = [_ENABLED[mode] for mode in modes if mode in _ENABLED]
    # Without a word from the user the proxies take both; Kiali calls that not enabled.
    status = known[0] if known else "MTLS_NOT_ENABLED"
    return {"status": "MTLS_NOT_ENABLED" if modes == ["PERMISSIVE"] else status, "autoMTLSEnabled": auto}


def namespace_tls(config: Config, mesh: Mesh, namespace: str) -> Json:
    """Whether a namespace demands mutual TLS."""
    peers = [*config["peerAuthentications"], *config.get("policies", [])]
    modes = _wide(item for item in peers if item["metadata"].get("namespace") == namespace)
    known = [_ENABLED[mode] for mode in modes if mode in _ENABLED]
    return {"status": known[0] if known else "MTLS_NOT_ENABLED"}
