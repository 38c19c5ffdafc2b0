# SPDX-License-Identifier: Apache-2.0
"""All that the analyzers know: the objects by kind, and what most of them ask of these."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import yaml

from labkit.cluster import Obj
from labkit.ground.hosts import fqdn, visible, within
from labkit.ground.labels import selects, written
from labkit.ground.routing import Hosts, most_specific, subsets_by_host
from labkit.istio.analyze.shapes import key_of, mended

__all__ = [
    "ROOT",
    "SYSTEM",
    "Said",
    "World",
    "annotations_of",
    "credentials",
    "full",
    "has_sidecar",
    "labels",
    "missing",
    "name",
    "namespace",
    "of_istio",
    "shown",
]

ROOT = "istio-system"
SYSTEM = frozenset(("kube-system", "kube-public", "kube-node-lease", "local-path-storage"))
"""Namespaces whose pods never get a sidecar."""


class Said(NamedTuple):
    """What an analyzer has to say.

    Args:
        about: The object.
        code: Of the message.
        words: What its text is filled with.
        step: The next step, where it is another one than the message's.
    """

    about: Obj
    code: str
    words: tuple[object, ...] = ()
    step: str = ""


class World:
    """The objects, each with the shape that it should have.

    Args:
        objects: All there are: what is not among them does not exist.
        secrets: Namespace and name of each Secret; None where nobody knows them.
    """

    def __init__(self, objects: Iterable[Any], secrets: Collection[tuple[str, str]] | None) -> None:
        self.by_key: dict[str, list[Obj]] = {}
        self.broken: list[Said] = []
        for number, item in enumerate(objects):
            if not isinstance(item, dict):
                nothing = {"kind": f"object {number + 1}", "metadata": {}}
                self.broken.append(Said(nothing, "IST0106", (f"a map is wanted, not {repr(item)[:60]}",)))
                continue
            if not (key := key_of(item)):
                continue
            problems: list[str] = []
            good = {**mended(item, key, problems), "kind": item["kind"]}
            if not name(good):
                problems.append("metadata.name: a name is wanted")
            else:
                self.by_key.setdefault(key, []).append(good)
            self.broken += [Said(good, "IST0106", (problem,)) for problem in dict.fromkeys(problems)]
        known = {full(one): one for one in self.all("Secret")}
        # What a Secret holds is asked where it is among the objects; that it is there may be known without.
        self.secrets = known
        self.secret_names = None if secrets is None and not known else {*known, *("/".join(s) for s in secrets or ())}

    def all(self, key: str) -> list[Obj]:
        """The objects of a kind."""
        return self.by_key.get(key, [])

    @cached_property
    def hosts(self) -> Hosts:
        """Which hosts there are."""
        services: list[Any] = self.all("Service")
        entries: list[Any] = self.all("ServiceEntry")
        return Hosts(services, entries)

    @cached_property
    def subsets(self) -> dict[tuple[str, str], int]:
        """Host and name of every subset."""
        rules: list[Any] = self.all("DestinationRule")
        return subsets_by_host(rules)

    @cached_property
    def _served(self) -> dict[str, list[tuple[str, list[str], Obj]]]:
        found: dict[str, list[tuple[str, list[str], Obj]]] = {}
        for one in self.all("Service"):
            export = [part.strip() for part in annotations_of(one).get("networking.istio.io/exportTo", "").split(",")]
            host = fqdn(name(one), namespace(one))
            found.setdefault(host, []).append((namespace(one), [part for part in export if part], one))
        for one in self.all("ServiceEntry"):
            for host in one["spec"].get("hosts") or []:
                entry = namespace(one), one["spec"].get("exportTo") or [], one
                found.setdefault(host.lower(), []).append(entry)
        return found

    def behind(self, host: str, where: str) -> Obj | None:
        """The Service or ServiceEntry that a host, fully qualified, means to `where`; None where there is none."""
        for known in (host, most_specific((one for one in self._served if one.startswith("*")), host)):
            for owner, export, one in self._served.get(known or "", ()):
                if visible(export, owner, where):
                    return one
        # A wildcard means all that lies in it.
        inside = (known for known in self._served if host.startswith("*") and within(known, host))
        return next(
            (one for known in inside for owner, to, one in self._served[known] if visible(to, owner, where)), None
        )

    @cached_property
    def pods(self) -> dict[str, list[Obj]]:
        """Pods by namespace."""
        found: dict[str, list[Obj]] = {}
        for pod in self.all("Pod"):
            found.setdefault(namespace(pod), []).append(pod)
        return found

    def selected(self, selector: dict[str, str], where: str = "") -> Iterator[Obj]:
        """Pods with these labels, in a namespace or in all."""
        for pod in self.pods.get(where, []) if where else self.all("Pod"):
            if selects(selector, labels(pod)):
                yield pod

    @cached_property
    def workloads(self) -> list[Obj]:
        """Pods, and what Deployments make them of: a file may say only that."""
        made = [
            {
                "metadata": {**(template.get("metadata") or {}), "namespace": namespace(one)},
                "spec": template.get("spec") or {},
            }
            for one in self.all("Deployment")
            if (template := one["spec"].get("template"))
        ]
        return [*self.all("Pod"), *made]

    @cached_property
    def namespaces(self) -> dict[str, Obj]:
        """Namespaces by name."""
        return {name(one): one for one in self.all("Namespace")}

    def in_mesh(self, owner: Obj, template: Obj) -> bool:
        """Whether pods of this template, which may be the owner itself, are in the mesh, or will be."""
        spec, about = template.get("spec") or {}, template.get("metadata") or {}
        if has_sidecar(spec):
            return True
        for told in (about.get("labels") or {}, about.get("annotations") or {}):
            if "sidecar.istio.io/inject" in told:
                return bool(told["sidecar.istio.io/inject"] == "true")
        around = self.namespaces.get(namespace(owner))
        return around is not None and labels(around).get("istio-injection") == "enabled"

    @cached_property
    def mesh(self) -> Obj:
        """The mesh's configuration, as far as it is known."""
        return self._config("istio", "mesh")

    @cached_property
    def networks(self) -> Obj:
        """The mesh's networks."""
        return self._config("istio", "meshNetworks")

    def injector(self, revision: str) -> Obj | None:
        """The settings of a revision's injector; None where they are not known."""
        which = "istio-sidecar-injector" + (f"-{revision}" if revision not in ("", "default") else "")
        return self._config(which, "values") if any(name(one) == which for one in self.all("ConfigMap")) else None

    def _config(self, which: str, key: str) -> Obj:
        for one in self.all("ConfigMap"):
            if (namespace(one), name(one)) == (ROOT, which):
                text = (one.get("data") or {}).get(key, "")
                try:
                    found = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
                except (ValueError, RecursionError, yaml.YAMLError):
                    return {}
                return found if isinstance(found, dict) else {}
        return {}


def name(item: Obj) -> str:
    """Its name."""
    return str((item.get("metadata") or {}).get("name") or "")


def namespace(item: Obj) -> str:
    """Its namespace."""
    return str((item.get("metadata") or {}).get("namespace") or "")


def full(item: Obj) -> str:
    """Its namespace and name, "bookinfo/reviews"; the name alone of what is in none."""
    return f"{namespace(item)}/{name(item)}" if namespace(item) else name(item)


def labels(item: Obj) -> dict[str, str]:
    """Its labels."""
    return (item.get("metadata") or {}).get("labels") or {}


def annotations_of(item: Obj) -> dict[str, str]:
    """Its annotations."""
    return (item.get("metadata") or {}).get("annotations") or {}


def has_sidecar(spec: Obj) -> bool:
    """Whether one of a pod's containers is the sidecar."""
    return any(
        one.get("name") == "istio-proxy"
        for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    )


def of_istio(item: Obj) -> bool:
    """Whether it is a part of Istio's control plane."""
    return "istio" in labels(item) or labels(item).get("release") == "istio"


def shown(selector: dict[str, str] | None) -> str:
    """Labels as a selector's text."""
    return written({"matchLabels": selector or {}})


def credentials(gateway: Obj) -> list[str]:
    """The Secrets that the servers of a Gateway name for their certificates."""
    tls = [server.get("tls") or {} for server in (gateway.get("spec") or {}).get("servers") or []]
    named = [one for own in tls for one in own.get("credentialNames") or [own.get("credentialName") or ""]]
    return list(dict.fromkeys(one for one in named if one and "://" not in one))


def missing(about: Obj, what: str, reference: str, listing: str) -> Said:
    """What an object names and there is not, with the command that lists what there is."""
    step = f"`{listing}` lists those there are; check spelling and namespace."
    return Said(about, "IST0101", (what, json.dumps(reference, ensure_ascii=False)), step)
