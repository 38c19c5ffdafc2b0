# SPDX-License-Identifier: Apache-2.0
"""What learners are told of their Gateways: servers that are not served, credentials that cannot be used."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from labkit.ground.labels import selects
from meshbox.contracts import Obj, Objects
from meshbox.mesh.credentials import CredentialError, client_roots_in, pair_in, secret_of
from meshbox.mesh.gateway_api.binding import SERVICE
from meshbox.mesh.gateway_servers import (
    PRIVILEGED,
    LeftOut,
    Served,
    listening_port,
    served_gateways,
    services_before,
    unserved,
)
from meshbox.mesh.kinds import GATEWAYS, PODS, SERVICES
from meshbox.mesh.memo import Identity
from meshbox.mesh.model import Workload, annotations_of
from meshbox.mesh.secrets import credential
from meshbox.mesh.snapshot import Snapshot, by_age
from meshbox.mesh.transport import client_roots, credential_resource, credentials

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServerTLS
    from meshbox.typed.pods import Pod
    from meshbox.typed.services import Secret

__all__ = ["GatewayNotices", "gateway_warnings"]


class GatewayNotices:
    """Says on each Gateway what of it is not played, once for as long as it is so.

    Args:
        objects: Takes the events.
        component: Who says it.
    """

    def __init__(self, objects: Objects, component: str) -> None:
        self._objects = objects
        self._component = component
        self._seen: Hashable = None
        self._told: set[tuple[str, str]] = set()

    def tell(self, snapshot: Snapshot) -> None:
        """Say what is new."""
        if not snapshot.all(GATEWAYS) and not self._told:
            return
        routers = [one for one in snapshot.workloads.values() if one.proxy == "router" and one.ip]
        seen = (snapshot.surroundings, tuple(routers), Identity(snapshot.secrets.values()))
        if seen == self._seen:
            return
        self._seen = seen
        told: set[tuple[str, str]] = set()
        for workload in routers:
            for notice in _notices(snapshot, workload):
                if SERVICE in annotations_of(notice.gateway):
                    # A listener of the Gateway API: no such object is there to speak of, its Gateway's status says it.
                    continue
                mark = str(notice.gateway["metadata"].get("uid") or ""), notice.why
                if mark not in self._told | told:
                    self._objects.event(notice.gateway, "Warning", notice.reason, notice.why, self._component)
                told.add(mark)
        self._told = told


def _notices(snapshot: Snapshot, workload: Workload) -> Iterator[LeftOut]:
    served = served_gateways(snapshot, workload)
    yield from served.left_out
    for server in served:
        if server.ends_tls:
            yield from _of_credentials(snapshot, workload, server)


def _of_credentials(snapshot: Snapshot, workload: Workload, server: Served) -> Iterator[LeftOut]:
    tls = server.tls
    for field, name in _named(tls):
        place = secret_of(credential_resource(name), workload.namespace)
        if place is None:
            continue
        namespace, secret_name, roots = place
        where = f"servers[{server.index}].tls.{field}"
        if namespace != workload.namespace:
            # Nothing else is said of a Secret that whoever wrote the Gateway may not be allowed to see.
            yield LeftOut(
                server.gateway,
                "ReferencedResourceNotFound",
                f"{where}: Secrets of namespace {namespace} are not given to the gateway's pods, so TLS connections to "
                f"port {server.number} are cut; name one of {workload.namespace}, where these run",
            )
            continue
        secret = credential(snapshot.secrets, namespace, secret_name, roots=roots)
        if secret is None:
            yield LeftOut(
                server.gateway,
                "ReferencedResourceNotFound",
                f"{where}: there is no Secret {namespace}/{secret_name}, so TLS connections to port {server.number} "
                "are cut; create it there, in the namespace of the gateway's pods",
            )
        elif problem := _problem(secret, roots=roots):
            meta = secret["metadata"]
            yield LeftOut(
                server.gateway,
                "InvalidGatewayCredential",
                f"{where}: Secret {meta['namespace']}/{meta['name']} {problem}; TLS connections to port "
                f"{server.number} go on with what was there before, and are cut where nothing was: mend the Secret",
            )


def _named(tls: ServerTLS) -> Iterator[tuple[str, str]]:
    """The credentials that a server names, with the fields."""
    if tls.get("mode") == "ISTIO_MUTUAL":
        return
    field = "credentialNames" if tls.get("credentialNames") else "credentialName"
    yield from ((field, name) for name in credentials(tls))
    if roots := client_roots(tls):
        yield "caCertCredentialName" if tls.get("caCertCredentialName") else field, roots


def _problem(secret: Secret, *, roots: bool) -> str:
    try:
        if roots:
            client_roots_in(secret)
        else:
            pair_in(secret)
    except CredentialError as error:
        return str(error)
    return ""


def gateway_warnings(objects: Objects, gateway: Obj, *, legacy: bool) -> list[str]:
    """What can be known of a Gateway while it is applied: ports on which no pod that it chooses may listen.

    Args:
        objects: The cluster's objects.
        gateway: The Gateway.
        legacy: Whether Istio 1.2's rules apply.
    """
    spec = gateway.get("spec") or {}
    low = [
        (index, number)
        for index, server in enumerate(spec.get("servers") or [])
        if isinstance(number := ((server or {}).get("port") or {}).get("number"), int) and number < PRIVILEGED
    ]
    if legacy or not low:
        return []
    everything: list[Any] = objects.list(PODS)
    pods = [pod for pod in everything if selects(spec.get("selector"), pod["metadata"].get("labels"))]
    found: list[str] = []
    for pod in pods:
        workload = Workload.of(pod)
        if workload.proxy == "router" and workload.unprivileged:
            found += _warnings(objects, pod, workload, low)
    return list(dict.fromkeys(found))


def _warnings(objects: Objects, pod: Pod, workload: Workload, low: Iterable[tuple[int, int]]) -> Iterator[str]:
    everything: list[Any] = objects.list(SERVICES, workload.namespace)
    services = services_before(by_age(everything), workload.namespace, workload.labels)
    for index, number in low:
        port = listening_port(number, services, pod["spec"])
        if port < PRIVILEGED:
            yield unserved(f"servers[{index}] (port {number})", number, services, workload.namespace, port)
