# SPDX-License-Identifier: Apache-2.0
"""What learners are told of ServiceEntries that name the host of a Kubernetes Service, which knows it better."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.ground.hosts import DOMAIN, visible
from labkit.ground.names import is_ip
from meshbox.contracts import Objects, View
from meshbox.mesh.kinds import SERVICE_ENTRIES, SERVICES
from meshbox.mesh.snapshot import Snapshot

__all__ = ["entry_warnings", "idle_entries"]


def entry_warnings(objects: Objects, entry: View, *, legacy: bool) -> list[str]:
    """What nothing comes of in a ServiceEntry that somebody writes, by the Services that there are now."""
    found: list[str] = []
    for index, host in enumerate(_hosts(entry)):
        place = _place(host)
        service = objects.find(SERVICES, *place) if place else None
        if service is not None:
            found += _idle(index, entry, service, legacy=legacy)
    return found


def idle_entries(snapshot: Snapshot) -> Iterator[tuple[View, str]]:
    """Each ServiceEntry of which something comes to nothing, and why."""
    inside = [entry for entry in snapshot.all(SERVICE_ENTRIES) if any(map(_place, _hosts(entry)))]
    services: dict[tuple[str, str] | None, View] = (
        {_place_of(one): one for one in snapshot.all(SERVICES)} if inside else {}
    )
    for entry in inside:
        known = [(index, services.get(_place(host))) for index, host in enumerate(_hosts(entry))]
        found = [words for index, one in known if one for words in _idle(index, entry, one, legacy=snapshot.legacy)]
        if found:
            yield entry, "; ".join(found)


def _hosts(entry: View) -> list[str]:
    return [str(host) for host in (entry.get("spec") or {}).get("hosts") or []]


def _place(host: str) -> tuple[str, str] | None:
    """Name and namespace of the Service that would have this host."""
    name, _, rest = host.lower().removesuffix("." + DOMAIN).partition(".")
    return (name, rest) if host.lower().endswith("." + DOMAIN) and rest and "." not in rest else None


def _place_of(service: View) -> tuple[str, str]:
    return service["metadata"]["name"], service["metadata"]["namespace"]


def _idle(index: int, entry: View, service: View, *, legacy: bool) -> Iterator[str]:
    """What of an entry does nothing for its host at `index`, which is a Service's: what `all_hosts` leaves out."""
    spec, meta = entry.get("spec") or {}, service["metadata"]
    exported = (meta.get("annotations") or {}).get("networking.istio.io/exportTo", "")
    if not visible(
        [one.strip() for one in exported.split(",") if one], meta["namespace"], entry["metadata"]["namespace"]
    ):
        # Whoever does not see the Service knows its host by the entry alone.
        return
    where = f"Service {meta['namespace']}/{meta['name']}"
    what = f"spec.hosts[{index}] is the host of {where}"
    if legacy or entry["metadata"]["namespace"] != meta["namespace"] or (spec.get("resolution") or "NONE") == "NONE":
        yield f"{what}, which alone counts: this ServiceEntry adds nothing to it"
        return
    selected = bool((spec.get("workloadSelector") or {}).get("labels"))
    away = [str(one.get("address") or "") for one in spec.get("endpoints") or []]
    if not selected and not away:
        yield f"{what}, and spec.endpoints is empty: this ServiceEntry adds nothing to it"
        return
    for place, address in enumerate(() if selected else away):
        if address and not is_ip(address):
            yield f"{what}, beside whose pods only addresses answer: spec.endpoints[{place}] ({address}) adds nothing"
    names = {port.get("name") or "" for port in service["spec"].get("ports") or []}
    for place, port in enumerate(spec.get("ports") or []):
        if (name := port.get("name") or "") not in names:
            yield f"{what}, which has no port named {name}: spec.ports[{place}] adds nothing to it"
