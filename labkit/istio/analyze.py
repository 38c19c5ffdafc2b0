# SPDX-License-Identifier: Apache-2.0
"""Faults in Istio's objects that no schema shows: references to nothing, missing sidecars.

Codes and names are those of `istioctl analyze`, so that what is read here can be looked up there; the 1.2.2 of the
walk-through had no such command yet.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from labkit.cluster import Obj
from labkit.ground.hosts import fqdn, gateway_key
from labkit.ground.labels import selects, written
from labkit.ground.routing import MESH, Hosts, destinations, subsets_by_host
from labkit.ground.unreachable import unused

if TYPE_CHECKING:
    from labkit.ground.routing import Named
    from labkit.ground.typed.destination_rules import DestinationRule
    from labkit.ground.typed.hosts import Gateway
    from labkit.ground.typed.virtual_services import VirtualService

__all__ = ["KINDS", "Finding", "analyze", "by_kind", "credentials"]

KINDS = (
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gateways.networking.istio.io",
    "serviceentries.networking.istio.io",
)
"""Istio's kinds that `analyze` reads; of Kubernetes' it reads namespaces, services and pods."""

_NEVER_INJECTED = {"kube-system", "kube-public", "kube-node-lease", "istio-system", "local-path-storage"}


Level = Literal["Error", "Warning", "Info"]


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Args:
        level: "Error", "Warning" or "Info".
        code: istioctl's code, "IST0101"; "" where it has none.
        where: The object: "VirtualService bookinfo/reviews".
        message: What is wrong.
        next_step: What to do about it.
    """

    level: Level
    code: str
    where: str
    message: str
    next_step: str

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        return f"{self.level}{code} ({self.where}) {self.message}"


def by_kind(objects: Iterable[Obj]) -> dict[str, list[Any]]:
    """Objects by their kind."""
    found: dict[str, list[Any]] = {}
    for item in objects:
        found.setdefault(item["kind"], []).append(item)
    return found


def analyze(
    objects: Iterable[Obj], namespaces: Iterable[str] = (), *, secrets: Collection[tuple[str, str]] | None = None
) -> list[Finding]:
    """What is wrong with objects as they refer to each other.

    Args:
        objects: All of the cluster's VirtualServices, DestinationRules, Gateways, ServiceEntries, Services, pods and
            Namespaces: what is not among them does not exist.
        namespaces: Only findings in these; all by default.
        secrets: Namespace and name of each Secret; None where nobody knows them: then nothing is said of credentials.
    """
    known = _Known(by_kind(objects), secrets)
    found = [*known.virtual_services(), *known.destination_rules(), *known.gateways(), *known.injection()]
    wanted = set(namespaces)
    return list(dict.fromkeys(finding for namespace, finding in found if not wanted or namespace in wanted))


class _Known:
    def __init__(self, objects: dict[str, list[Any]], secrets: Collection[tuple[str, str]] | None) -> None:
        self.objects = objects
        self.secrets = secrets
        self.routes: list[VirtualService] = objects.get("VirtualService", [])
        self.rules: list[DestinationRule] = objects.get("DestinationRule", [])
        self.doors: list[Gateway] = objects.get("Gateway", [])
        self.hosts = Hosts(objects.get("Service", []), objects.get("ServiceEntry", []))
        self.gateway_names = {f"{namespace(g)}/{name(g)}" for g in self.doors}
        self.subsets = subsets_by_host(self.rules)

    def virtual_services(self) -> Iterator[tuple[str, Finding]]:
        for item in self.routes:
            there, where = namespace(item), f"VirtualService {namespace(item)}/{name(item)}"
            for gateway in item["spec"].get("gateways") or []:
                reference = gateway_key(gateway, there)
                if reference != MESH and reference not in self.gateway_names:
                    step = f"kubectl get gateways.networking.istio.io -n {reference.split('/')[0]}"
                    yield there, _missing(where, "gateway", gateway, step)
            for one in unused(item["spec"]):
                # Istio's own words and levels: a rule that nobody reaches is worse than a match that says nothing new.
                step = "Rules are asked from the top: put what is more specific first, or take this out."
                level: Level = "Info" if one.match else "Warning"
                yield (
                    there,
                    Finding(level, "IST0131" if one.match else "IST0130", where, f"VirtualService {one}.", step),
                )
            for target in destinations(item):
                if not self.hosts.has(target.host, there):
                    yield there, _missing(where, "host", target.written, f"kubectl get services -n {there}")
                elif target.subset and (target.host, target.subset) not in self.subsets:
                    what = f"{target.written}+{target.subset}"
                    step = f"Apply the DestinationRule that defines subset {target.subset} first"
                    step += "; until then callers get 503."
                    yield there, _missing(where, "host+subset in destinationrule", what, step, command=False)

    def destination_rules(self) -> Iterator[tuple[str, Finding]]:
        for item in self.rules:
            there, host = namespace(item), item["spec"].get("host", "")
            if not self.hosts.has(fqdn(host, there), there):
                where = f"DestinationRule {there}/{name(item)}"
                yield there, _missing(where, "host", host, f"kubectl get services -n {there}")

    def gateways(self) -> Iterator[tuple[str, Finding]]:
        pods = self.objects.get("Pod", [])
        for item in self.doors:
            selector = item["spec"].get("selector") or {}
            where = f"Gateway {namespace(item)}/{name(item)}"
            chosen = {namespace(pod) for pod in pods if selects(selector, labels(pod))}
            if selector and not chosen:
                shown = written({"matchLabels": selector})
                yield namespace(item), _missing(where, "selector", shown, f"kubectl get pods -A -l {shown}")
            # A gateway is given the Secrets of its pods' namespace, wherever the Gateway is.
            for credential, there in itertools.product(credentials(item), sorted(chosen)):
                if self.secrets is not None and (there, credential) not in self.secrets:
                    step = f"kubectl get secrets -n {there}"
                    yield namespace(item), _missing(where, "credentialName", credential, step)

    def injection(self) -> Iterator[tuple[str, Finding]]:
        enabled = {}
        for item in self.objects.get("Namespace", []):
            enabled[name(item)] = labels(item).get("istio-injection") or ("enabled" if _revision(item) else "")
        silent = set()
        for pod in self.objects.get("Pod", []):
            there, state = namespace(pod), enabled.get(namespace(pod), "")
            if there in _NEVER_INJECTED or state == "disabled" or has_sidecar(pod) or not _wants_sidecar(pod):
                continue
            if state == "enabled":
                step = "It was made before the label: make it anew (`kubectl rollout restart` or delete the pod)."
                message = "The pod is missing the Istio proxy, though its namespace asks for it."
                yield there, Finding("Warning", "IST0103", f"Pod {there}/{name(pod)}", message, step)
            elif there not in silent:
                silent.add(there)
                step = f"`kubectl label namespace {there} istio-injection=enabled` (or =disabled if that is meant)."
                message = "The namespace is not enabled for injection: its pods are outside the mesh."
                yield there, Finding("Info", "IST0102", f"Namespace {there}", message, step)


def credentials(gateway: Gateway) -> list[str]:
    """The Secrets that the servers of a Gateway name for their certificates."""
    tls = [server.get("tls") or {} for server in gateway["spec"].get("servers") or []]
    named = [name for one in tls for name in one.get("credentialNames") or [one.get("credentialName") or ""]]
    return list(dict.fromkeys(name for name in named if name and "://" not in name))


def name(item: Named) -> str:
    """Its name."""
    return str(item["metadata"]["name"])


def namespace(item: Named) -> str:
    """Its namespace."""
    return str(item["metadata"].get("namespace", ""))


def labels(item: Named) -> dict[str, str]:
    """Its labels."""
    return item["metadata"].get("labels") or {}


def has_sidecar(pod: Obj) -> bool:
    """Whether one of its containers is the sidecar."""
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    return any(container["name"] == "istio-proxy" for container in containers)


def _revision(item: Named) -> str:
    return labels(item).get("istio.io/rev", "")


def _wants_sidecar(pod: Any) -> bool:
    told = {**(pod["metadata"].get("annotations") or {}), **labels(pod)}
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return told.get("sidecar.istio.io/inject") != "false" and not pod["spec"].get("hostNetwork") and not over


def _missing(where: str, what: str, reference: str, step: str, *, command: bool = True) -> Finding:
    step = f"`{step}` lists those there are; check spelling and namespace." if command else step
    return Finding("Error", "IST0101", where, f'Referenced {what} not found: "{reference}"', step)
