# SPDX-License-Identifier: Apache-2.0
"""A collector's configuration: its parts, how they are joined, and what is wrong in the real one's words."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.ground import duration
from labkit.ground.guard import same_secret

__all__ = ["ConfigurationError", "Pipeline", "Plan", "address", "gate", "plan", "seconds"]

Json = dict[str, Any]

_SECTIONS = ("receivers", "processors", "exporters", "extensions", "connectors")
_PLAYED: Mapping[str, tuple[str, ...]] = {
    "receivers": ("otlp", "zipkin", "nop"),
    "processors": ("batch", "memory_limiter"),
    "exporters": ("debug", "logging", "nop", "otlp", "otlp_grpc", "otlp_http", "otlphttp", "zipkin"),
    "extensions": ("bearertokenauth", "health_check"),
    "connectors": (),
}
_KNOWN: Mapping[str, str] = {
    "receivers": """awsxray carbon collectd datadog docker_stats envoyals filelog fluentforward hostmetrics httpcheck
        influxdb jaeger journald k8s_cluster k8s_events k8sobjects kafka kubeletstats loki mysql nginx opencensus
        otelarrow otlpjsonfile postgresql prometheus prometheus_simple receiver_creator redis skywalking syslog""",
    "processors": """attributes cumulativetodelta deltatorate filter groupbyattrs groupbytrace interval k8sattributes
        metricstransform probabilistic_sampler redaction remotetap resource resourcedetection span tail_sampling
        transform""",
    "exporters": """awsxray clickhouse datadog elasticsearch file googlecloud influxdb kafka loadbalancing loki
        opencensus opensearch prometheus prometheusremotewrite splunk_hec""",
    "extensions": """ack basicauth file_storage headers_setter host_observer jaegerremotesampling k8s_observer
        memory_ballast oauth2client oidc opamp pprof sigv4auth zpages""",
    "connectors": "count datadog exceptions failover forward routing servicegraph spanmetrics",
}
"""What a real collector has and the sandbox does not play."""
_SIGNALS = ("traces", "metrics", "logs", "profiles")
_ID = re.compile(r"([a-zA-Z][0-9a-zA-Z_]{0,62})(?:/(\S{1,1024}))?")
_VARIABLE = re.compile(r"\$\$|\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LOCAL_SINCE, _NO_LOGGING_SINCE = (0, 104), (0, 111)
"""Since when receivers listen at localhost unless told otherwise, and since when the logging exporter is gone."""


class ConfigurationError(Exception):
    """A configuration that no collector starts with; the message is the collector's."""


@dataclass(frozen=True)
class Pipeline:
    """How spans go.

    Args:
        name: "traces" or "traces/NAME".
        receivers: The ids of what takes them in.
        processors: Of what they go through, in this order.
        exporters: Of where they go.
    """

    name: str
    receivers: tuple[str, ...]
    processors: tuple[str, ...]
    exporters: tuple[str, ...]


@dataclass
class Plan:
    """What a collector does.

    Args:
        parts: By section, the settings of each part by its id.
        pipelines: Those for spans.
        extensions: The ids of those that run.
        telemetry: `service.telemetry`.
        notes: What of it the sandbox does not play, in sentences.
        everywhere: Whether receivers listen at every address unless told otherwise.
    """

    parts: dict[str, dict[str, Json]] = field(default_factory=dict)
    pipelines: list[Pipeline] = field(default_factory=list)
    extensions: tuple[str, ...] = ()
    telemetry: Json = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    everywhere: bool = False


def kind_of(part: str) -> str:
    """The type in an id such as "otlp/jaeger"."""
    return part.partition("/")[0]


def _version(tag: str) -> tuple[float, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", tag)
    # Who says no version has the latest.
    return (int(found[1]), int(found[2])) if found else (math.inf,)


def plan(given: Any, tag: str, environment: Mapping[str, str] = os.environ) -> Plan:
    """What a collector of the image's `tag` does with a configuration.

    Args:
        given: The configuration as YAML was read.
        tag: The image's tag, such as "0.130.0"; it decides what has changed between versions.
        environment: Variables that the configuration may name.

    Raises:
        ConfigurationError: in the collector's words.
    """
    config = _map(_filled(given, environment), "")
    problems = [f"'' has invalid keys: {key}" for key in sorted(set(config) - {*_SECTIONS, "service"})]
    found = Plan(everywhere=_version(tag) < _LOCAL_SINCE)
    for section in _SECTIONS:
        found.parts[section] = {}
        for name, settings in _map(config.get(section), section).items():
            if said := _unknown(section, str(name), tag):
                problems.append(f"'{section}' {said}")
            found.parts[section][str(name)] = _map(settings, f"{section}::{name}")
    if problems:
        raise ConfigurationError(
            "failed to get config: cannot unmarshal the configuration: decoding failed due to the following error(s):"
            "\n\n" + "\n".join(problems)
        )
    service = _map(config.get("service"), "service")
    found.telemetry = _map(service.get("telemetry"), "service::telemetry")
    _join(found, service)
    for section in ("receivers", "processors", "exporters", "extensions"):
        used = set(found.extensions) if section == "extensions" else _used(found, section)
        found.notes += [
            f"{section[:-1]} {name!r} is not played by the sandbox: {_INSTEAD[section]}"
            for name in found.parts[section]
            if name in used and kind_of(name) in _KNOWN[section].split()
        ]
    asking = [one for one in sorted(_used(found, "exporters")) if found.parts["exporters"].get(one, {}).get("auth")]
    found.notes += [f"exporter {one!r}: its 'auth' is not played by the sandbox: it is left out" for one in asking]
    return found


_INSTEAD = {
    "receivers": "nothing listens for it",
    "processors": "spans pass it as they are",
    "exporters": "what would go there is dropped",
    "extensions": "it is left out",
}


def _unknown(section: str, name: str, tag: str) -> str:
    if not _ID.fullmatch(name):
        return f'invalid type or name in "{name}"'
    kind = kind_of(name)
    if kind == "logging" and section == "exporters" and _version(tag) >= _NO_LOGGING_SINCE:
        return "the logging exporter has been deprecated, use the debug exporter instead"
    known = (*_PLAYED[section], *_KNOWN[section].split())
    valid = " ".join(sorted(one for one in known if one != "logging" or _version(tag) < _NO_LOGGING_SINCE))
    return "" if kind in known else f'unknown type: "{kind}" for id: "{name}" (valid values: [{valid}])'


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    """`value` with what its texts say of variables put in."""
    if isinstance(value, dict):
        return {key: _filled(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environment) for one in value]
    if not isinstance(value, str):
        return value

    def text(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1]) or match[2] or ""

    return _VARIABLE.sub(text, value)


def _map(value: Any, where: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(
            "failed to get config: cannot unmarshal the configuration: decoding failed due to the following error(s):"
            f"\n\n'{where}' expected a map or struct, got {type(value).__name__!r}"
        )
    return {str(key): one for key, one in value.items()}


def _names(value: Any, where: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise ConfigurationError(f"invalid configuration: {where}: source data must be an array or slice")
    return tuple(str(one) for one in value or ())


def _join(found: Plan, service: Json) -> None:
    """The pipelines and extensions of `service`."""
    problems = [f"no {section[:-1]} configuration specified in config" for section in ("receivers", "exporters")
                if not found.parts[section]]  # fmt: skip
    pipelines = _map(service.get("pipelines"), "service::pipelines")
    if not problems and not pipelines:
        problems.append("service::pipelines: service must have at least one pipeline")
    for name, given in pipelines.items():
        where, settings = f"service::pipelines::{name}", _map(given, f"service::pipelines::{name}")
        lists = {one: _names(settings.get(one), f"{where}::{one}") for one in ("receivers", "processors", "exporters")}
        problems += [*_wrong(found, name, where, lists)]
        if kind_of(name) == "traces":
            found.pipelines.append(Pipeline(name, lists["receivers"], lists["processors"], lists["exporters"]))
        else:
            found.notes.append(f"pipeline {name!r} is not played by the sandbox: only spans are taken")
    found.extensions = _names(service.get("extensions"), "service::extensions")
    problems += [f'service::extensions: references extension "{one}" which is not configured'
                 for one in found.extensions if one not in found.parts["extensions"]]  # fmt: skip
    problems += _settings(found)
    if problems:
        raise ConfigurationError("invalid configuration: " + "\n".join(problems))


def _wrong(found: Plan, name: str, where: str, lists: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if kind_of(name) not in _SIGNALS:
        yield f'{where}: unknown signal "{kind_of(name)}"'
    for section in ("receivers", "exporters"):
        if not lists[section]:
            yield f"{where}: must have at least one {section[:-1]}"
    for section, names in lists.items():
        for one in names:
            joined = section != "processors" and one in found.parts["connectors"]
            if one not in found.parts[section] and not joined:
                yield f'{where}: references {section[:-1]} "{one}" which is not configured'


def _settings(found: Plan) -> Iterator[str]:
    """What is wrong inside a part."""
    for name, settings in found.parts["processors"].items():
        if kind_of(name) != "memory_limiter":
            continue
        if seconds(settings.get("check_interval"), 0.0) <= 0:
            yield f"processors::{name}: 'check_interval' must be greater than zero"
        elif not settings.get("limit_mib") and not settings.get("limit_percentage"):
            yield f"processors::{name}: 'limit_mib' or 'limit_percentage' must be greater than zero"
    for name, settings in found.parts["exporters"].items():
        if kind_of(name) in ("otlp", "otlp_grpc") and not settings.get("endpoint"):
            yield f'exporters::{name}: requires a non-empty "endpoint"'
        if kind_of(name) in ("otlphttp", "otlp_http") and not (
            settings.get("endpoint") or settings.get("traces_endpoint")
        ):
            yield f"exporters::{name}: at least one endpoint must be specified"
        if kind_of(name) == "zipkin" and not settings.get("endpoint"):
            yield f"exporters::{name}: endpoint required"
    for name, settings in found.parts["receivers"].items():
        if kind_of(name) == "otlp" and not _map(settings.get("protocols"), f"receivers::{name}::protocols"):
            yield f"receivers::{name}: must specify at least one protocol when using the OTLP receiver"


def gate(asked: Any, extensions: Mapping[str, Json]) -> Callable[[Mapping[str, str]], str]:
    """Says why a caller with such headers is not let in; "" where it is.

    Args:
        asked: What a receiver's protocol says of `auth`.
        extensions: The settings of each extension by its id.

    Raises:
        ConfigurationError: `asked`, a receiver's `auth`, names an extension that there is not.
    """
    name = str((asked or {}).get("authenticator") or "")
    if name and name not in extensions:
        raise ConfigurationError(f'cannot start pipelines: failed to resolve authenticator "{name}": not found')
    told = extensions.get(name) or {}
    header, token = str(told.get("header") or "authorization").lower(), str(told.get("token") or "")
    wanted = f"{told.get('scheme', 'Bearer')} {token}".strip()

    def problem(headers: Mapping[str, str]) -> str:
        if name and (kind_of(name) != "bearertokenauth" or not token):
            return f"the sandbox does not play authenticator {name!r}, so that nobody is let in"
        if name and not headers.get(header):
            return f"missing or empty authorization header: {header}"
        return "scheme or token does not match" if name and not same_secret(headers[header], wanted, least=1) else ""

    return problem


def _used(found: Plan, section: str) -> set[str]:
    return {one for pipeline in found.pipelines for one in getattr(pipeline, section)}


def seconds(value: Any, default: float) -> float:
    """A duration of Go's; `default` where there is none, or none that can be read."""
    if value is None:
        return default
    try:
        return duration.from_go(str(value)) / 1e9
    except ValueError:
        return default


def address(endpoint: Any, default: str, environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Where a receiver listens: an address of this machine, and the port.

    Args:
        endpoint: As it is written, "HOST:PORT"; None where it is not.
        default: In place of that.
        environment: Says which address is the pod's, and which its localhost.

    Raises:
        ConfigurationError: it is no address of the pod.
    """
    host, _, port = str(endpoint or default).rpartition(":")
    bind, local = environment.get("LABKIT_BIND", "127.0.0.1"), environment.get("LABKIT_LOCAL_IP", "127.0.0.1")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"cannot start pipelines: listen tcp: address {endpoint}: missing port in address")
    if host in ("localhost", "127.0.0.1", "[::1]"):
        return local, int(port)
    if host in ("", "0.0.0.0", "[::]", environment.get("LABKIT_POD_IP")):
        return bind, int(port)
    raise ConfigurationError(f"cannot start pipelines: listen tcp {endpoint}: bind: cannot assign requested address")
