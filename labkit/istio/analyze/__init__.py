# SPDX-License-Identifier: Apache-2.0
"""Faults in objects that no schema shows, as `istioctl analyze` finds them: references to nothing, missing sidecars …

Codes, names and words are istioctl's (`messages`), so that what is read here can be looked up there; the 1.2.2 of the
walk-through had no such command yet. The other modules are the analyzers, each of one subject: it gets the `World`,
and says which message is about which object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from labkit.cluster import Obj
from labkit.istio.analyze.annotations import annotated
from labkit.istio.analyze.destination_rules import destination_rules, service_entries
from labkit.istio.analyze.envoy_filters import envoy_filters
from labkit.istio.analyze.gateways import gateways
from labkit.istio.analyze.injection import injection
from labkit.istio.analyze.messages import MESSAGES, Finding, Level
from labkit.istio.analyze.platform import deprecations, gateway_api, networks, webhooks
from labkit.istio.analyze.policies import policies
from labkit.istio.analyze.services import services
from labkit.istio.analyze.virtual_services import virtual_services
from labkit.istio.analyze.world import Said, World, annotations_of, credentials, full, name, namespace

__all__ = ["KINDS", "MESSAGES", "OPTIONAL", "Finding", "Level", "analyze", "credentials"]

KINDS = (
    *(
        f"{kind}.networking.istio.io"
        for kind in ("virtualservices", "destinationrules", "gateways", "serviceentries", "sidecars", "envoyfilters")
    ),
    "authorizationpolicies.security.istio.io",
    "requestauthentications.security.istio.io",
    "telemetries.telemetry.istio.io",
    "wasmplugins.extensions.istio.io",
    *(f"{kind}.gateway.networking.k8s.io" for kind in ("gateways", "httproutes", "grpcroutes")),
)
"""Kinds of Istio and of the Gateway API that `analyze` reads; of Kubernetes' it reads namespaces, services and pods."""

OPTIONAL = (
    "deployments.apps",
    "configmaps",
    "nodes",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
)
"""What it reads as well, where one may."""

_ANALYZERS = (
    virtual_services,
    destination_rules,
    service_entries,
    gateways,
    injection,
    annotated,
    services,
    policies,
    envoy_filters,
    webhooks,
    networks,
    gateway_api,
    deprecations,
)
_SUPPRESS = "galley.istio.io/analyze-suppress"


def analyze(
    objects: Iterable[Any], namespaces: Iterable[str] = (), *, secrets: Collection[tuple[str, str]] | None = None
) -> list[Finding]:
    """What is wrong with objects as they refer to each other.

    An object says by its annotation `galley.istio.io/analyze-suppress` ("IST0101,IST0103", "*" for all) what is not to
    be told of it. What has not the shape of its kind is told (IST0106) and left out, whatever it is.

    Args:
        objects: All of the cluster's objects of `KINDS` and `OPTIONAL`, with its Services, pods and Namespaces: what is
            not among them does not exist. Secrets, with their data, where certificates are to be looked at, and CRDs.
        namespaces: Only findings in these, and of what is in none; all by default.
        secrets: Namespace and name of each Secret; None where nobody knows them: then nothing is said of credentials.
    """
    world = World(objects, secrets)
    wanted = set(namespaces)
    said = [*world.broken, *(one for analyzer in _ANALYZERS for one in analyzer(world))]
    told = (
        _finding(one) for one in said if not _suppressed(one) and (not wanted or _place(one.about) in {"", *wanted})
    )
    return list(dict.fromkeys(told))


def _place(item: Obj) -> str:
    """The namespace that an object is in, or is."""
    return name(item) if item["kind"] == "Namespace" else namespace(item)


def _suppressed(said: Said) -> bool:
    codes = [one.strip() for one in annotations_of(said.about).get(_SUPPRESS, "").split(",")]
    return "*" in codes or said.code in codes


def _finding(said: Said) -> Finding:
    message = MESSAGES[said.code]
    step = said.step or message.step.format(*said.words)
    where = f"{said.about['kind']} {full(said.about)}".rstrip()
    return Finding(message.level, said.code, where, message.words.format(*said.words), step)
