# SPDX-License-Identifier: Apache-2.0
"""Workloads that are no pods: what a WorkloadEntry, or an endpoint in a ServiceEntry, tells of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from labkit.ground.labels import selects
from labkit.ground.names import is_ip
from meshbox.contracts import View
from meshbox.mesh.locality import of_labels
from meshbox.mesh.model import Endpoint, Workload, annotations_of

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import WorkloadEntry

__all__ = ["Machine", "chosen", "machines"]

_TLS_MODE = "security.istio.io/tlsMode"
_PROBED = "proxy.istio.io/health-checks-enabled"


class Machine(Struct, frozen=True):
    """A workload outside of Kubernetes.

    Args:
        workload: As proxies and telemetry see it; its `proxy` is "sidecar" where it is met with mTLS.
        ports: The port behind each port of a Service that it names otherwise.
        weight: Its share, next to others.
        network: The network that it is said to be in.
    """

    workload: Workload
    ports: Mapping[str, int]
    weight: int
    network: str

    @classmethod
    def of(cls, spec: WorkloadEntry, namespace: str, name: str, trust_domain: str) -> Machine:
        """What `spec` of an object in `namespace` tells, in a mesh of this trust domain."""
        labels, account = spec.get("labels") or {}, spec.get("serviceAccount") or ""
        # Who has an account of the mesh's has a proxy that shows it, unless a label says otherwise.
        secured = labels.get(_TLS_MODE, "istio" if account else "disabled") == "istio"
        workload = Workload(
            pod=name,
            namespace=namespace,
            ip=spec.get("address") or "",
            labels=labels,
            service_account=account,
            name=name,
            kind="workloadentry",
            proxy="sidecar" if secured else "",
            locality=(spec.get("locality") or "").strip("/") or of_labels(labels),
            trust_domain=trust_domain,
        )
        return cls(workload, spec.get("ports") or {}, spec.get("weight") or 1, spec.get("network") or "")

    def endpoint(self, port: str, number: int, *, named: bool = True) -> Endpoint:
        """It, behind a Service's port.

        Args:
            port: The port's name.
            number: The port behind it, unless it has its own.
            named: Whether telemetry knows it by its name.
        """
        workload = self.workload
        return Endpoint(
            workload.ip,
            self.ports.get(port) or number,
            workload.labels,
            workload if named or workload.proxy else None,
            self.weight,
            workload.locality,
            self.network,
        )


def machines(objects: Iterable[View], trust_domain: str) -> list[Machine]:
    """What WorkloadEntries tell; those that somebody probes, of the healthy ones only."""
    found = []
    for obj in objects:
        meta, spec = obj["metadata"], cast("WorkloadEntry", obj.get("spec") or {})
        # Without an address one is reached through its network's gateway, of which a single cluster has none.
        if spec.get("address") and _healthy(obj):
            found.append(Machine.of(spec, meta["namespace"], meta["name"], trust_domain))
    return found


def _healthy(obj: View) -> bool:
    if annotations_of(obj).get(_PROBED) != "true":
        return True
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Healthy" and one.get("status") == "True" for one in conditions)


def chosen(
    selector: Mapping[str, str], namespace: str, outside: Iterable[Machine], *, by_name: bool = False
) -> list[Machine]:
    """The machines that a selector means; one with a name or a socket for its address only where names are asked.

    Args:
        selector: Labels that they have.
        namespace: Where they are.
        outside: All machines.
        by_name: Whether names are asked.
    """
    return [
        one
        for one in outside
        if one.workload.namespace == namespace
        and selects(selector, one.workload.labels)
        and (by_name or is_ip(one.workload.ip))
    ]
