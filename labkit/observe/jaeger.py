# SPDX-License-Identifier: Apache-2.0
"""Traces from Jaeger's query API: spans as a table, a waterfall, who calls whom, and the critical path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from labkit import cluster
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Jaeger", "Trace"]


@dataclass(frozen=True)
class Trace:
    """One trace.

    Args:
        id: Its id, 16 or 32 hexadecimal digits.
        spans: A DataFrame, a row a span in the order of their start: `span`, `parent` (str, "" for the root),
            `service`, `operation`, `kind` (str), `depth` (int64, 0 for the root), `start_ms` (float64, since the
            trace's start), `duration_ms` (float64), `status` (Int64, the HTTP status, <NA> if it has none),
            `error` (bool), `start` (datetime64, UTC).
    """

    id: str
    spans: pd.DataFrame

    @property
    def duration_ms(self) -> float:
        """From the first start to the last end, in milliseconds."""
        return float((self.spans["start_ms"] + self.spans["duration_ms"]).max())

    @property
    def services(self) -> list[str]:
        """The services it passed through, in the order of their first span."""
        return list(dict.fromkeys(self.spans["service"]))

    def passed(self, *services: str) -> bool:
        """Whether all of these services took part; "details" is "details.bookinfo" as well."""
        return set(services) <= {part for name in self.services for part in (name, name.partition(".")[0])}

    def calls(self) -> pd.DataFrame:
        """The spans that another one caused.

        Returns:
            A DataFrame, a row a span that has its parent here: `span`, `service`, `parent`, `caller` (str, the
            parent's service), `within` (bool: whether it begins while its parent lasts).
        """
        by_id = self.spans.set_index("span")
        found = self.spans[self.spans["parent"].isin(by_id.index)].reset_index(drop=True)
        outer = by_id.loc[found["parent"]].reset_index(drop=True)
        begins, last = found["start_ms"] - outer["start_ms"], outer["duration_ms"]
        table = found[["span", "service", "parent"]]
        return table.assign(caller=outer["service"], within=(begins >= 0) & (begins <= last))

    def by_service(self) -> pd.Series:
        """How long the trace's end was waiting for each service, in milliseconds, longest first: a Series (float64)."""
        return self.critical_path().groupby("service")["self_ms"].sum().sort_values(ascending=False)

    def critical_path(self) -> pd.DataFrame:
        """Which span the trace's end was waiting for, at every moment.

        Going back from the end of the root, time belongs to the child that ended last, and to the span itself where no
        child ran.

        Returns:
            A DataFrame, a row a stretch of time in order: `span`, `service`, `operation` (str), `start_ms`, `self_ms`
            (float64). The `self_ms` add up to the root's duration.
        """
        import pandas as pd

        rows = {str(row["span"]): row for row in self.spans.to_dict("records")}
        children: dict[str, list[dict[str, Any]]] = {}
        for row in rows.values():
            children.setdefault(str(row["parent"]), []).append(row)
        found: list[dict[str, Any]] = []

        def walk(row: dict[str, Any], until: float) -> None:
            now = min(until, row["start_ms"] + row["duration_ms"])
            for child in sorted(children.get(row["span"], []), key=lambda one: -(one["start_ms"] + one["duration_ms"])):
                end = min(child["start_ms"] + child["duration_ms"], now)
                if end <= row["start_ms"] or child["start_ms"] >= now:
                    continue
                add(row, end, now)
                walk(child, end)
                now = max(child["start_ms"], row["start_ms"])
            add(row, row["start_ms"], now)

        def add(row: dict[str, Any], start: float, end: float) -> None:
            if end > start:
                picked = {key: row[key] for key in ("span", "service", "operation")}
                found.append({**picked, "start_ms": start, "self_ms": end - start})

        roots = [row for row in rows.values() if row["parent"] not in rows]
        if roots:
            walk(roots[0], float("inf"))
        columns = ["span", "service", "operation", "start_ms", "self_ms"]
        return pd.DataFrame(found[::-1], columns=columns)

    def waterfall(self) -> go.Figure:
        """The trace as Jaeger draws it: a bar a span, below its parent, from its start to its end in milliseconds."""
        import plotly.graph_objects as go

        from labkit.observe.looks import COLOURS, dress

        order = _depth_first(self.spans)
        figure = go.Figure()
        colours = dict(zip(self.services, COLOURS * (1 + len(self.services) // len(COLOURS)), strict=False))
        for service in self.services:
            part = order[order["service"] == service]
            figure.add_bar(
                name=service,
                orientation="h",
                y=part["row"],
                base=part["start_ms"],
                x=part["duration_ms"],
                marker_color=colours[service],
                customdata=part[["operation", "kind", "duration_ms"]],
                hovertemplate="%{customdata[0]}<br>%{customdata[1]}, %{customdata[2]:.2f} ms",
            )
        labels = ["\u2003" * row["depth"] + f"{row['service']} ({row['kind']})" for row in order.to_dict("records")]
        dress(
            figure,
            f"Trace {self.id[-7:]}: {len(self.spans)} spans, {self.duration_ms:.1f} ms",
            height=120 + 26 * len(order),
            barmode="overlay",
            legend_title="service",
            xaxis_title="time since the request came in (ms)",
        )
        figure.update_yaxes(tickvals=list(order["row"]), ticktext=labels, autorange="reversed")
        return figure

    def __repr__(self) -> str:
        return f"Trace({self.id}, {len(self.spans)} spans, {self.duration_ms:.1f} ms, {' → '.join(self.services)})"


class Jaeger:
    """Jaeger's query API.

    Args:
        url: Where its pages are, e.g. "http://127.0.0.1:16686/jaeger".
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The `data` of one answer.

        Raises:
            ClusterError: it cannot be reached, or refuses; the message carries its own words.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = cluster.fetch(f"{self.url}/api/{path}{query}")
        hint = "Istio's Jaeger serves it below /jaeger, in both releases"
        content = answer.json(self.url, "Jaeger", hint)
        if answer.status != 200:
            said = (
                "; ".join(str(error.get("msg")) for error in content.get("errors") or []) or f"status {answer.status}"
            )
            raise ClusterError(
                f"Jaeger refused /api/{path}: {said}", next_step="check the service's name and the parameters"
            )
        return content["data"] or []

    def services(self) -> list[str]:
        """The names of the services that have sent spans, sorted."""
        return sorted(self.get("services"))

    def operations(self, service: str) -> list[str]:
        """The operations seen of `service`, sorted."""
        return sorted(self.get(f"services/{quote(service, safe='')}/operations"))

    def traces(
        self,
        service: str,
        *,
        operation: str = "",
        tags: Mapping[str, str] | None = None,
        min_duration: str = "",
        max_duration: str = "",
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
        limit: int = 20,
    ) -> list[Trace]:
        """Search traces, newest first.

        Args:
            service: A service that took part, e.g. "productpage.bookinfo".
            operation: Name of one of its operations; "" for any.
            tags: Tags one span must carry, e.g. {"http.status_code": "500"}.
            min_duration: Of a span, as Go writes it: "100ms", "1.2s"; "" for any.
            max_duration: Likewise.
            start: Not before this time; None for the last hour.
            end: Not after this time; None for now.
            limit: At most this many, 1 to 1500.
        """
        import pandas as pd

        since = start if start is not None else pd.Timestamp.now(tz="UTC") - pd.Timedelta(hours=1)
        given = {
            "service": service,
            "operation": operation,
            "tags": json.dumps(dict(tags)) if tags else "",
            "minDuration": min_duration,
            "maxDuration": max_duration,
            # Jaeger itself would go back two days; what a lookback says counts on its pages only.
            "start": str(since.value // 1000),
            "end": str(end.value // 1000) if end is not None else "",
            "limit": str(limit),
        }
        found = self.get("traces", {key: value for key, value in given.items() if value})
        return sorted(map(_trace, found), key=lambda trace: trace.spans["start"].min(), reverse=True)

    def since(self, start: pd.Timestamp, through: str = "istio-ingressgateway", *, limit: int = 200) -> list[Trace]:
        """What has come through a service since `start`, newest first; nothing where it has sent no span yet.

        Args:
            start: Not before this time.
            through: A service, with or without its namespace.
            limit: At most this many, 1 to 1500.
        """
        names = [name for name in self.services() if through in (name, name.partition(".")[0])]
        return self.traces(names[0], start=start, limit=limit) if names else []

    def trace(self, trace_id: str) -> Trace:
        """One trace by its id.

        Raises:
            ClusterError: it is not known (any more).
        """
        return _trace(self.get(f"traces/{trace_id}")[0])

    def dependencies(self) -> pd.DataFrame:
        """Who called whom in the last day: a DataFrame with `parent`, `child` (str) and `calls` (int64)."""
        import pandas as pd

        found = [(row["parent"], row["child"], row["callCount"]) for row in self.get("dependencies", _last_day())]
        return pd.DataFrame(found, columns=["parent", "child", "calls"]).astype({"calls": "int64"})

    def dependency_figure(self) -> go.Figure:
        """Who called whom, as a flow from left to right; the width is the number of calls."""
        import plotly.graph_objects as go

        from labkit.observe.looks import COLOURS, dress

        table = self.dependencies()
        names = list(dict.fromkeys([*table["parent"], *table["child"]]))
        link = {
            "source": [names.index(name) for name in table["parent"]],
            "target": [names.index(name) for name in table["child"]],
            "value": list(table["calls"]),
        }
        figure = go.Figure(go.Sankey(node={"label": names, "color": COLOURS[0]}, link=link))
        return dress(figure, "Calls between services in the last day", height=360)


def _last_day() -> dict[str, str]:
    import time

    return {"endTs": str(int(time.time() * 1000) + 1000), "lookback": str(24 * 3600 * 1000)}


def _trace(data: Mapping[str, Any]) -> Trace:
    import pandas as pd

    raw = sorted(data["spans"], key=lambda span: (span["startTime"], bool(span["references"])))
    began = min(span["startTime"] for span in raw)
    parents = {span["spanID"]: next((r["spanID"] for r in span["references"] or []), "") for span in raw}
    rows = []
    for span in raw:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        status = str(tags.get("http.status_code", ""))
        rows.append(
            {
                "span": span["spanID"],
                "parent": parents[span["spanID"]],
                "service": data["processes"][span["processID"]]["serviceName"],
                "operation": span["operationName"],
                "kind": str(tags.get("span.kind", "")),
                "depth": _depth(span["spanID"], parents),
                "start_ms": (span["startTime"] - began) / 1000,
                "duration_ms": span["duration"] / 1000,
                "status": int(status) if status.isdigit() else None,
                "error": str(tags.get("error", "")).lower() == "true",
                "start": pd.Timestamp(span["startTime"], unit="us", tz="UTC"),
            }
        )
    return Trace(data["traceID"], pd.DataFrame(rows).astype({"status": "Int64"}))


def _depth(span: str, parents: Mapping[str, str]) -> int:
    depth = 0
    # A damaged trace may name itself as its own ancestor; no depth can exceed the number of spans.
    while (parent := parents.get(span, "")) in parents and depth < len(parents):
        span, depth = parent, depth + 1
    return depth


def _depth_first(spans: pd.DataFrame) -> pd.DataFrame:
    """The spans with each below its parent, and their `row` from 0."""
    known = set(spans["span"])
    order: list[str] = []

    def visit(parent: str) -> None:
        for row in spans[spans["parent"] == parent]["span"]:
            if row not in order:
                order.append(row)
                visit(row)

    for root in spans[~spans["parent"].isin(known)]["span"]:
        order.append(root)
        visit(root)
    ordered = spans.set_index("span", drop=False).loc[order]
    return ordered.assign(row=range(len(ordered)))
