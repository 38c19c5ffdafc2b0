# SPDX-License-Identifier: Apache-2.0
"""Istio's standard metrics as Telemetry objects change them: dropped, with tags more, with tags less."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from meshbox.mesh.attributes import parse_problem, value_format
from meshbox.mesh.envoy import Json

if TYPE_CHECKING:
    from labkit.ground.typed.telemetry import MetricsOverrides, MetricsOverridesMatch, TelemetryMetrics

__all__ = ["STANDARD", "Override", "merged", "tags_of", "unread"]

STANDARD = {
    "REQUEST_COUNT": "requests_total",
    "REQUEST_DURATION": "request_duration_milliseconds",
    "REQUEST_SIZE": "request_bytes",
    "RESPONSE_SIZE": "response_bytes",
    "TCP_OPENED_CONNECTIONS": "tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "tcp_connections_closed_total",
    "TCP_SENT_BYTES": "tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "tcp_received_bytes_total",
}
"""Istio's names of the metrics that proxies report, and what Prometheus calls them after `istio_`."""

_PEER = re.compile(r"\s*filter_state\.(upstream|downstream)_peer\.(\w+)\s*")
_OF_PEER = {"service": "canonical_service", "revision": "canonical_revision", "namespace": "workload_namespace"}
_OF_PEER |= {name: name for name in ("app", "cluster", "version", "workload")}
"""What Istio's proxies know of the other side, and the tag that has it anyhow."""
_ASKS_OF_PEER = re.compile(r"_peer\b|\bfilter_state\b")
_NOT_OF_PEER = "of what a proxy knows of the other side these are played: filter_state.{upstream,downstream}_peer"


class Override(Struct, frozen=True):
    """What is changed of one metric.

    Args:
        dropped: Whether it is reported no more.
        tags: A tag's name and its expression, "" where the tag is left out; in the order of their names.
    """

    dropped: bool = False
    tags: tuple[tuple[str, str], ...] = ()


def merged(
    sections: Iterable[TelemetryMetrics], mode: str, default_providers: Iterable[str], prometheus: Container[str]
) -> dict[str, Override] | None:
    """What Prometheus is told of the metrics of one side; None where it is told of none.

    As in Istio a section without providers speaks of those before it, the last named ones are the ones that count, and
    what comes later adds to what came before, tag by tag.

    Args:
        sections: The `metrics` of the objects that apply, the widest first.
        mode: "CLIENT" or "SERVER".
        default_providers: Those of the mesh's settings.
        prometheus: The providers that are Prometheus, by their names in small letters.
    """
    given = list(sections)
    current = [name.lower() for name in default_providers]
    named = [[str(one.get("name")).lower() for one in section.get("providers") or []] for section in given]
    counting = next((names for names in reversed(named) if names), current)
    if not any(name in prometheus for name in counting):
        return None
    silenced, found = False, dict[str, Override]()
    for section, names in zip(given, named, strict=True):
        current = names or current
        if not any(name in prometheus for name in current):
            continue
        for override in filter(None, section.get("overrides") or []):
            match = override.get("match") or {}
            if match.get("metric") == "ALL_METRICS" and override.get("disabled"):
                # Of both sides, whatever `mode` says.
                silenced = True
                continue
            silenced = False
            if match.get("mode", "CLIENT_AND_SERVER") not in (mode, "CLIENT_AND_SERVER"):
                continue
            for metric in _meant(match):
                found[metric] = _changed(found.get(metric, Override()), override)
    return None if silenced else found


def _meant(match: MetricsOverridesMatch) -> list[str]:
    if custom := match.get("customMetric"):
        return [custom]
    metric = match.get("metric", "ALL_METRICS")
    return list(STANDARD) if metric == "ALL_METRICS" else [metric]


def _changed(before: Override, override: MetricsOverrides) -> Override:
    tags = dict(before.tags)
    for name, tag in (override.get("tagOverrides") or {}).items():
        if (tag or {}).get("operation") == "REMOVE":
            tags[name] = ""
        elif value := (tag or {}).get("value"):
            tags[name] = value
    found = replace(before, tags=tuple(sorted(tags.items())))
    return found if override.get("disabled") is None else replace(found, dropped=bool(override["disabled"]))


def tags_of(tags: list[Json], override: Override | None) -> list[Json]:
    """A metric's tags, as changed."""
    if override is None or not override.tags:
        return tags
    changed = dict(override.tags)
    kept = [tag for tag in tags if tag["name"] not in changed]
    # One that cannot be read gives no tag, as in Istio.
    formats = {name: _of_peer(tags, told) or value_format(told) for name, told in override.tags if told}
    return kept + [{"name": name, "value_format": value} for name, value in formats.items() if value]


def _of_peer(tags: list[Json], expression: str) -> str:
    """The format of what a tag has of the other side; "" where an expression is about something else."""
    asked = _PEER.fullmatch(expression)
    here, there = ("source", "destination") if asked and asked[1] == "upstream" else ("destination", "source")
    known = {tag["name"]: tag["value_format"] for tag in tags}
    if asked is None or known.get("reporter") != here:
        return ""
    return str(known.get(f"{there}_{_OF_PEER.get(asked[2])}", ""))


def unread(sections: Iterable[TelemetryMetrics]) -> Iterator[str]:
    """Of which tags nothing comes, in words for whoever wrote them."""
    for section in sections:
        for override in filter(None, (section or {}).get("overrides") or []):
            for name, tag in (override.get("tagOverrides") or {}).items():
                value = (tag or {}).get("value")
                if value and not value_format(value):
                    why = parse_problem(value) or "it calls what an Envoy does not know, or with other operands"
                    yield f"no metric gets the tag {name}, as its expression cannot be read: {why}"
                asked = _PEER.fullmatch(value or "")
                if value and _ASKS_OF_PEER.search(value) and not (asked and asked[2] in _OF_PEER):
                    yield f'the tag {name} says "unknown": {_NOT_OF_PEER}.{{{",".join(sorted(_OF_PEER))}}}'
