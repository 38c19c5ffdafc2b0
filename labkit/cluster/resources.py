# SPDX-License-Identifier: Apache-2.0
"""What a cluster serves, and what kubectl would mean by a word such as "deploy" or "gateways.networking.istio.io"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labkit.cluster.client import Client, Obj
from labkit.cluster.explain import explain

__all__ = ["Resource", "all_of", "find"]

# Kubernetes 1.26 and later answer with all groups at once.
_WHOLE = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
_ACCEPT = ",".join((_WHOLE.format("v2"), _WHOLE.format("v2beta1"), "application/json"))
_TYPED = "kubectl api-resources"


@dataclass(frozen=True)
class Resource:
    """One kind, as one version of a group serves it.

    Args:
        group: Its group; "" for the core one.
        version: The version.
        preferred: Whether no other version of its group that has it comes before.
        plural: Its name in paths.
        kind: Its kind.
        namespaced: Whether its objects are in namespaces.
        verbs: What can be done with it.
        words: What else kubectl calls it.
        categories: Groups of kinds that it is one of: "all".
    """

    group: str
    version: str
    preferred: bool
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    words: tuple[str, ...]
    categories: tuple[str, ...]

    @property
    def name(self) -> str:
        """As kubectl prints it: "deployments.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """Its group and version."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """Where it is below the server's root."""
        inside = ["namespaces", namespace] if namespace and self.namespaced else []
        steps = ["", "apis" if self.group else "api", self.api_version, *inside, self.plural, *([name] if name else [])]
        return "/".join(steps)


def all_of(client: Client, *, fresh: bool = False) -> list[Resource]:
    """All that the cluster serves, in its own order: what comes first is meant by a short word.

    Args:
        client: The way to it.
        fresh: Whether to ask though it was asked before.

    Raises:
        ClusterError: It does not answer.
    """
    if fresh or not client.known:
        found: list[Resource] = []
        for root in ("/api", "/apis"):
            answer = client.ask(_TYPED, root, accept=_ACCEPT)
            listed = answer["items"] if answer["kind"] == "APIGroupDiscoveryList" else _one_by_one(client, root, answer)
            for group in listed:
                found += _group(group)
        client.known = found
    return client.known


def _one_by_one(client: Client, root: str, answer: Obj) -> Iterator[Obj]:
    """The same from a server that tells only one version of a group at once."""
    groups = answer.get("groups", [{"name": "", "versions": [{"version": v} for v in answer.get("versions", [])]}])
    for group in groups:
        best = (group.get("preferredVersion") or {}).get("version")
        versions = []
        for version in sorted((v["version"] for v in group["versions"]), key=lambda v: v != best):
            status, told = client.send(_TYPED, "/".join(filter(None, (root, group["name"], version))))
            # What an aggregated server behind this one does not tell now is left out, as kubectl does.
            versions.append({"version": version, "resources": told.get("resources") if status == 200 else []})
        yield {"metadata": {"name": group["name"]}, "versions": versions}


def _group(group: Obj) -> Iterator[Resource]:
    name, seen = group.get("metadata", {}).get("name", ""), set()
    for version in group["versions"]:
        for one in version.get("resources") or []:
            plural, kind = one.get("resource") or one["name"], one.get("kind") or one["responseKind"]["kind"]
            if "/" in plural:
                continue
            singular = one.get("singularResource") or one.get("singularName") or kind.lower()
            words = (singular, kind.lower(), *one.get("shortNames", ()))
            scoped, verbs = one.get("namespaced", one.get("scope") == "Namespaced"), tuple(one.get("verbs") or ())
            categories = tuple(one.get("categories", ()))
            yield Resource(name, version["version"], plural not in seen, plural, kind, scoped, verbs, words, categories)
            seen.add(plural)


def find(client: Client, kinds: str, typed: str) -> list[Resource]:
    """The resources that kubectl would mean by a word, or by several with commas.

    Raises:
        ClusterError: One of them is not served.
    """
    found: list[Resource] = []
    for word in kinds.split(","):
        there = _meant(client, word, False) or _meant(client, word, True)
        if not there:
            raise explain(typed, f'error: the server doesn\'t have a resource type "{word}"', 1, client.shown)
        found += there
    return found


def _meant(client: Client, word: str, fresh: bool) -> list[Resource]:
    name, _, where = word.partition(".")
    served = [one for one in all_of(client, fresh=fresh) if "list" in one.verbs]
    if where:
        served = [r for r in served if where == f"{r.version}.{r.group}" or (r.preferred and where == r.group)]
    else:
        served = [one for one in served if one.preferred]
    for one in served:
        if name.lower() in (one.plural, *one.words[:2]):
            return [one]
    for one in served:
        if name in one.words:
            return [one]
    return [one for one in served if name in one.categories]
