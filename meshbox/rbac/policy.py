# SPDX-License-Identifier: Apache-2.0
"""Roles and bindings: which rules a user has, and whether one of them fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from meshbox.contracts import Obj, Objects
from meshbox.rbac.users import User

__all__ = ["CLUSTER_BINDINGS", "CLUSTER_ROLES", "ROLES", "ROLE_BINDINGS", "Attributes", "Authorizer", "Decision"]

_GROUP = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles.{_GROUP}", f"clusterroles.{_GROUP}"
ROLE_BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{_GROUP}", f"clusterrolebindings.{_GROUP}"


class Attributes(Struct, frozen=True):
    """What somebody wants to do.

    Args:
        verb: e.g. "list"; for a path, the method in small letters.
        group: API group, "" for core.
        resource: Plural, "" where `path` counts.
        subresource: "" for the object itself.
        namespace: "" at the cluster's scope.
        name: "" where it is about no single object.
        path: Of what is no resource, e.g. "/healthz".
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def words(self) -> str:
        """The resource as rules name it: "pods/log"."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Decision(Struct, frozen=True):
    """Whether it is allowed, and by which binding."""

    allowed: bool
    reason: str = ""


class Authorizer:
    """Answers from the roles and bindings of that moment.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def decide(self, user: User, asked: Attributes) -> Decision:
        """Whether `user` may do what is `asked`."""
        if user.may_all:
            return Decision(True)
        for rule, why in self.rules(user, asked.namespace):
            if _fits(rule, asked):
                return Decision(True, f"RBAC: allowed by {why}")
        return Decision(False)

    def rules(self, user: User, namespace: str) -> Iterator[tuple[Obj, str]]:
        """The rules of `user` in `namespace` ("": of the cluster only), each with the binding that gives it."""
        for binding in self._objects.view(CLUSTER_BINDINGS):
            yield from self._of(binding, user, "ClusterRoleBinding", "")
        if namespace:
            for binding in self._objects.view(ROLE_BINDINGS, namespace):
                yield from self._of(binding, user, "RoleBinding", namespace)

    def _of(self, binding: Obj, user: User, kind: str, namespace: str) -> Iterator[tuple[Obj, str]]:
        subject = next((one for one in binding.get("subjects") or () if _is(one, user, namespace)), None)
        if subject is None:
            return
        reference, name = binding["roleRef"], binding["metadata"]["name"]
        said = f"{name}/{namespace}" if namespace else name
        who = subject["name"]
        if subject["kind"] == "ServiceAccount":
            who = f"{subject['name']}/{subject.get('namespace') or namespace}"
        what = f'{kind} "{said}" of {reference["kind"]} "{reference["name"]}" to {subject["kind"]} "{who}"'
        for rule in self.role_rules(reference, namespace):
            yield rule, what

    def role_rules(self, reference: Any, namespace: str) -> Sequence[Obj]:
        """The rules of the role that a binding names; none where it is not there."""
        if reference.get("kind") == "ClusterRole":
            role = self._objects.find(CLUSTER_ROLES, reference.get("name", ""))
        else:
            role = self._objects.find(ROLES, reference.get("name", ""), namespace)
        return (role or {}).get("rules") or []


def _is(subject: Obj, user: User, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "User":
        return bool(name == user.name)
    if kind == "Group":
        return name in user.groups
    return kind == "ServiceAccount" and user.account == (subject.get("namespace") or namespace, name)


def _fits(rule: Obj, asked: Attributes) -> bool:
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and asked.verb not in verbs:
        return False
    if asked.path:
        return any(_path_fits(known, asked.path) for known in rule.get("nonResourceURLs") or ())
    groups, resources = rule.get("apiGroups") or (), rule.get("resources") or ()
    if "*" not in groups and asked.group not in groups:
        return False
    wanted = {"*", asked.words, *([f"*/{asked.subresource}"] if asked.subresource else [])}
    if not wanted & set(resources):
        return False
    names = rule.get("resourceNames") or ()
    return not names or asked.name in names


def _path_fits(known: str, path: str) -> bool:
    return known in ("*", path) or (known.endswith("*") and path.startswith(known.rstrip("*")))
