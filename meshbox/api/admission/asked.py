# SPDX-License-Identifier: Apache-2.0
"""A write as webhooks and policies are asked about it: what they match, and what they are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from labkit.ground.labels import matches
from meshbox.admission_rules import rule_met
from meshbox.api.conversion import from_hub
from meshbox.api.resources import Resource, Served
from meshbox.api.scale import scale_of
from meshbox.contracts import Obj, View
from meshbox.rbac.users import User

__all__ = ["EXEMPT", "Asked"]

EXEMPT = frozenset(
    f"{kind}.admissionregistration.k8s.io"
    for kind in (
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    )
)
"""Whose writes nobody is asked about: else nobody could mend them."""

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class Asked(Struct, frozen=True):
    """One write.

    Args:
        operation: "CREATE", "UPDATE" or "DELETE".
        served: The resource, in the version of the request.
        obj: The object as it would be kept; None where it is deleted.
        old: The object as it is kept; None where it is created.
        name: The object's name; "" where the server is yet to generate it.
        namespace: The namespace object that it is in (itself, if it is one); None where it is in none.
        user: Who asks.
        subresource: "" for the object itself.
        dry_run: Whether nothing will be kept.
        manager: The field manager.
    """

    operation: str
    served: Served
    obj: Obj | None
    old: Obj | None
    name: str
    namespace: Obj | None
    user: User
    subresource: str = ""
    dry_run: bool = False
    manager: str = ""

    def about(self, obj: Obj | None) -> Asked:
        """The same of an object that somebody has changed meanwhile."""
        return replace(self, obj=obj)

    @property
    def namespace_name(self) -> str:
        """Of the object's namespace, or "" where it is in none; a Namespace is in itself."""
        return str(self.namespace["metadata"]["name"]) if self.namespace is not None else ""

    def met(self, rules: Iterable[View], policy: str) -> Served | None:
        """The version in which the first rule names this write; None where none does.

        Args:
            rules: Of a webhook or a policy.
            policy: `matchPolicy`: "Exact" looks at the version of the request only.
        """
        resource: Resource = self.served.resource
        tried = [self.served]
        if policy != "Exact":
            tried += [Served(resource, resource.group, version) for version in resource.versions]
        given = list(rules)
        for served in tried:
            for rule in given:
                names = rule.get("resourceNames")
                if names and self.name not in names:
                    continue
                if rule_met(
                    rule,
                    self.operation,
                    served.group,
                    resource.plural,
                    self.subresource,
                    versions=(served.version,),
                    cluster_scoped=not resource.namespaced,
                ):
                    return served
        return None

    def selected(self, who: View) -> bool:
        """Whether the namespaceSelector and the objectSelector of `who` choose what is written."""
        labels = self.namespace["metadata"].get("labels") if self.namespace is not None else None
        # What is in no namespace is chosen whatever the selector says.
        if self.namespace is not None and not matches(who.get("namespaceSelector"), labels):
            return False
        both = [one["metadata"].get("labels") for one in (self.obj, self.old) if one is not None]
        return any(matches(who.get("objectSelector"), one) for one in both)

    def shown(self, obj: Obj | None, served: Served) -> Obj | None:
        """`obj` as the request has it: in the version asked for, or as a Scale."""
        if obj is None:
            return None
        return scale_of(served.resource, obj) if self.subresource == "scale" else from_hub(served, obj)

    def request(self, served: Served) -> Obj:
        """`request` of an AdmissionReview without its uid, the objects in the version of `served`."""
        told = self.summary(served)
        for field, obj in (("object", self.obj), ("oldObject", self.old)):
            told[field] = self.shown(obj, served)
        empty = ("", None)
        return {key: value for key, value in told.items() if value not in empty or key in ("object", "oldObject")}

    def summary(self, served: Served) -> Obj:
        """What CEL calls `request`: all but the objects."""
        resource, own = served.resource, self.served
        kind = ("autoscaling", "v1", "Scale") if self.subresource == "scale" else None
        options: dict[str, Any] = {"kind": _OPTIONS[self.operation], "apiVersion": "meta.k8s.io/v1"}
        options |= {"fieldManager": self.manager} if self.manager and self.operation != "DELETE" else {}
        options |= {"dryRun": ["All"]} if self.dry_run else {}
        return {
            "kind": _names("kind", kind or (served.group, served.version, resource.kind)),
            "resource": _names("resource", (served.group, served.version, resource.plural)),
            "subResource": self.subresource,
            "requestKind": _names("kind", kind or (own.group, own.version, resource.kind)),
            "requestResource": _names("resource", (own.group, own.version, resource.plural)),
            "requestSubResource": self.subresource,
            "name": self.name,
            "namespace": self.namespace_name,
            "operation": self.operation,
            "userInfo": {"username": self.user.name, "groups": list(self.user.groups)},
            "dryRun": self.dry_run,
            "options": options,
        }


def _names(last: str, words: Sequence[str]) -> Obj:
    return dict(zip(("group", "version", last), words, strict=True))
