# SPDX-License-Identifier: Apache-2.0
"""A mesh's settings with extension providers, and the Services behind them."""

from __future__ import annotations

from .objects import service

__all__ = ["ENVOY", "MESH", "OTHERS", "SPANS"]

MESH = """
accessLogFile: /dev/stdout
extensionProviders:
- {name: spans, opentelemetry: {service: spans.istio-system.svc.cluster.local, port: 4317}}
- {name: others, zipkin: {service: others.istio-system.svc.cluster.local, port: 9411}}
"""
SPANS = service("spans", ("grpc-otlp", 4317), namespace="istio-system")
OTHERS = service("others", ("http", 9411), namespace="istio-system")
ENVOY = {"providers": [{"name": "envoy"}]}
"""A section of a Telemetry for the provider that every mesh has."""
