# SPDX-License-Identifier: Apache-2.0
"""What is reported. Made by tools/generate_typed_istio.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.destination_rules import WorkloadSelector
from labkit.ground.typed.metadata import ObjectMeta
from labkit.ground.typed.security import PolicyTargetReference


class AccessLoggingFilter(TypedDict, total=False):
    expression: str


class AccessLoggingMatch(TypedDict, total=False):
    mode: str


class ProviderRef(TypedDict, total=False):
    name: str


class AccessLogging(TypedDict, total=False):
    disabled: bool | None
    filter: AccessLoggingFilter
    match: AccessLoggingMatch
    providers: list[ProviderRef]


class MetricsOverridesMatch(TypedDict, total=False):
    customMetric: str
    metric: str
    mode: str


class TagOverride(TypedDict, total=False):
    operation: str
    value: str


class MetricsOverrides(TypedDict, total=False):
    disabled: bool | None
    match: MetricsOverridesMatch
    tagOverrides: dict[str, TagOverride]


class TelemetryMetrics(TypedDict, total=False):
    overrides: list[MetricsOverrides]
    providers: list[ProviderRef]
    reportingInterval: str


class CustomTagEnvironment(TypedDict, total=False):
    defaultValue: str
    name: str


class CustomTagFormatter(TypedDict, total=False):
    value: str


class CustomTagHeader(TypedDict, total=False):
    defaultValue: str
    name: str


class CustomTagLiteral(TypedDict, total=False):
    value: str


class CustomTag(TypedDict, total=False):
    environment: CustomTagEnvironment
    formatter: CustomTagFormatter
    header: CustomTagHeader
    literal: CustomTagLiteral


class TracingMatch(TypedDict, total=False):
    mode: str


class Tracing(TypedDict, total=False):
    customTags: dict[str, CustomTag]
    disableContextPropagation: bool | None
    disableSpanReporting: bool | None
    enableIstioTags: bool | None
    match: TracingMatch
    providers: list[ProviderRef]
    randomSamplingPercentage: float | None
    useRequestIdForTraceSampling: bool | None


class TelemetrySpec(TypedDict, total=False):
    accessLogging: list[AccessLogging]
    metrics: list[TelemetryMetrics]
    selector: WorkloadSelector
    targetRef: PolicyTargetReference
    targetRefs: list[PolicyTargetReference]
    tracing: list[Tracing]


class Telemetry(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: TelemetrySpec
