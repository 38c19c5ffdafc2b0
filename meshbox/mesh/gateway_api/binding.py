# SPDX-License-Identifier: Apache-2.0
"""By which Services a Gateway is reached: those that Istio makes for it, or those that its addresses name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labkit.ground.labels import selects
from meshbox.contracts import View
from meshbox.mesh.model import Workload, annotations_of

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import Gateway

__all__ = [
    "NAME_OVERRIDE",
    "SERVICE",
    "chosen",
    "managed",
    "own_name",
    "permitted_credential",
    "services_of",
    "skipped",
]

NAME_OVERRIDE = "gateway.istio.io/name-override"
SERVICE = "internal.istio.io/gateway-service"
"""On a Gateway of Istio's that stands for a listener: the Service, "namespace/name", whose pods play it."""

_DOMAIN = ".svc.cluster.local"
_Place = tuple[str, str]


def managed(gateway: View) -> bool:
    """Whether Istio makes a Deployment and a Service for a Gateway: unless addresses name something that is there."""
    addresses = gateway["spec"].get("addresses") or []
    return not addresses or (len(addresses) == 1 and (addresses[0].get("type") or "IPAddress") == "IPAddress")


def own_name(gateway: View) -> str:
    """The name of what Istio makes for a Gateway."""
    given: str = annotations_of(gateway).get(NAME_OVERRIDE, "")
    return given or f"{gateway['metadata']['name']}-{gateway['spec']['gatewayClassName']}"


def services_of(gateway: View) -> list[_Place]:
    """Namespace and name of each Service by which a Gateway is reached; the namespace is "" for other hosts."""
    namespace = gateway["metadata"]["namespace"]
    if managed(gateway):
        return [(namespace, own_name(gateway))]
    found: list[_Place] = []
    for address in gateway["spec"]["addresses"]:
        value = str(address.get("value") or "")
        if address.get("type") != "Hostname" or not value:
            continue
        name, _, where = value.removesuffix(_DOMAIN).partition(".")
        if "." not in value:
            found.append((namespace, value))
        elif value.endswith(_DOMAIN) and where and "." not in where:
            found.append((where, name))
        else:
            found.append(("", value))
    return found


def skipped(gateway: View) -> list[str]:
    """The addresses of a Gateway that Istio cannot be reached by."""
    if managed(gateway):
        return []
    addresses = gateway["spec"]["addresses"]
    return [str(one.get("value") or "") for one in addresses if one.get("type") != "Hostname"]


def chosen(gateway: View, workload: Workload) -> bool:
    """Whether a Gateway of Istio's, whose selector chooses a pod, is played there.

    One that stands for a listener is only played by pods behind its Service, which are in the Service's namespace.
    """
    service: str = annotations_of(gateway).get(SERVICE, "")
    return not service or service.partition("/")[0] == workload.namespace


def permitted_credential(gateways: Iterable[Gateway], workload: Workload, credential: str) -> bool:
    """Whether a listener that a pod plays names a credential, which may lie in another namespace.

    Args:
        gateways: Those that listeners are played as, never users' own: nobody has looked at what these may name.
        workload: The pod.
        credential: What its proxy asks for.
    """
    for gateway in gateways:
        if not chosen(gateway, workload) or not selects(gateway["spec"].get("selector"), workload.labels):
            continue
        for server in gateway["spec"].get("servers") or []:
            tls = server.get("tls") or {}
            named = [tls.get("credentialName"), tls.get("caCertCredentialName"), *(tls.get("credentialNames") or [])]
            if credential in named:
                return True
    return False
