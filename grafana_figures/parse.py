# SPDX-License-Identifier: Apache-2.0
"""Reads a panel's JSON, of Grafana 5 to 12, into a `Spec`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from grafana_figures.model import Field, Grid, Json, Override, Spec, Step, Target, number

__all__ = ["panel"]

_KINDS = {
    "graph": "timeseries",
    "timeseries": "timeseries",
    "singlestat": "stat",
    "stat": "stat",
    "gauge": "gauge",
    "bargauge": "bargauge",
    "table": "table",
    "table-old": "table",
    "heatmap": "heatmap",
    "text": "text",
    "row": "row",
}
_NULLS = {"null": "gap", "connected": "connected", "null as zero": "zero"}
_REDUCERS = {"current": "lastNotNull", "avg": "mean", "total": "sum"}


def panel(raw: Json) -> Spec:
    """The panel that `raw` describes; one of an unknown type has kind ""."""
    kind = _KINDS.get(str(raw.get("type", "")), "")
    if kind == "stat" and raw.get("type") == "singlestat" and (raw.get("gauge") or {}).get("show"):
        kind = "gauge"
    modern = "fieldConfig" in raw or "options" in raw
    read = {"timeseries": _graph, "stat": _singlestat, "gauge": _singlestat, "table": _styles}.get(kind, _plain)
    shown, overrides, options = (_modern if modern else read)(raw)
    if kind == "text":
        options = {**raw, **(raw.get("options") or {})}
    place = raw.get("gridPos") or {}
    return Spec(
        id=int(raw.get("id") or 0),
        title=str(raw.get("title") or ""),
        kind=kind,
        type=str(raw.get("type", "")),
        description=str(raw.get("description") or ""),
        grid=Grid(
            int(place.get("x") or 0), int(place.get("y") or 0), int(place.get("w") or 24), int(place.get("h") or 8)
        ),
        targets=tuple(_targets(raw.get("targets") or ())),
        field=shown,
        overrides=overrides,
        source=_source(raw.get("datasource")),
        options=options | _common(raw),
        panels=tuple(panel(one) for one in raw.get("panels") or ()),
    )


def _source(raw: Any) -> str:
    if isinstance(raw, dict):
        return str(raw.get("uid") or raw.get("type") or "")
    return str(raw or "")


def _common(raw: Json) -> Json:
    return {
        "interval": str(raw.get("interval") or ""),
        "most_points": int(raw.get("maxDataPoints") or 0),
        "repeat": str(raw.get("repeat") or ""),
        "direction": str(raw.get("repeatDirection") or "h"),
        "collapsed": bool(raw.get("collapsed")),
        "transformations": raw.get("transformations") or [],
        "shift": str(raw.get("timeShift") or ""),
        "length": str(raw.get("timeFrom") or ""),
    }


def _targets(raw: Iterable[Json]) -> Iterable[Target]:
    for index, one in enumerate(raw):
        if not isinstance(one.get("expr"), str):
            continue
        yield Target(
            ref=str(one.get("refId") or chr(ord("A") + index)),
            expression=one["expr"],
            legend=str(one.get("legendFormat") or ""),
            format=str(one.get("format") or "time_series"),
            # A query can be both; then the points are what a graph needs.
            instant=bool(one.get("instant")) and not one.get("range"),
            hidden=bool(one.get("hide")),
            interval=str(one.get("interval") or ""),
            factor=max(1, int(one.get("intervalFactor") or 1)),
        )


def _plain(raw: Json) -> tuple[Field, tuple[Override, ...], Json]:
    axis = raw.get("yAxis") or {}
    shown = Field(unit=str(axis.get("format") or ""), decimals=axis.get("decimals"))
    return shown, (), {"color": raw.get("color") or {}, "format": raw.get("dataFormat", "")}


# -- Grafana 7 and later


_PROPERTIES = {
    "unit": "unit",
    "decimals": "decimals",
    "displayName": "name",
    "noValue": "no_value",
    "custom.axisLabel": "label",
    "custom.axisPlacement": "axis",
    "custom.fillOpacity": "fill",
    "custom.lineWidth": "width",
    "custom.hidden": "hidden",
}


def _modern(raw: Json) -> tuple[Field, tuple[Override, ...], Json]:
    config = raw.get("fieldConfig") or {}
    defaults = config.get("defaults") or {}
    flat = {key: value for key, value in defaults.items() if key != "custom"}
    flat |= {f"custom.{key}": value for key, value in (defaults.get("custom") or {}).items()}
    overrides = tuple(
        Override(
            (one.get("matcher") or {}).get("id", ""),
            (one.get("matcher") or {}).get("options"),
            _changes({p.get("id", ""): p.get("value") for p in one.get("properties") or ()}),
        )
        for one in config.get("overrides") or ()
    )
    options = dict(raw.get("options") or {})
    legend = options.get("legend") or {}
    reduce = options.get("reduceOptions") or {}
    unit = (options.get("yAxis") or {}).get("unit")
    changes = _changes(flat) | ({"unit": unit} if unit else {})
    seen = legend.get("showLegend", True) and legend.get("displayMode") != "hidden"
    options |= {
        "legend": legend.get("placement", "bottom") if seen else "",
        "calcs": list(legend.get("calcs") or ()),
        "reduce": (reduce.get("calcs") or ["lastNotNull"])[0],
        "sparkline": options.get("graphMode", "area") == "area" if raw.get("type") == "stat" else False,
        "color": options.get("colorMode", "value") if raw.get("type") == "stat" else options.get("color"),
        "text": options.get("textMode", "auto"),
        "sort": [(one.get("displayName"), bool(one.get("desc"))) for one in options.get("sortBy") or ()],
    }
    return Field(**changes), overrides, options


def _changes(flat: Json) -> Json:
    """Attributes of `Field`, from properties as overrides name them."""
    found: Json = {}
    for key, value in flat.items():
        if key in _PROPERTIES and value is not None:
            found[_PROPERTIES[key]] = value
        elif key in ("min", "max"):
            found["minimum" if key == "min" else "maximum"] = number(value)
        elif key == "thresholds" and isinstance(value, dict):
            steps = value.get("steps") or ()
            found["steps"] = tuple(Step(number(one.get("value")), str(one.get("color", ""))) for one in steps)
            found["percent"] = value.get("mode") == "percentage"
        elif key == "mappings":
            found["mappings"] = tuple(value or ())
        elif key == "color" and isinstance(value, dict):
            found["color"] = str(value.get("fixedColor") or "") if value.get("mode") in ("fixed", "shades") else ""
        elif key == "links" and value:
            found["link"] = str(value[0].get("url") or "")
        elif key.startswith("custom."):
            found |= _custom(key.removeprefix("custom."), value)
    if found.get("axis") not in ("right", "hidden"):
        found.pop("axis", None)
    return found


def _custom(key: str, value: Any) -> Json:
    if key == "hideFrom":
        return {"hidden": bool((value or {}).get("viz")), "in_legend": not (value or {}).get("legend")}
    if key == "drawStyle":
        return {"style": {"bars": "bars", "points": "points"}.get(str(value), "line")}
    if key == "showPoints":
        return {"points": value == "always"}
    if key == "stacking":
        mode = (value or {}).get("mode", "none")
        return {"stack": "" if mode in ("none", "") else str(value.get("group") or "A")}
    if key == "spanNulls":
        return {"nulls": "connected" if value else "gap"}
    if key == "lineInterpolation":
        return {"stepped": str(value).startswith("step")}
    if key == "lineStyle":
        return {"dashed": (value or {}).get("fill") in ("dash", "dot")}
    if key == "transform":
        return {"negative": value == "negative-Y"}
    if key == "scaleDistribution":
        return {"log": int((value or {}).get("log") or 10) if (value or {}).get("type") == "log" else 0}
    if key == "thresholdsStyle":
        return {"shown_steps": str((value or {}).get("mode", "off"))}
    if key in ("cellOptions", "displayMode"):
        kind = value.get("type", "") if isinstance(value, dict) else str(value)
        return {"cell": {"color-background": "background", "color-text": "text"}.get(kind, "")}
    return {}


# -- before Grafana 7


def _graph(raw: Json) -> tuple[Field, tuple[Override, ...], Json]:
    axes = [*(raw.get("yaxes") or ()), {}, {}]
    left = _axis(axes[0])
    style = "bars" if raw.get("bars") and not raw.get("lines") else "line" if raw.get("lines", True) else "points"
    steps = tuple(
        Step(
            number(one.get("value")), {"critical": "red", "warning": "orange", "ok": "green"}.get(one["colorMode"], "")
        )
        for one in raw.get("thresholds") or ()
        if one.get("colorMode")
    )
    shown = Field(
        **left,
        style=style,
        points=bool(raw.get("points")),
        fill=float(raw.get("fill") or 0) * 10,
        width=float(raw.get("linewidth") or 1),
        stack="A" if raw.get("stack") else "",
        nulls=_NULLS.get(str(raw.get("nullPointMode")), "gap"),
        stepped=bool(raw.get("steppedLine")),
        dashed=bool(raw.get("dashes")),
        steps=steps,
        shown_steps="line" if steps else "off",
    )
    overrides = [Override("byName", name, {"color": color}) for name, color in (raw.get("aliasColors") or {}).items()]
    for one in raw.get("seriesOverrides") or ():
        alias = str(one.get("alias", ""))
        overrides.append(
            Override("byRegexp" if re.fullmatch(r"/.*/i?", alias) else "byName", alias, _series(one, axes))
        )
    legend = raw.get("legend") or {}
    calcs = [name for key, name in (("current", "last"), ("min", "min"), ("max", "max"), ("avg", "mean"))]
    calcs = [name for key, name in zip(("current", "min", "max", "avg"), calcs, strict=True) if legend.get(key)]
    place = "right" if legend.get("rightSide") else "bottom"
    return shown, tuple(overrides), {"legend": place if legend.get("show", True) else "", "calcs": calcs}


def _axis(raw: Json) -> Json:
    base = int(number(raw.get("logBase")) or 1)
    return {
        "unit": str(raw.get("format") or ""),
        "decimals": raw.get("decimals"),
        "minimum": number(raw.get("min")),
        "maximum": number(raw.get("max")),
        "label": str(raw.get("label") or ""),
        "log": base if base > 1 else 0,
    }


def _series(raw: Json, axes: list[Json]) -> Json:
    found: Json = {}
    if raw.get("yaxis") == 2:
        found |= {"axis": "right", **_axis(axes[1])}
    if "color" in raw:
        found["color"] = str(raw["color"])
    if "fill" in raw:
        found["fill"] = float(raw["fill"]) * 10
    if "linewidth" in raw:
        found["width"] = float(raw["linewidth"])
    if "stack" in raw:
        found["stack"] = "" if raw["stack"] is False else str(raw["stack"] if raw["stack"] is not True else "A")
    if raw.get("bars"):
        found["style"] = "bars"
    elif raw.get("lines"):
        found["style"] = "line"
    if "points" in raw:
        found["points"] = bool(raw["points"])
    if "dashes" in raw:
        found["dashed"] = bool(raw["dashes"])
    if raw.get("nullPointMode") in _NULLS:
        found["nulls"] = _NULLS[raw["nullPointMode"]]
    if raw.get("transform") == "negative-Y":
        found["negative"] = True
    if raw.get("legend") is False:
        found["in_legend"] = False
    return found


def _singlestat(raw: Json) -> tuple[Field, tuple[Override, ...], Json]:
    gauge = raw.get("gauge") or {}
    bounds = [number(part) for part in str(raw.get("thresholds") or "").split(",")]
    colors = list(raw.get("colors") or ())
    steps = _steps([bound for bound in bounds if bound is not None], colors)
    mappings: list[Json] = []
    for one in raw.get("valueMaps") or () if raw.get("mappingType", 1) == 1 else ():
        text = {"text": str(one.get("text", ""))}
        if one.get("value") == "null":
            mappings.append({"type": "special", "options": {"match": "null", "result": text}})
        else:
            mappings.append({"type": "value", "options": {str(one.get("value")): text}})
    for one in raw.get("rangeMaps") or () if raw.get("mappingType") == 2 else ():
        if one.get("from") == "null":
            options: Json = {"match": "null", "result": {"text": one.get("text")}}
            mappings.append({"type": "special", "options": options})
        else:
            options = {"from": one.get("from"), "to": one.get("to"), "result": {"text": one.get("text")}}
            mappings.append({"type": "range", "options": options})
    spark = raw.get("sparkline") or {}
    shown = Field(
        unit=str(raw.get("format") or ""),
        decimals=raw.get("decimals"),
        minimum=number(gauge.get("minValue")) if gauge.get("show") else None,
        maximum=number(gauge.get("maxValue")) if gauge.get("show") else None,
        steps=steps,
        mappings=tuple(mappings),
        color="" if raw.get("colorValue") or raw.get("colorBackground") else str(spark.get("lineColor") or ""),
        no_value=str(raw.get("nullText") or ""),
        nulls=_NULLS.get(str(raw.get("nullPointMode")), "gap"),
    )
    mode = "background" if raw.get("colorBackground") else "value" if raw.get("colorValue") else "none"
    name = str(raw.get("valueName") or "avg")
    options = {
        "reduce": _REDUCERS.get(name, name),
        "sparkline": bool(spark.get("show")),
        "color": mode,
        "before": str(raw.get("prefix") or ""),
        "after": str(raw.get("postfix") or ""),
    }
    return shown, (), options


def _steps(bounds: list[float], colors: list[str]) -> tuple[Step, ...]:
    if not bounds:
        return ()
    return tuple(Step(value, color) for value, color in zip([None, *bounds], colors, strict=False))


def _styles(raw: Json) -> tuple[Field, tuple[Override, ...], Json]:
    """A table's styles; the first that matches a column counts, so they are turned round."""
    overrides = []
    for one in reversed(raw.get("styles") or ()):
        pattern = str(one.get("pattern", ""))
        matcher = "byRegexp" if re.fullmatch(r"/.*/i?", pattern) else "byName"
        changes: Json = {"name": str(one.get("alias") or ""), "hidden": one.get("type") == "hidden"}
        changes["link"] = str(one.get("linkUrl") or "") if one.get("link") else ""
        if one.get("type") == "number":
            mode = one.get("colorMode")
            bounds = [bound for bound in map(number, one.get("thresholds") or ()) if bound is not None]
            changes |= {
                "unit": str(one.get("unit") or ""),
                "decimals": one.get("decimals"),
                "steps": _steps(bounds, list(one.get("colors") or ())),
                "cell": {"cell": "background", "row": "background", "value": "text"}.get(str(mode), ""),
            }
        overrides.append(Override(matcher, pattern, changes))
    sort = raw.get("sort") or {}
    options = {"transform": raw.get("transform", "table"), "column": sort.get("col"), "desc": bool(sort.get("desc"))}
    return Field(), tuple(overrides), options
