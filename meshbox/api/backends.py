# SPDX-License-Identifier: Apache-2.0
"""A pod behind a Service, for whom the API server itself connects to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from meshbox.api.refusals import quoted
from meshbox.api.store import Store
from meshbox.contracts import Obj

__all__ = ["NoBackendError", "backend", "of_this_machine"]

_SLICES = "endpointslices.discovery.k8s.io"


class NoBackendError(Exception):
    """A Service, or a port of it, with nobody behind; the text is the API server's."""


def of_this_machine(address: str) -> bool:
    """Whether an address is a loopback one: the sandbox connects to no other."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def backend(store: Store, namespace: str, name: str, port: str) -> tuple[str, int]:
    """Address and port of a ready endpoint.

    Args:
        store: The cluster's objects.
        namespace: Of the Service.
        name: Of the Service.
        port: Number or name of one of its ports; "": the only one.

    Raises:
        NoBackendError: There is none.
    """
    found = store.entry("services", (namespace, name))
    if found is None:
        raise NoBackendError(f"service {quoted(name)} not found")
    ports: list[Obj] = (found.obj.get("spec") or {}).get("ports") or []
    chosen = [one for one in ports if not port or port in (str(one.get("port")), one.get("name"))]
    if port and not port.isdigit() and not chosen:
        # A name is looked for among the endpoints, not in the Service.
        raise NoBackendError(f"no endpoints available for service {quoted(f'{name}:{port}')}")
    if not chosen or (not port and len(ports) > 1):
        said = port if port.isdigit() else quoted(port)
        raise NoBackendError(f"no service port {said} found for service {quoted(name)}")
    place = next(_ready(store, namespace, name, chosen[0].get("name") or ""), None)
    if place is None:
        raise NoBackendError(f"no endpoints available for service {quoted(name)}")
    return place


def _ready(store: Store, namespace: str, name: str, port_name: str) -> Iterator[tuple[str, int]]:
    known = store.entry("endpoints", (namespace, name))
    for subset in (known.obj.get("subsets") or ()) if known is not None else ():
        for port in subset.get("ports") or ():
            if (port.get("name") or "") == port_name:
                yield from ((one["ip"], int(port["port"])) for one in subset.get("addresses") or ())
    for entry in store.entries(_SLICES, namespace):
        if (entry.obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        for port in entry.obj.get("ports") or ():
            if (port.get("name") or "") != port_name:
                continue
            for one in entry.obj.get("endpoints") or ():
                if one.get("addresses") and (one.get("conditions") or {}).get("ready") is not False:
                    yield one["addresses"][0], int(port["port"])
