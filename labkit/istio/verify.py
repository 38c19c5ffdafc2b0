# SPDX-License-Identifier: Apache-2.0
"""Is all of a release there, and is it well? A table of what is expected, what is found, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import cluster, display
from labkit.cluster import Obj
from labkit.istio.model import Component, Service
from labkit.istio.source import Release

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Item", "Verification", "verify"]


@dataclass(frozen=True)
class Item:
    """One thing a release brings.

    Args:
        kind: Its kind; "CustomResourceDefinitions" stands for all of them.
        name: Its name.
        expected: What the release brings.
        found: What is there; "" if nothing is.
        reason: Why it is not as expected; "" if it is.
        optional: Whether it may be left out: an add-on that the demo profile does not bring.
    """

    kind: str
    name: str
    expected: str
    found: str
    reason: str = ""
    optional: bool = False

    @property
    def ok(self) -> bool:
        """Whether it is as expected, or may be missing and is."""
        return not self.reason or (self.optional and not self.found)


@dataclass(frozen=True)
class Verification(display.Shown):
    """What `verify` saw."""

    version: str
    items: tuple[Item, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as expected."""
        return all(item.ok for item in self.items)

    @property
    def faults(self) -> tuple[Item, ...]:
        """What is not."""
        return tuple(item for item in self.items if not item.ok)

    def table(self) -> pd.DataFrame:
        """One row an item: kind, name, expected, found, reason (str), ok, optional (bool)."""
        import pandas as pd

        columns = ["kind", "name", "expected", "found", "ok", "reason", "optional"]
        return pd.DataFrame([[getattr(item, c) for c in columns] for item in self.items], columns=columns)

    def rich(self) -> display.Rich:
        """As a table to show."""
        rows: list[dict[str, Any]] = [
            {
                "": display.SYMBOLS["note" if item.ok and item.reason else "good" if item.ok else "bad"],
                "Kind": item.kind,
                "Name": item.name,
                "Expected": item.expected,
                "Found": item.found,
                "Why": item.reason,
            }
            for item in self.items
        ]
        good = sum(item.ok for item in self.items)
        caption = f"Istio {self.version}: {good} of {len(self.items)} as expected"
        return display.table(rows, ["", "Kind", "Name", "Expected", "Found", "Why"], caption=caption)


def verify(release: Release) -> Verification:
    """Compare what a release brings with what the cluster has.

    Args:
        release: The release.

    Raises:
        ClusterError: The cluster does not answer.
    """
    items = [_crds(release), *_services(release), *_workloads(release), *_webhooks(release)]
    return Verification(release.version, tuple(items))


def _crds(release: Release) -> Item:
    there = {crd["metadata"]["name"] for crd in cluster.get("crd")}
    wanted = release.facts.crds
    missing = [name for name in wanted if name not in there]
    reason = f"missing: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}" if missing else ""
    count = f"{len(wanted) - len(missing)}"
    return Item("CustomResourceDefinitions", "*.istio.io", str(len(wanted)), count, reason)


def _services(release: Release) -> Iterator[Item]:
    there = {s["metadata"]["name"]: s for s in cluster.get("services", namespace=release.namespace)}
    for service in release.services:
        found = there.get(service.name)
        seen = _ports(found) if found else ""
        reason = "" if seen == service.shown else "other ports" if found else "not there"
        if found and not reason:
            reason = _type(service, found)
        yield Item("Service", service.name, service.shown, seen, reason, _optional(release, service.addon))


def _optional(release: Release, addon: str) -> bool:
    return bool(addon and release.addon_files)


def _ports(service: Obj) -> str:
    return ",".join(f"{p['port']}/{p.get('protocol', 'TCP')}" for p in service["spec"]["ports"])


def _type(expected: Service, found: Obj) -> str:
    # A cluster without load balancers is often given NodePort instead; that is no fault.
    allowed = {expected.type, "NodePort"} if expected.type == "LoadBalancer" else {expected.type}
    seen = found["spec"].get("type", "ClusterIP")
    return "" if seen in allowed else f"type {seen}, not {expected.type}"


def _workloads(release: Release) -> Iterator[Item]:
    seen = {w.name: w for w in cluster.readiness(release.namespace).workloads}
    images = _images(release.namespace)
    for component in release.components:
        optional = _optional(release, component.addon)
        expected = f"{component.ready} {component.status}"
        found = seen.get(component.name)
        if found is None:
            yield Item(component.kind, component.name, expected, "", "not there", optional)
            continue
        ready = component.ready if component.kind == "Job" and found.good else found.containers
        state = component.status if found.good else found.state
        reason = found.reason or (found.state if not found.good else _versions(component, images))
        yield Item(
            component.kind,
            component.name,
            expected,
            f"{ready} {state}".strip(),
            reason,
            _optional(release, component.addon),
        )


def _images(namespace: str) -> dict[str, tuple[str, ...]]:
    return {
        item["metadata"]["name"]: tuple(c["image"] for c in item["spec"]["template"]["spec"]["containers"])
        for item in cluster.get("deployments,jobs", namespace=namespace)
    }


def _versions(component: Component, images: dict[str, tuple[str, ...]]) -> str:
    """Other versions of the same images; another registry is no fault."""
    found = {image.rpartition("/")[2] for image in images.get(component.name, ())}
    wanted = {image.rpartition("/")[2] for image in component.images}
    return f"runs {', '.join(sorted(found - wanted))}" if found and found != wanted else ""


def _webhooks(release: Release) -> Iterator[Item]:
    there = {
        item["metadata"]["name"]: item
        for item in cluster.get("mutatingwebhookconfigurations,validatingwebhookconfigurations")
    }
    for name in release.facts.webhooks:
        found = there.get(name)
        kind = found["kind"] if found else "WebhookConfiguration"
        yield Item(kind, name, "there", "there" if found else "", "" if found else "not there")
