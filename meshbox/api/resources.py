# SPDX-License-Identifier: Apache-2.0
"""Which resources the API serves: the built-in ones, in the versions of the Kubernetes that is played, and custom ones.

Objects are kept in one version each, the hub; `conversion` turns them into the other versions served.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from msgspec import Struct

from meshbox.api.resource_table import BUILTIN, EXTENSIONS, Row
from meshbox.contracts import Obj

__all__ = ["Registry", "Resource", "Served", "custom_resource", "deprecated"]

_YOUNG = frozenset({"ephemeralcontainers", "resize"})
"""Subresources that Kubernetes 1.14 does not have."""
STANDARD_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""Of custom resources: as Kubernetes lists them, and kubectl prints them."""


@dataclass(frozen=True)
class Resource:
    """One kind of object.

    Args:
        name: kubectl's name: plural, dot, group ("deployments.apps"; core resources have no group).
        group: API group, "" for core.
        version: The hub version, in which objects are kept and in-process callers see them.
        versions: All versions served, preferred first.
        kind: e.g. "Deployment".
        plural: e.g. "deployments".
        singular: e.g. "deployment".
        short_names: e.g. ("deploy",).
        categories: e.g. ("all",).
        namespaced: Whether objects live in namespaces.
        subresources: e.g. {"status", "scale"}.
        verbs: What may be done; review kinds allow only "create".
        counts_generation: Whether `metadata.generation` counts changes of the spec.
        selected: The name under which field selectors know its fields, where that is another one.
        crd: The definition of a custom resource (hub version), else None.
    """

    name: str
    group: str
    version: str
    versions: tuple[str, ...]
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    verbs: tuple[str, ...] = STANDARD_VERBS
    counts_generation: bool = False
    list_kind: str = ""
    selected: str = field(default="", compare=False)
    crd: Obj | None = field(default=None, compare=False, repr=False)

    @property
    def api_version(self) -> str:
        """The hub's apiVersion."""
        return group_version(self.group, self.version)

    @property
    def computed(self) -> bool:
        """Whether its objects are made when they are asked for, and nobody can write them."""
        return self.verbs == ("get", "list")

    @property
    def stored(self) -> bool:
        """Whether objects of it exist at all (review kinds are only ever answered)."""
        return "get" in self.verbs


class Served(Struct, frozen=True):
    """A resource as one group and version serves it: `extensions/v1beta1` serves `deployments.apps` too."""

    resource: Resource
    group: str
    version: str

    @property
    def api_version(self) -> str:
        """The apiVersion clients of this path see."""
        return group_version(self.group, self.version)

    @property
    def hub(self) -> bool:
        """Whether objects here look exactly as they are kept."""
        return self.version == self.resource.version and self.group == self.resource.group


def group_version(group: str, version: str) -> str:
    """apiVersion of a group and version."""
    return f"{group}/{version}" if group else version


def resource_name(plural: str, group: str) -> str:
    """kubectl's name of a resource."""
    return f"{plural}.{group}" if group else plural


def custom_resource(crd: Obj) -> Resource:
    """The resource that a CustomResourceDefinition (v1) defines."""
    spec = crd["spec"]
    names = spec["names"]
    versions = spec["versions"]
    storage = next((v["name"] for v in versions if v.get("storage")), versions[0]["name"])
    served = sorted((v["name"] for v in versions if v.get("served")), key=version_rank)
    subresources = {name for v in versions for name in v.get("subresources") or {}}
    return Resource(
        name=resource_name(names["plural"], spec["group"]),
        group=spec["group"],
        version=storage,
        versions=tuple(served),
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=spec.get("scope") == "Namespaced",
        subresources=frozenset(subresources),
        verbs=_CUSTOM_VERBS,
        counts_generation=True,
        list_kind=names.get("listKind") or names["kind"] + "List",
        crd=crd,
    )


def deprecated(served: Served) -> str:
    """What clients of a custom resource's version are told where its definition calls it deprecated; else ""."""
    versions = (served.resource.crd or {"spec": {"versions": ()}})["spec"]["versions"]
    own: Obj = next((one for one in versions if one["name"] == served.version), {})
    if not own.get("deprecated"):
        return ""
    if (said := own.get("deprecationWarning")) is not None:
        return str(said)
    kind, rank = served.resource.kind, version_rank(served.version)
    better = [one["name"] for one in versions if one.get("served") and not one.get("deprecated")]
    better = sorted((name for name in better if version_rank(name) < rank), key=version_rank)
    instead = f"; use {served.group}/{better[0]} {kind}" if better else ""
    return f"{served.api_version} {kind} is deprecated{instead}"


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sort key of Kubernetes' version priority: v2, v1, v2beta1, v1beta2, v1alpha1, then anything else by name."""
    head = version.removeprefix("v")
    digits = len(head) - len(head.lstrip("0123456789"))
    if head == version or not digits:
        return (3, 0, 0, version)
    major, rest = int(head[:digits]), head[digits:]
    for stage, word in ((0, ""), (1, "beta"), (2, "alpha")):
        tail = rest.removeprefix(word)
        if rest.startswith(word) and (tail.isdigit() if word else not rest):
            return (stage, -major, -int(tail) if word else 0, "")
    return (3, 0, 0, version)


_EXTENDING = frozenset({"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"})
"""Groups whose resources change what the API server serves or takes."""


def _verbs(row: Row) -> tuple[str, ...]:
    if row.review or row.computed:
        return ("create",) if row.review else ("get", "list")
    # Namespaces go one by one.
    return tuple(verb for verb in STANDARD_VERBS if row.kind != "Namespace" or verb != "deletecollection")


def _builtin(row: Row, legacy: bool) -> Resource:
    versions = row.legacy if legacy and row.legacy else row.versions
    return Resource(
        name=resource_name(row.plural, row.group),
        group=row.group,
        version=row.versions[0],
        versions=versions,
        kind=row.kind,
        plural=row.plural,
        singular=row.kind.lower(),
        short_names=row.short,
        categories=("all",) if row.all else ("api-extensions",) if row.group in _EXTENDING and not legacy else (),
        namespaced=row.namespaced,
        subresources=frozenset(row.sub) - (_YOUNG if legacy else frozenset()),
        verbs=_verbs(row),
        counts_generation=row.generation and not (legacy and row.kind == "Pod"),
        list_kind=row.kind + "List",
    )


class Registry:
    """What is served now.

    Args:
        legacy: Whether to play Kubernetes 1.14, which also serves the beta versions of its day.
    """

    def __init__(self, *, legacy: bool) -> None:
        self.legacy = legacy
        self._by_name: dict[str, Resource] = {}
        self._served: dict[tuple[str, str, str], Served] = {}
        self._aliases: dict[str, str] = {"events.events.k8s.io": "events"}
        self.revision = 0
        for row in BUILTIN:
            if row.legacy is None and legacy:
                continue
            self._add(_builtin(row, legacy))
        self._serve("events.k8s.io", "v1", replace(self._by_name["events"], selected="events.events.k8s.io"))
        if legacy:
            for name in EXTENSIONS:
                resource = self._by_name[name]
                self._aliases[resource_name(resource.plural, "extensions")] = name
                self._serve("extensions", "v1beta1", resource)

    def _add(self, resource: Resource) -> None:
        self._by_name[resource.name] = resource
        for version in resource.versions:
            self._serve(resource.group, version, resource)
        self.revision += 1

    def _serve(self, group: str, version: str, resource: Resource) -> None:
        self._served[group, version, resource.plural] = Served(resource, group, version)

    def get(self, name: str) -> Resource | None:
        """The resource called `name` (kubectl's name), or None where it is not served."""
        return self._by_name.get(name) or self._by_name.get(self._aliases.get(name, ""))

    def canonical(self, name: str) -> str:
        """The name objects are kept under."""
        return self._aliases.get(name, name)

    def served(self, group: str, version: str, plural: str) -> Served | None:
        """What a request path names, or None."""
        return self._served.get((group, version, plural))

    def all(self) -> list[Resource]:
        """Every resource, built-in first."""
        return list(self._by_name.values())

    def all_served(self) -> list[Served]:
        """Every path."""
        return list(self._served.values())

    def add(self, resource: Resource) -> None:
        """Serve a resource that no table and no CRD tells of."""
        self._add(resource)

    def remove(self, name: str) -> None:
        """Stop serving what `add` was given."""
        self._by_name.pop(name, None)
        for key in [key for key, served in self._served.items() if served.resource.name == name]:
            del self._served[key]
        self.revision += 1

    def add_custom(self, crd: Obj) -> Resource:
        """Serve what `crd` defines (again, if it changed)."""
        resource = custom_resource(crd)
        self.remove_custom(resource.name)
        self._add(resource)
        return resource

    def remove_custom(self, name: str) -> None:
        """Stop serving a custom resource."""
        known = self._by_name.get(name)
        if known is None or known.crd is None:
            return
        self.remove(name)
