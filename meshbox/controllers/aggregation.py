# SPDX-License-Identifier: Apache-2.0
"""ClusterRoles that are made of others: their rules are those of all roles that they select."""

from __future__ import annotations

from labkit.ground.labels import written
from meshbox.contracts import Event, Obj
from meshbox.controllers.meta import Context
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["AggregationController"]

RESOURCE = "clusterroles.rbac.authorization.k8s.io"
MANAGER = "clusterrole-aggregation-controller"


class AggregationController:
    """Keeps the rules of each ClusterRole with an `aggregationRule`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: set[Key] = set()
        self.reconciler = Reconciler("clusterroleaggregation", context.objects, self._reconcile).watches_events(
            RESOURCE, self._keys
        )

    def _keys(self, event: Event) -> set[Key]:
        key = object_key(event.object)
        if event.type != "DELETED" and event.object.get("aggregationRule"):
            self._made.add(key)
        else:
            self._made.discard(key)
        # Whatever changed may be a part of any of them.
        return set(self._made)

    async def _reconcile(self, key: Key) -> None:
        role = self._context.objects.find(RESOURCE, key[1])
        if role is None or not role.get("aggregationRule"):
            return
        rules: list[Obj] = []
        for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
            for part in self._context.objects.view(RESOURCE, labels=written(selector)):
                if part["metadata"]["name"] != key[1]:
                    rules += [rule for rule in part.get("rules") or () if rule not in rules]
        if rules != (role.get("rules") or []):
            self._context.objects.update(RESOURCE, {**role, "rules": rules}, manager=MANAGER)
