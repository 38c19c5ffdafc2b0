# SPDX-License-Identifier: Apache-2.0
"""Where each write meets the webhooks and policies that users have made, after all that the cluster itself asks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from labkit.ground.errors import LabError
from meshbox.admission_rules import OWN_WEBHOOKS
from meshbox.api.admission.asked import EXEMPT, Asked
from meshbox.api.admission.calling import Caller, outside
from meshbox.api.admission.expressions import unreadable
from meshbox.api.admission.policies import POLICIES, Policies, unplayed_expressions
from meshbox.api.admission.webhooks import MUTATING, VALIDATING, Change, Webhooks
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Registry, Resource, Served
from meshbox.api.store import Store
from meshbox.api.webhook_answers import Reviews
from meshbox.contracts import ApiError, Obj, ReviewNeededError, working_for
from meshbox.rbac.users import user_of
from meshbox.settings import SandboxSettings
from meshbox.values import dumps

__all__ = ["Gate"]

_KEPT = 256
"""Writes of controllers that wait for answers, at most; who was forgotten asks anew."""

_CONNECTED = {"pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy"}
_SILENT = _CONNECTED | {"pods/eviction", "pods/binding", "bindings", "serviceaccounts/token"}
"""What no webhook is asked about."""


class Gate:
    """Admission of users' own.

    Args:
        store: The cluster's objects.
        registry: What is served.
        settings: Of the sandbox.
    """

    def __init__(self, store: Store, registry: Registry, settings: SandboxSettings) -> None:
        self._store = store
        self._webhooks = Webhooks(store, Caller(store, settings.plan), legacy=settings.legacy)
        self._policies = Policies(store, registry)
        self._waiting: dict[bytes, Reviews] = {}

    def asked(
        self,
        operation: str,
        resource: Resource,
        obj: Obj | None,
        old: Obj | None,
        options: WriteOptions,
        *,
        subresource: str = "",
        generated: bool = False,
    ) -> Asked | None:
        """A write, for `mutate` and `validate`; None where nobody is to be asked about it.

        The sandbox's own parts are not asked about statuses and events, nor where they could not wait for an answer.
        """
        controller = working_for.get()
        inside = options.user is None and (not controller or subresource or resource.name == "events")
        if inside or resource.name in EXEMPT:
            return None
        if not self._policies.any and not any(
            True for kind in (MUTATING, VALIDATING) for _ in self._webhooks.all(kind)
        ):
            return None
        meta = (obj or old or {})["metadata"]
        where = meta.get("name", "") if resource.name == "namespaces" else meta.get("namespace") or ""
        namespace = self._store.entry("namespaces", ("", where)) if where else None
        within = obj if resource.name == "namespaces" and obj is not None else namespace.obj if namespace else None
        account = f"system:serviceaccount:kube-system:{controller.replace(' ', '-')}-controller"
        return Asked(
            operation,
            options.served or Served(resource, resource.group, resource.version),
            obj,
            old,
            "" if generated else meta["name"],
            within,
            options.user or user_of(account),
            subresource,
            options.dry_run,
            options.manager,
        )

    def mutate(self, asked: Asked | None, options: WriteOptions, change: Change) -> Obj | None:
        """The object after the mutating webhooks.

        Raises:
            ApiError: It is refused.
            ReviewNeededError: A webhook is to be asked first.
        """
        if asked is None:
            return None
        return self._webhooks.mutate(asked, options.reviews or Reviews(), options.warnings, change)

    def validate(self, asked: Asked | None, options: WriteOptions) -> None:
        """Ask policies, then validating webhooks.

        Raises:
            ApiError: It is refused.
            ReviewNeededError: A webhook is to be asked first.
        """
        if asked is not None:
            self._policies.validate(asked, options.warnings)
            self._webhooks.validate(asked, options.reviews or Reviews(), options.warnings)

    @contextmanager
    def waiting(self, options: WriteOptions, *what: object) -> Iterator[None]:
        """Lets a controller that tries the same write again find the answers that came meanwhile.

        Args:
            options: Of the write; clients' have their own `reviews`.
            what: The write, as JSON can say it.
        """
        if options.reviews is not None or not working_for.get():
            yield
            return
        key = hashlib.sha256(dumps([working_for.get(), *what])).digest()
        options.reviews = self._waiting.pop(key, None) or Reviews()
        try:
            yield
        except ReviewNeededError:
            self._waiting[key] = options.reviews
            while len(self._waiting) > _KEPT:
                self._waiting.pop(next(iter(self._waiting)))
            raise

    def notes(self, resource: Resource, obj: Obj) -> Iterator[str]:
        """What of a webhook's configuration, or of a policy, the sandbox does not play, in sentences."""
        if resource.name == POLICIES:
            for text, what in unplayed_expressions(obj):
                yield f"the sandbox cannot evaluate {text!r}: {what}"
        if resource.name not in (MUTATING, VALIDATING):
            return
        for webhook in obj.get("webhooks") or ():
            name = webhook.get("name")
            if str(name).endswith(OWN_WEBHOOKS):
                continue
            if outside(webhook.get("clientConfig") or {}):
                yield f"webhook {name}: the sandbox calls webhooks of this machine only: each call will fail"
            named = {one for rule in webhook.get("rules") or () for one in rule.get("resources") or ()}
            verbs = {one for rule in webhook.get("rules") or () for one in rule.get("operations") or ()}
            silent = sorted(named & _SILENT) or (["CONNECT"] if "CONNECT" in verbs else [])
            if silent:
                yield f"webhook {name}: the sandbox does not ask about {', '.join(silent)}"
            for one in webhook.get("matchConditions") or ():
                if unreadable(str(one.get("expression") or "")):
                    yield f"webhook {name}: the sandbox cannot evaluate {one['expression']!r}: it counts as true"


def internal(error: LabError) -> ApiError:
    """The refusal of what a webhook has made of an object."""
    return ApiError(500, "InternalError", f"Internal error occurred: {error.message}")
