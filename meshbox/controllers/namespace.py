# SPDX-License-Identifier: Apache-2.0
"""Namespace: what each has from the start, and the emptying of those that are being deleted."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import ApiError, Event, Obj
from meshbox.controllers.meta import MANAGER, Context, put_condition
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["NamespaceController"]

ROOT_CA = "kube-root-ca.crt"
_ROOT_CA_WORDS = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
    "Kubernetes clusters."
)
_DRAIN_AGAIN = 0.2
"""Seconds until a namespace that still holds something is looked at again; pods that end are noticed at once."""

_CONDITIONS = {
    "DeletionDiscoveryFailure": ("DiscoveryFailed", "ResourcesDiscovered", "All resources successfully discovered"),
    "DeletionGroupVersionParsingFailure": (
        "GroupVersionParsingFailed",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "DeletionContentFailure": (
        "ContentDeletionFailed",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "ContentRemaining": ("SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
    "FinalizersRemaining": (
        "SomeFinalizersRemain",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}
"""Condition (without "Namespace"): the reason where it is true, and reason and message where it is not."""


class NamespaceController:
    """Gives each namespace its default objects; empties and finalizes those that are being deleted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ending: set[str] = set()
        self.reconciler = (
            Reconciler("namespace", context.objects, self._reconcile)
            .watches_events("namespaces", self._namespace_keys)
            .watches_events("serviceaccounts", self._default_keys)
            .watches_events("configmaps", self._default_keys)
            .watches_events("pods", self._pod_keys)
        )

    def _namespace_keys(self, event: Event) -> list[Key]:
        key = object_key(event.object)
        if event.type != "DELETED" and "deletionTimestamp" in event.object["metadata"]:
            self._ending.add(key[1])
        else:
            self._ending.discard(key[1])
        return [key]

    @staticmethod
    def _default_keys(event: Event) -> list[Key]:
        meta = event.object["metadata"]
        mine = event.type == "DELETED" and meta["name"] == "default"
        # Whoever writes another authority into it has it back at once.
        mine = mine or (meta["name"] == ROOT_CA and event.object["kind"] == "ConfigMap")
        return [(None, meta["namespace"])] if mine else []

    def _pod_keys(self, event: Event) -> list[Key]:
        namespace = event.object["metadata"]["namespace"]
        return [(None, namespace)] if event.type == "DELETED" and namespace in self._ending else []

    async def _reconcile(self, key: Key) -> float | None:
        namespace = self._context.objects.find("namespaces", key[1])
        if namespace is None:
            return None
        if "deletionTimestamp" in namespace["metadata"]:
            return self._drain(namespace)
        return self._furnish(key[1])

    def _furnish(self, name: str) -> float | None:
        objects = self._context.objects
        if objects.find("serviceaccounts", "default", name) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            objects.create("serviceaccounts", account, name, manager=MANAGER)
        if self._context.settings.legacy:
            return None
        authority = self._context.settings.home / "ca.crt"
        if not authority.exists():
            # The API server writes it when it first starts, which may be a moment after this.
            return _DRAIN_AGAIN
        content = {"ca.crt": authority.read_text()}
        known = objects.find("configmaps", ROOT_CA, name)
        if known is None:
            annotations = {"kubernetes.io/description": _ROOT_CA_WORDS}
            root: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "annotations": annotations},
                "data": content,
            }
            objects.create("configmaps", root, name, manager=MANAGER)
        elif known.get("data") != content:
            objects.update("configmaps", {**known, "data": content}, manager=MANAGER)
        return None

    def _drain(self, namespace: Obj) -> float | None:
        """Delete all that is in it; finalize it once nothing is left."""
        objects = self._context.objects
        name = namespace["metadata"]["name"]
        left: dict[str, int] = {}
        holding: dict[str, int] = {}
        failures = []
        for resource in objects.resources():
            if not objects.namespaced(resource):
                continue
            items = objects.list(resource, name)
            for item in items:
                if "deletionTimestamp" not in item["metadata"]:
                    try:
                        objects.delete(resource, item["metadata"]["name"], name)
                    except ApiError as error:
                        if error.code != 404:
                            failures.append(error.message)
            for item in objects.list(resource, name) if items else ():
                left[resource] = left.get(resource, 0) + 1
                for finalizer in item["metadata"].get("finalizers") or ():
                    holding[finalizer] = holding.get(finalizer, 0) + 1
        if not self._context.settings.legacy:
            namespace = self._say(namespace, left, holding, failures)
        if left:
            return _DRAIN_AGAIN
        finalizers = [item for item in namespace["spec"].get("finalizers") or () if item != "kubernetes"]
        if finalizers != namespace["spec"].get("finalizers"):
            spec = {**namespace["spec"], "finalizers": finalizers}
            objects.update("namespaces", {**namespace, "spec": spec}, subresource="finalize", manager=MANAGER)
        return None

    def _say(self, namespace: Obj, left: dict[str, int], holding: dict[str, int], failures: list[str]) -> Obj:
        """Write the conditions that tell what deletion waits for; returns the namespace as it is then."""
        status = {**(namespace.get("status") or {})}
        status["conditions"] = list(status.get("conditions") or ())
        # Kubernetes writes resource and group with a dot between them, also where the group is empty.
        full = {resource if "." in resource else f"{resource}.": count for resource, count in left.items()}
        remaining = ", ".join(f"{resource} has {count} resource instances" for resource, count in sorted(full.items()))
        waiting = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(holding.items()))
        found = {
            "DeletionDiscoveryFailure": "",
            "DeletionGroupVersionParsingFailure": "",
            "DeletionContentFailure": "; ".join(failures),
            "ContentRemaining": f"Some resources are remaining: {remaining}" if left else "",
            "FinalizersRemaining": f"Some content in the namespace has finalizers remaining: {waiting}"
            if holding
            else "",
        }
        for type_, problem in found.items():
            bad_reason, reason, message = _CONDITIONS[type_]
            put_condition(
                status,
                {
                    "type": f"Namespace{type_}",
                    "status": "True" if problem else "False",
                    "reason": bad_reason if problem else reason,
                    "message": problem or message,
                    "lastTransitionTime": self._context.now(),
                },
            )
        if status == namespace.get("status"):
            return namespace
        return self._context.objects.update(
            "namespaces", {**namespace, "status": status}, subresource="status", manager=MANAGER
        )
