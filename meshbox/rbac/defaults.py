# SPDX-License-Identifier: Apache-2.0
"""The roles that every cluster has, and who has them: read from roles.txt."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from meshbox.contracts import Obj, Objects
from meshbox.rbac.policy import CLUSTER_BINDINGS, CLUSTER_ROLES

__all__ = ["bootstrap"]

_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_GROUP = "rbac.authorization.k8s.io"
_AGGREGATED = {"admin": "", "edit": "admin", "view": "edit"}
"""Roles that are made of others, and the role that each is a part of."""


def _rule(written: str) -> Obj:
    verbs, *rest = ([("" if one == "core" else one) for one in part.split(",")] for part in written.split())
    if len(rest) == 1:
        return {"nonResourceURLs": rest[0], "verbs": verbs}
    names = {"resourceNames": rest[2]} if rest[2:] else {}
    return {"apiGroups": rest[0], **names, "resources": rest[1], "verbs": verbs}


def _subject(written: str) -> Obj:
    kind, _, name = written.partition("=")
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": _GROUP, "kind": kind, "name": name}


def _written() -> Iterator[tuple[str, str, str, Obj]]:
    """Resource, namespace ("" for none), name and body of each."""
    text = resources.files("meshbox.rbac").joinpath("roles.txt").read_text(encoding="utf-8")
    for block in text.partition("\nrole ")[2].replace("\nbind ", "\nrole bind ").split("\nrole "):
        first, *rules = block.strip("\n").split("\n")
        binds = first.startswith("bind ")
        place, *words = first.removeprefix("bind ").split()
        namespace, _, name = place.rpartition("/")
        if not binds:
            yield f"roles.{_GROUP}" if namespace else CLUSTER_ROLES, namespace, name, {"rules": [*map(_rule, rules)]}
            continue
        role = words.pop(0).partition("=")[2] if words and words[0].startswith("role=") else name
        reference = {"apiGroup": _GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role}
        body = {"roleRef": reference, **({"subjects": [*map(_subject, words)]} if words else {})}
        yield f"rolebindings.{_GROUP}" if namespace else CLUSTER_BINDINGS, namespace, name, body


def bootstrap(objects: Objects) -> None:
    """Create what is missing of them."""
    for resource, namespace, name, body in _written():
        part = name.removeprefix("system:aggregate-to-")
        labels = {f"{_AGGREGATE}{part}": "true"} if part != name else {}
        _create(objects, resource, name, labels, body, namespace or None)
    for name, whole in _AGGREGATED.items():
        labels = {f"{_AGGREGATE}{whole}": "true"} if whole else {}
        selector = {"matchLabels": {f"{_AGGREGATE}{name}": "true"}}
        _create(
            objects, CLUSTER_ROLES, name, labels, {"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}
        )


def _create(objects: Objects, resource: str, name: str, labels: Obj, body: Obj, namespace: str | None = None) -> None:
    if objects.find(resource, name, namespace) is None:
        meta = {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **labels},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        }
        objects.create(resource, {"metadata": meta, **body}, namespace)
