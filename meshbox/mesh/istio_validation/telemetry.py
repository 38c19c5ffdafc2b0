# SPDX-License-Identifier: Apache-2.0
"""Telemetry, as Istio's webhook looks at it."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.mesh.attributes import parse_problem
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.attachment import attached
from meshbox.mesh.istio_validation.problems import Problems

__all__ = ["check"]


def check(obj: Obj, problems: Problems) -> None:
    """Look at a Telemetry."""
    spec: Json = obj.get("spec") or {}
    attached(spec, problems)
    for metrics in spec.get("metrics") or []:
        _providers(metrics or {}, problems)
        for override in (metrics or {}).get("overrides") or []:
            _override(override or {}, problems)
    tracing = spec.get("tracing") or []
    if len(tracing) > 1:
        problems.warn("multiple tracing is not currently supported")
    for one in tracing:
        _tracing(one or {}, problems)
    for log in spec.get("accessLogging") or []:
        _providers(log or {}, problems)
        chosen = (log or {}).get("filter")
        expression = str((chosen or {}).get("expression") or "")
        if chosen is not None and (why := parse_problem(expression) if expression else "an empty one is none"):
            problems.error(f"must be a valid CEL expression, {why}")


def _providers(section: Json, problems: Problems) -> None:
    named = all((provider or {}).get("name") for provider in section.get("providers") or [])
    problems.require(named, "providers.name may not be empty")


def _override(override: Json, problems: Problems) -> None:
    for name, tag in sorted((override.get("tagOverrides") or {}).items()):
        if not name:
            problems.warn("tagOverrides.name may not be empty")
        removes = (tag or {}).get("operation") == "REMOVE"
        if removes and (tag or {}).get("value"):
            problems.error("tagOverrides.value may only be set when operation is UPSERT")
        elif not removes and not (tag or {}).get("value"):
            problems.error("tagOverrides.value must be set when operation is UPSERT")
    if (override.get("match") or {}).get("customMetric") == "":
        problems.error("customMetric may not be empty")


def _tracing(tracing: Json, problems: Problems) -> None:
    if len(tracing.get("providers") or []) > 1:
        problems.warn("multiple providers is not currently supported")
    _providers(tracing, problems)
    percent = tracing.get("randomSamplingPercentage")
    if isinstance(percent, int | float) and not 0 <= percent <= 100:
        problems.error("randomSamplingPercentage must be in range [0.0, 100.0]")
    for name, tag in sorted((tracing.get("customTags") or {}).items()):
        problems.require(name, "tag name may not be empty")
        for kind, field, words in (
            ("literal", "value", "literal tag value"),
            ("header", "name", "header tag name"),
            ("environment", "name", "environment tag name"),
        ):
            if (tag or {}).get(kind) is not None:
                problems.require(tag[kind].get(field), f"{words} may not be empty")
