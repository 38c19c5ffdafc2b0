# SPDX-License-Identifier: Apache-2.0
"""What Istio's objects may name: hosts, subsets, workloads, namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labkit.ground.hosts import DOMAIN, fqdn, within
from meshbox.images.kiali.checks.findings import Finding
from meshbox.images.kiali.istio import Config, whole
from meshbox.images.kiali.mesh import SYSTEM, Mesh, Workload, selects

__all__ = ["Registry"]


@dataclass(frozen=True)
class Registry:
    """The cluster, as checks ask about it.

    Args:
        mesh: What runs.
        config: Istio's objects, of all namespaces.
        auto_mtls: Whether proxies use mutual TLS by themselves wherever the other side has a proxy.
    """

    mesh: Mesh
    config: Config
    auto_mtls: bool = True

    def items(self, listed: str, namespace: str = "") -> list[Any]:
        """The objects of a kind, named as in lists, of a namespace or of all."""
        found = self.config.get(listed, [])
        return [one for one in found if namespace in ("", one["metadata"].get("namespace"))]

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """The names of all namespaces."""
        return frozenset(one["metadata"]["name"] for one in self.mesh.objects["namespaces"])

    @cached_property
    def _services(self) -> dict[str, Any]:
        services = self.mesh.objects["services"]
        return {fqdn(one["metadata"]["name"], one["metadata"]["namespace"]): one for one in services}

    def subsets(self, namespace: str) -> set[tuple[str, str]]:
        """Host and name of every subset that a DestinationRule of a namespace defines."""
        specs = [one.get("spec") or {} for one in self.items("destinationRules", namespace)]
        return {
            (self.host(str(spec.get("host") or ""), namespace), str(subset.get("name")))
            for spec in specs
            for subset in spec.get("subsets") or []
        }

    @cached_property
    def gateways(self) -> frozenset[str]:
        """Every Gateway, as "namespace/name"."""
        return frozenset(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in self.config["gateways"])

    def host(self, written: str, namespace: str) -> str:
        """A host as an object of `namespace` names it, fully qualified: Kiali also takes "reviews.bookinfo"."""
        name = fqdn(whole(written), namespace)
        short, dot, place = name.partition(".")
        return f"{short}.{place}.{DOMAIN}" if dot and place in self.namespaces else name

    def has(self, written: str, namespace: str) -> bool:
        """Whether a Service or ServiceEntry of the object's own namespace has a host: Kiali looks in no other."""
        name = self.host(written, namespace)
        return (name in self._services and not self.elsewhere(written, namespace)) or any(
            within(one, str(host).lower())
            for entry in self.items("serviceEntries", namespace)
            for host in (entry.get("spec") or {}).get("hosts") or []
            for one in (name, written)
        )

    def elsewhere(self, written: str, namespace: str) -> bool:
        """Whether a host says by its form that it is a Service of another namespace."""
        _, place, rest = (*self.host(written, namespace).split(".", 2), "", "")[:3]
        return rest == DOMAIN and place != namespace

    def unmatched(self, written: str, namespace: str, code: str) -> str:
        """What to say of a host that is not there: `code`, or of another namespace's that nobody looked."""
        return "KIA0001" if self.elsewhere(written, namespace) else code

    def labels_behind(self, host: str) -> list[Mapping[str, str]]:
        """The labels of the workloads of a Service, fully qualified; none where it is none."""
        service = self._services.get(host)
        return [one.labels for one in self.mesh.workloads_of(service)] if service else []

    def reach(self, namespace: str) -> list[Workload]:
        """The workloads that a selector of an object in `namespace` may choose: the root namespace's choose any."""
        return self.mesh.workloads("" if namespace == SYSTEM else namespace)

    def unselected(self, labels: Mapping[str, str] | None, namespace: str, path: str) -> Iterator[Finding]:
        """What is wrong with a selector that chooses nothing."""
        if labels and not any(selects(labels, one.labels) for one in self.reach(namespace)):
            yield Finding("KIA0004", path)
