# SPDX-License-Identifier: Apache-2.0
"""Which stored webhooks a write meets, and whether the Service behind them answers: as the API server decides it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.ground.labels import matches
from meshbox.admission_rules import rule_met
from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh.revisions import DEFAULT, REVISION

__all__ = ["available", "matching", "unavailable"]

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"


def matching(objects: Objects, resource: str, request: AdmissionRequest) -> Iterator[Obj]:
    """The stored webhooks (of MUTATING or VALIDATING `resource`) that `request` meets, in the API server's order."""
    namespace = objects.find("namespaces", request.namespace or "") if request.namespace else None
    namespace_labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    plural, _, group = request.resource.partition(".")
    own_labels = request.object["metadata"].get("labels") or {}
    for configuration in sorted(objects.list(resource), key=lambda c: str(c["metadata"]["name"])):
        for webhook in configuration.get("webhooks") or []:
            rules = webhook.get("rules") or []
            if (
                any(rule_met(rule, request.operation, group, plural, request.subresource) for rule in rules)
                and matches(webhook.get("namespaceSelector"), namespace_labels)
                and matches(webhook.get("objectSelector"), own_labels)
            ):
                yield webhook


def available(objects: Objects, webhook: Obj) -> bool:
    """Whether the webhook's Service has a ready endpoint."""
    service = (webhook.get("clientConfig") or {}).get("service") or {}
    name, namespace = service.get("name", ""), service.get("namespace", "")
    if objects.find("services", name, namespace) is None:
        return False
    slices = objects.list("endpointslices.discovery.k8s.io", namespace, labels=f"kubernetes.io/service-name={name}")
    for found in slices:
        if any((e.get("conditions") or {}).get("ready") is not False for e in found.get("endpoints") or []):
            return True
    endpoints = objects.find("endpoints", name, namespace) or {}
    return any(subset.get("addresses") for subset in endpoints.get("subsets") or [])


def revision(objects: Objects, webhook: Obj) -> str:
    """Of which revision the control plane is that answers a webhook: its Service says whom it leads to."""
    service = (webhook.get("clientConfig") or {}).get("service") or {}
    found = objects.find("services", service.get("name", ""), service.get("namespace", "")) or {}
    return ((found.get("spec") or {}).get("selector") or {}).get(REVISION) or DEFAULT


def unavailable(objects: Objects, webhook: Obj, *, legacy: bool) -> ApiError:
    """The refusal of a write whose webhook cannot be reached, in the API server's words."""
    service: dict[str, Any] = (webhook.get("clientConfig") or {}).get("service") or {}
    name, namespace = service.get("name", ""), service.get("namespace", "")
    timeout = webhook.get("timeoutSeconds") or (30 if legacy else 10)
    url = f"https://{name}.{namespace}.svc:{service.get('port') or 443}{service.get('path') or '/'}?timeout={timeout}s"
    there = objects.find("services", name, namespace) is not None
    problem = f'no endpoints available for service "{name}"' if there else f'service "{name}" not found'
    call = f"Post {url}: {problem}" if legacy else f'failed to call webhook: Post "{url}": {problem}'
    cause = f'failed calling webhook "{webhook["name"]}": {call}'
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {cause}",
        {"causes": [{"message": cause}], "retryAfterSeconds": 0},
    )
