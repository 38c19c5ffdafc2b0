# SPDX-License-Identifier: Apache-2.0
"""What is wrong with Istio's objects and with Services, as Kiali sees it: a module a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from meshbox.images.kiali.checks.authentication import peer_authentication, request_authentication
from meshbox.images.kiali.checks.authorization import authorization_policy
from meshbox.images.kiali.checks.destination_rules import destination_rule
from meshbox.images.kiali.checks.findings import Finding, validation
from meshbox.images.kiali.checks.gateways import gateway
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.checks.services import ports
from meshbox.images.kiali.checks.sidecars import sidecar
from meshbox.images.kiali.checks.virtual_services import virtual_service
from meshbox.images.kiali.istio import KINDS
from meshbox.images.kiali.mesh import Json, Mesh

__all__ = ["Registry", "of_services", "summary", "validate"]

_CHECKS: Mapping[str, Callable[[Any, Registry], Iterator[Finding]]] = {
    "authorizationpolicy": authorization_policy,
    "destinationrule": destination_rule,
    "gateway": gateway,
    "peerauthentication": peer_authentication,
    "requestauthentication": request_authentication,
    "sidecar": sidecar,
    "virtualservice": virtual_service,
}


def validate(registry: Registry, namespace: str) -> dict[str, dict[str, Json]]:
    """The validations of a namespace's objects of Istio: type → name → what was found."""
    answer: dict[str, dict[str, Json]] = {}
    for kind in KINDS:
        check = _CHECKS.get(kind.type)
        for one in registry.items(kind.listed, namespace):
            name = one["metadata"]["name"]
            found = check(one, registry) if check else ()
            answer.setdefault(kind.type, {})[name] = validation(kind.type, name, found)
    return answer


def of_services(mesh: Mesh, namespace: str) -> dict[str, Json]:
    """The validations of a namespace's Services: name → what was found."""
    answer = {}
    for one in mesh.services(namespace):
        name = one["metadata"]["name"]
        answer[name] = validation("service", name, ports(one, mesh))
    return answer


def summary(validations: dict[str, dict[str, Json]]) -> Json:
    """How many errors and warnings there are."""
    every = [one for by_name in validations.values() for one in by_name.values()]
    severities = [check["severity"] for one in every for check in one["checks"]]
    counted = {"errors": severities.count("error"), "warnings": severities.count("warning")}
    return counted | {"objectCount": len(every)}
