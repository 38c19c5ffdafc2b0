# SPDX-License-Identifier: Apache-2.0
"""What a request asks in its query: read as Kiali reads it, and refused in its words where it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labkit.ground.duration import from_prometheus

__all__ = [
    "APPENDERS",
    "GraphOptions",
    "Query",
    "choice",
    "flag",
    "graph_options",
    "whole_number",
]

Query = Mapping[str, Sequence[str]]
_GRAPH_TYPES = ("app", "service", "versionedApp", "workload")
APPENDERS = frozenset(
    {
        "aggregateNode",
        "deadNode",
        "healthConfig",
        "idleNode",
        "istio",
        "responseTime",
        "securityPolicy",
        "serviceEntry",
        "sidecarsCheck",
    }
)
"""What may be computed over the bare traffic; all of it where a request names none."""

_BOXES = ("app", "cluster", "namespace")
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
_LABEL = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


def value_of(query: Query, name: str, default: str = "") -> str:
    """The first value of a parameter; `default` where it is missing or empty."""
    return (query.get(name) or [default])[0] or default


def choice(query: Query, name: str, values: Sequence[str], words: str) -> str:
    """A parameter that is one of `values`; the first where it is missing.

    Raises:
        ValueError: it is another; the message is `words`.
    """
    found = value_of(query, name, values[0])
    if found not in values:
        raise ValueError(words)
    return found


def flag(query: Query, name: str, default: bool, words: str) -> bool:
    """A parameter that Go's strconv.ParseBool takes.

    Raises:
        ValueError: it does not; the message is `words`.
    """
    found = value_of(query, name)
    if found and found not in _TRUE | _FALSE:
        raise ValueError(words)
    return found in _TRUE if found else default


def whole_number(query: Query, name: str, default: int, words: str) -> int:
    """A parameter that is a whole number.

    Raises:
        ValueError: it is none; the message is `words`.
    """
    found = value_of(query, name, str(default))
    if not _NUMBER.fullmatch(found):
        raise ValueError(words)
    return int(found)


@dataclass(frozen=True)
class GraphOptions:
    """What a request for a graph asks.

    Args:
        namespaces: At least one, each once.
        duration: Seconds over which rates are taken.
        at: Their end, in seconds since 1970; 0 for now.
        graph_type: "app", "service", "versionedApp" or "workload".
        inject: Whether Services stand between those who ask and those who answer.
        boxes: What is drawn around nodes that belong together: "app", "cluster", "namespace".
        appenders: A part of APPENDERS.
        idle_edges: Whether edges are kept on which nothing went in that time.
        quantile: Of response times, between 0 and 1.
        aggregate: The metrics' label that "aggregateNode" splits requests by.
    """

    namespaces: tuple[str, ...]
    duration: int
    at: int
    graph_type: str
    inject: bool
    boxes: tuple[str, ...]
    appenders: frozenset[str]
    idle_edges: bool
    quantile: float
    aggregate: str


def graph_options(query: Query, namespace: str = "", *, app: bool = False) -> GraphOptions:
    """Read the query of a graph.

    Args:
        query: The request's.
        namespace: Of the node whose neighbours are asked for; "" where namespaces are asked for.
        app: Whether that node is an app.

    Raises:
        ValueError: Kiali refuses it.
    """
    choice(query, "configVendor", ("cytoscape",), f"Invalid configVendor [{value_of(query, 'configVendor')}]")
    choice(query, "telemetryVendor", ("istio",), f"Invalid telemetryVendor [{value_of(query, 'telemetryVendor')}]")
    graph_type = value_of(query, "graphType", "workload")
    if graph_type not in _GRAPH_TYPES:
        raise ValueError(f"Invalid graphType [{graph_type}]")
    if app and graph_type not in ("app", "versionedApp"):
        supports = "This node detail graph supports only graphType app or versionedApp."
        raise ValueError(f"Invalid graphType [{graph_type}]. {supports}")
    named = namespace or value_of(query, "namespaces")
    if not named:
        raise ValueError("At least one namespace must be specified via the namespaces query parameter.")
    inject = flag(
        query, "injectServiceNodes", False, f"Invalid injectServiceNodes [{value_of(query, 'injectServiceNodes')}]"
    )
    return GraphOptions(
        namespaces=tuple(dict.fromkeys(name.strip() for name in named.split(","))),
        duration=_duration(value_of(query, "duration", "10m")),
        at=whole_number(query, "queryTime", 0, f"Invalid queryTime [{value_of(query, 'queryTime')}]"),
        graph_type=graph_type,
        inject=inject or graph_type == "service",
        boxes=_boxes(value_of(query, "boxBy")),
        appenders=_appenders(query),
        idle_edges=flag(
            query, "includeIdleEdges", False, f"Invalid includeIdleEdges [{value_of(query, 'includeIdleEdges')}]"
        ),
        quantile=_quantile(value_of(query, "responseTimeQuantile", "0.95")),
        aggregate=label_name(value_of(query, "aggregate", "request_operation")),
    )


def _switch(query: Query, name: str) -> bool:
    return flag(query, name, False, f"Invalid {name} [{value_of(query, name)}]")


def _duration(text: str) -> int:
    try:
        seconds = from_prometheus(text) // 1000
    except ValueError:
        seconds = 0
    # A plain number has no unit; over no time there is no rate.
    if seconds < 1:
        raise ValueError(f"Invalid duration [{text}]")
    return seconds


def _boxes(text: str) -> tuple[str, ...]:
    """What boxBy asks for. "none" is no value of it: who wants no boxes leaves the parameter out."""
    found = tuple(box.strip() for box in text.split(",")) if text else ()
    if any(box not in _BOXES for box in found):
        raise ValueError(f"Invalid boxBy [{text}]")
    return found


def _appenders(query: Query) -> frozenset[str]:
    if "appenders" not in query:
        return APPENDERS
    names = {name.strip() for name in value_of(query, "appenders").split(",")} - {""}
    for name in sorted(names - APPENDERS):
        raise ValueError(f"Invalid appender [{name}]")
    return frozenset(names)


def _quantile(text: str) -> float:
    words = f"Invalid quantile, expecting float between 0.0 and 100.0 [{text}]"
    try:
        found = float(text)
    except ValueError:
        raise ValueError(words) from None
    if not 0 <= found <= 1:
        raise ValueError(words)
    return found


def label_name(text: str) -> str:
    """A label of metrics, which is to stand in a query for Prometheus.

    Raises:
        ValueError: no label is called that.
    """
    if not _LABEL.fullmatch(text):
        raise ValueError(f"Invalid aggregate [{text}]")
    return text
