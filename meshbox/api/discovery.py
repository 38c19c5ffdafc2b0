# SPDX-License-Identifier: Apache-2.0
"""What kubectl asks first: which groups, versions and resources are served."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from meshbox.api.resources import Registry, Resource, Served, version_rank
from meshbox.contracts import Obj

__all__ = ["Discovery"]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""Content-Type of aggregated discovery; clients compare it."""

PRIORITIES = {
    "": 18000, "apiregistration.k8s.io": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700, "apiextensions.k8s.io": 16700, "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}  # fmt: skip
"""Built-in groups, the first being the one in which kubectl looks for a name first. What is not here comes last:
"extensions" has nothing that has no better home in another group."""

# verb, kind and group/version of what a subresource is made of, where that is not the resource itself.
_SUBRESOURCES: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "approval": (("get", "patch", "update"), "", "", ""),
    "status": (("get", "patch", "update"), "", "", ""),
    "scale": (("get", "patch", "update"), "Scale", "autoscaling", "v1"),
    "ephemeralcontainers": (("get", "patch", "update"), "", "", ""),
    "resize": (("get", "patch", "update"), "", "", ""),
    "finalize": (("update",), "", "", ""),
    "log": (("get",), "", "", ""),
    "exec": (("create", "get"), "PodExecOptions", "", "v1"),
    "attach": (("create", "get"), "PodAttachOptions", "", "v1"),
    "portforward": (("create", "get"), "PodPortForwardOptions", "", "v1"),
    "proxy": (("create", "delete", "get", "patch", "update"), "{}ProxyOptions", "", "v1"),
    "eviction": (("create",), "Eviction", "policy", "v1"),
    "binding": (("create",), "Binding", "", "v1"),
    "token": (("create",), "TokenRequest", "authentication.k8s.io", "v1"),
}


class Discovery:
    """Discovery documents, made once for each state of the registry.

    Args:
        registry: What is served.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._groups: dict[str, dict[str, list[Served]]] = {}

    def _fresh(self) -> dict[str, dict[str, list[Served]]]:
        if self._revision != self._registry.revision:
            groups: dict[str, dict[str, list[Served]]] = {}
            for served in self._registry.all_served():
                groups.setdefault(served.group, {}).setdefault(served.version, []).append(served)
            self._groups = groups
            self._revision = self._registry.revision
        return self._groups

    def _ordered(self) -> list[str]:
        """Groups in the order in which kubectl looks for a name: built-in ones, then custom ones by name."""
        groups = self._fresh()
        custom = {
            group for group in groups if all(one.resource.crd for served in groups[group].values() for one in served)
        }
        built_in = sorted(groups.keys() - custom, key=lambda group: (-PRIORITIES.get(group, 0), group))
        return [*built_in, *sorted(custom)]

    def _versions(self, group: str) -> list[str]:
        """Versions of a group, preferred first."""
        versions = self._fresh()[group]
        if any(served.resource.crd for all_served in versions.values() for served in all_served):
            return sorted(versions, key=version_rank)
        # A built-in group prefers what its resources prefer.
        preferred = [served.resource.versions[0] for all_served in versions.values() for served in all_served]
        first = [version for version in dict.fromkeys(preferred) if version in versions]
        return [*first, *(version for version in sorted(versions, key=version_rank) if version not in first)]

    def group_versions(self) -> list[str]:
        """Every group and version ("v1", "apps/v1", …)."""
        return [
            f"{group}/{version}" if group else version for group in self._ordered() for version in self._versions(group)
        ]

    def paths(self) -> list[str]:
        """The paths of all that discovery tells of."""
        groups = {f"/apis/{group}" for group in self._fresh() if group}
        versions = {f"/{'apis' if '/' in one else 'api'}/{one}" for one in self.group_versions()}
        return sorted({"/api", "/apis", "/apis/", *groups, *versions})

    def aggregated(self, *, core: bool) -> Obj:
        """`/api` or `/apis` as an APIGroupDiscoveryList."""
        groups = [group for group in self._ordered() if (group == "") is core]
        items = [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": version,
                        "resources": [_aggregated(served) for served in self._groups[group][version]],
                        "freshness": "Current",
                    }
                    for version in self._versions(group)
                ],
            }
            for group in groups
        ]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def core_versions(self, address: str) -> Obj:
        """`/api`."""
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}

    def groups(self) -> Obj:
        """`/apis`."""
        items = [self._group(group) for group in self._ordered() if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": items}

    def group(self, group: str) -> Obj | None:
        """`/apis/<group>`, or None."""
        if not group or group not in self._fresh():
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}

    def _group(self, group: str) -> Obj:
        versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in self._versions(group)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def resources(self, group: str, version: str) -> Obj | None:
        """`/api/v1` or `/apis/<group>/<version>`, or None."""
        served = self._fresh().get(group, {}).get(version)
        if served is None:
            return None
        items = sorted((item for one in served for item in _classic(one)), key=lambda item: str(item["name"]))
        # The old group's list has never said of which version it is itself.
        head = {"kind": "APIResourceList", **({"apiVersion": "v1"} if group else {})}
        return {**head, "groupVersion": f"{group}/{version}" if group else version, "resources": items}


def _subresources(resource: Resource, version: str) -> list[str]:
    names = resource.subresources
    if resource.crd is not None:
        definition: Obj = next((one for one in resource.crd["spec"]["versions"] if one["name"] == version), {})
        names = frozenset(definition.get("subresources") or ())
    return [name for name in sorted(names) if name in _SUBRESOURCES]


def _nicknames(served: Served) -> Obj:
    """Short names and categories; only of a resource's own group, or kubectl warns of names that mean two things."""
    resource = served.resource
    if served.group not in (resource.group, "events.k8s.io"):
        return {}
    names = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {field: value for field, value in names.items() if value}


def _aggregated(served: Served) -> Obj:
    resource = served.resource
    own = {"group": served.group, "version": served.version, "kind": resource.kind}
    item: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": own,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    item |= _nicknames(served)
    subresources = []
    for name in _subresources(resource, served.version):
        verbs, kind, group, version = _SUBRESOURCES[name]
        kind = kind.format(resource.kind)
        response = {"group": group, "version": version, "kind": kind} if kind else own
        subresources.append({"subresource": name, "responseKind": response, "verbs": list(verbs)})
    if subresources:
        item["subresources"] = subresources
    return item


def _classic(served: Served) -> list[Obj]:
    resource = served.resource
    item: Obj = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    item |= _nicknames(served)
    if resource.stored and not resource.computed and resource.crd is None:
        kept = f"{resource.group}/{resource.version}/{resource.kind}".encode()
        item["storageVersionHash"] = base64.b64encode(hashlib.sha256(kept).digest()[:8]).decode()
    items = [item]
    for name in _subresources(resource, served.version):
        verbs, kind, group, version = _SUBRESOURCES[name]
        kind = kind.format(resource.kind)
        sub: Obj = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind or resource.kind,
            "verbs": list(verbs),
        }
        if kind and group:
            sub |= {"group": group, "version": version}
        items.append(sub)
    return items
