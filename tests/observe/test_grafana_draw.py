# SPDX-License-Identifier: Apache-2.0
"""Panels drawn from known answers: values, units, legends, thresholds, stacks, mappings, tables, heatmaps, text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from grafana_figures import Dashboard, Grafana, Panel, Source
from labkit.ground.errors import ClusterError, SettingError
from tests.observe.grafana_numbers import fake

END = 1_000_000.0


def series(values: list[float | None], **labels: str) -> dict[str, Any]:
    """A series of an answer: a value every 5 s up to END."""
    first = END - 5 * (len(values) - 1)
    points = [[first + 5 * at, str(value)] for at, value in enumerate(values) if value is not None]
    return {"metric": labels, "values": points, "value": points[-1] if points else [END, "NaN"]}


def drawn(raw: dict[str, Any], *answers: dict[str, Any], sources: list[Source] | None = None) -> Panel:
    """The panel `raw`, whose every query is answered with `answers`."""

    def answer(path: str, given: dict[str, str]) -> Any:
        kind = "matrix" if path == "query_range" else "vector"
        return {"resultType": kind, "result": list(answers)}

    panel = {"id": 1, "targets": [{"expr": "up", "refId": "A"}], **raw}
    with fake(answer) as url:
        board = Dashboard({"title": "One", "panels": [panel]})
        given = sources if sources is not None else [Source("Prometheus", "prometheus", url, 5.0, True)]
        (found,) = Grafana(url, [board], sources=given).draw("One", window="20s", end=END)
    return found


def test_an_old_graph_is_lines_with_names_units_and_gaps():
    raw = {"type": "graph", "title": "Requests", "fill": 1, "nullPointMode": "null", "yaxes": [{"format": "ops"}]}
    raw["targets"] = [{"expr": "a", "legendFormat": "{{ app }} : {{code}}"}]
    panel = drawn(raw, series([1, None, 1500], app="reviews", code="200"))
    line, area = panel.figure["data"]
    assert line["name"] == "reviews : 200"
    assert line["y"] == [None, None, 1, None, 1500]
    assert line["text"][-1] == "1.5 K ops/s"
    assert line["x"][-1] == "1970-01-12T13:46:40"
    assert area["fill"] == "toself"
    assert line["connectgaps"] is False
    axis = panel.figure["layout"]["yaxis"]
    assert axis["ticktext"][-1] == "1.5 K ops/s"
    assert axis["tickvals"][-1] == 1500
    assert panel.value == 1500
    assert panel.values == {"reviews : 200": 1500}
    assert panel.table["reviews : 200"].dropna().tolist() == [1, 1500]


def test_null_as_zero_and_connected():
    old = {"type": "graph", "nullPointMode": "null as zero"}
    assert drawn(old, series([4, None, 2])).figure["data"][0]["y"] == [0, 0, 4, 0, 2]
    new = {"type": "timeseries", "fieldConfig": {"defaults": {"custom": {"spanNulls": True}}}}
    assert drawn(new, series([4, None, 2])).figure["data"][0]["connectgaps"] is True


def test_two_axes_by_series_overrides_and_by_overrides():
    old = {"type": "graph", "yaxes": [{"format": "s"}, {"format": "bytes", "min": 0}]}
    old["targets"] = [{"expr": "a", "legendFormat": "{{n}}"}]
    old["seriesOverrides"] = [{"alias": "/mem.*/", "yaxis": 2, "fill": 5}]
    panel = drawn(old, series([1], n="cpu"), series([2 * 1024**2], n="memory"))
    cpu, memory = panel.figure["data"]
    assert "yaxis" not in cpu
    assert memory["yaxis"] == "y2"
    assert memory["text"][-1] == "2 MiB"
    assert panel.figure["layout"]["yaxis2"]["side"] == "right"
    matcher = {"matcher": {"id": "byFrameRefID", "options": "B"}}
    properties = [{"id": "custom.axisPlacement", "value": "right"}, {"id": "unit", "value": "c/s"}]
    new = {"type": "timeseries", "fieldConfig": {"overrides": [{**matcher, "properties": properties}]}}
    new["targets"] = [{"expr": "a"}, {"expr": "b"}]
    left, right = drawn(new, series([3])).figure["data"]
    assert "yaxis" not in left
    assert right["yaxis"] == "y2"
    assert right["text"][-1] == "3 c/s"


def test_stacked_bars_and_areas():
    new = {"type": "timeseries", "targets": [{"expr": "a", "legendFormat": "{{n}}"}]}
    custom = {"drawStyle": "bars", "stacking": {"mode": "normal"}, "fillOpacity": 100}
    panel = drawn(
        {**new, "fieldConfig": {"defaults": {"custom": custom}}}, series([1, 2], n="a"), series([3, 4], n="b")
    )
    assert [trace["type"] for trace in panel.figure["data"]] == ["bar", "bar"]
    assert panel.figure["layout"]["barmode"] == "relative"
    # The axis holds the whole stack.
    assert panel.figure["layout"]["yaxis"]["range"][1] > 6
    old = {"type": "graph", "stack": True, "fill": 3}
    assert drawn(old, series([1, None])).figure["data"][0]["stackgroup"] == "A"
    assert drawn(old, series([1, None, 3])).figure["data"][0]["y"] == [0, 0, 1, 0, 3]


def test_hidden_targets_and_series_that_are_all_null():
    raw: dict[str, Any] = {"type": "timeseries", "targets": [{"expr": "a", "hide": True}, {"expr": "b"}]}
    assert drawn(raw, series([1])).queries == ("b",)
    options = {"reducer": "allIsNull", "op": "gte", "value": 0}
    hide = [{"id": "custom.hideFrom", "value": {"viz": True, "legend": True}}]
    raw["fieldConfig"] = {"overrides": [{"matcher": {"id": "byValue", "options": options}, "properties": hide}]}
    assert drawn(raw, series([math.nan])).series == ()
    assert len(drawn(raw, series([1])).series) == 1


def test_thresholds_as_lines_and_a_legend_with_numbers():
    steps = [{"color": "green", "value": None}, {"color": "red", "value": "80"}]
    defaults = {"thresholds": {"steps": steps}, "custom": {"thresholdsStyle": {"mode": "line"}}, "unit": "percent"}
    raw = {"type": "timeseries", "fieldConfig": {"defaults": defaults}}
    raw["options"] = {"legend": {"calcs": ["last", "max"], "placement": "right"}}
    panel = drawn(raw, series([90, 30]))
    (line,) = panel.figure["layout"]["shapes"]
    assert (line["y0"], line["line"]["color"]) == (80, "#f2495c")
    assert panel.figure["data"][0]["meta"] == {"last": "30%", "max": "90%"}
    assert panel.figure["layout"]["legend"]["x"] > 1


@pytest.mark.parametrize(
    ("name", "shown", "value"), [("avg", "20 ops/s", 20.0), ("current", "30 ops/s", 30.0), ("max", "30 ops/s", 30.0)]
)
def test_a_singlestat_reduces_as_it_says(name, shown, value):
    raw = {"type": "singlestat", "format": "ops", "valueName": name, "sparkline": {"show": True}}
    panel = drawn(raw, series([10, 20, 30]))
    assert panel.value == value
    assert panel.figure["layout"]["annotations"][0]["text"] == f"<b>{shown}</b>"
    assert panel.figure["data"][0]["y"][-3:] == [10, 20, 30]


def test_a_stat_without_a_value_says_what_its_mapping_says():
    old = {"type": "singlestat", "valueMaps": [{"value": "null", "text": "N/A"}], "mappingType": 1}
    assert "N/A" in drawn(old).figure["layout"]["annotations"][0]["text"]
    mapping = {"type": "special", "options": {"match": "null", "result": {"text": "none"}}}
    new = {"type": "stat", "fieldConfig": {"defaults": {"mappings": [mapping]}}}
    assert "none" in drawn(new).figure["layout"]["annotations"][0]["text"]
    assert (
        "0"
        in drawn({"type": "stat", "fieldConfig": {"defaults": {"noValue": "0"}}}).figure["layout"]["annotations"][0][
            "text"
        ]
    )


def test_mappings_of_values_and_ranges():
    values = {"type": "value", "options": {"1": {"text": "up", "color": "green"}}}
    ranges = {"type": "range", "options": {"from": 2, "to": None, "result": {"text": "many"}}}
    raw = {"type": "stat", "fieldConfig": {"defaults": {"mappings": [values, ranges]}}}
    assert "up" in drawn(raw, series([1])).figure["layout"]["annotations"][0]["text"]
    assert "many" in drawn(raw, series([7])).figure["layout"]["annotations"][0]["text"]


def test_a_gauge_has_its_bounds_and_bands():
    raw = {
        "type": "singlestat",
        "format": "percentunit",
        "thresholds": "0.95,0.99",
        "colors": ["red", "orange", "green"],
    }
    raw["gauge"] = {"show": True, "minValue": 0, "maxValue": 1}
    panel = drawn(raw, series([0.97]))
    (dial,) = panel.figure["data"]
    assert dial["value"] == 0.97
    assert dial["gauge"]["axis"]["range"] == [0, 1]
    assert [band["range"] for band in dial["gauge"]["steps"]] == [[0, 0.95], [0.95, 0.99], [0.99, 1]]
    assert dial["gauge"]["bar"]["color"] == "#ff9830"
    assert panel.figure["layout"]["annotations"][0]["text"] == "<b>97%</b>"


def test_a_table_of_old_styles():
    style = {"pattern": "Value", "type": "number", "unit": "percentunit", "decimals": 1, "alias": "Success"}
    style |= {"colorMode": "cell", "thresholds": [".95", " 1.00"], "colors": ["red", "orange", "green"]}
    hidden = [{"pattern": "Time", "type": "hidden"}]
    raw: dict[str, Any] = {"type": "table", "styles": [*hidden, style], "sort": {"col": 1, "desc": True}}
    raw["targets"] = [{"expr": "a", "format": "table", "instant": True}]
    panel = drawn(raw, series([0.5], app="details"), series([1], app="reviews"))
    assert list(panel.table.columns) == ["app", "Success"]
    assert panel.table["app"].tolist() == ["reviews", "details"]
    cells = panel.figure["data"][0]["cells"]
    assert cells["values"] == [["reviews", "details"], ["100.0%", "50.0%"]]
    assert cells["fill"]["color"][1] == ["rgba(115,191,105,0.55)", "rgba(242,73,92,0.55)"]


def test_labels_in_a_table_cannot_be_markup():
    raw = {"type": "table", "targets": [{"expr": "a", "format": "table", "instant": True}]}
    panel = drawn(raw, series([1], app="<a href='javascript:x'>y</a>"))
    assert "&lt;a href" in str(panel.figure["data"][0]["cells"]["values"])
    assert "<a " not in str(panel.figure["data"][0]["cells"]["values"])


def test_an_unknown_panel_type_is_shown_as_such():
    panel = drawn({"type": "nodeGraph", "title": "Graph"})
    assert not panel.drawn
    assert "panels of type nodeGraph are not drawn here" in panel.reason
    assert "nodeGraph" in panel.figure["layout"]["annotations"][0]["text"]


def test_another_datasource_is_the_reason():
    loki = [Source("Loki", "loki", "http://loki:3100")]
    panel = drawn({"type": "timeseries", "datasource": "Loki"}, sources=loki)
    assert panel.reason == "it asks Loki, a datasource of type loki; only Prometheus is asked here"


def test_a_refused_query_is_the_reason_and_the_others_are_drawn():
    def answer(path: str, given: dict[str, str]) -> Any:
        return "parse error" if given["query"] == "sum(" else {"resultType": "matrix", "result": [series([1])]}

    panels = [{"id": n, "type": "graph", "targets": [{"expr": e}]} for n, e in enumerate(("sum(", "up"))]
    with fake(answer) as url:
        found = Grafana(url, [Dashboard({"title": "Two", "panels": panels})]).draw("Two", window="20s", end=END)
    assert [panel.drawn for panel in found] == [False, True]
    assert found.missing[0].reason == "Prometheus refused the query (bad_data): parse error"


def test_nobody_there_is_told():
    board = Dashboard({"title": "One", "panels": [{"type": "graph", "targets": [{"expr": "up"}]}]})
    (panel,) = Grafana("http://127.0.0.1:1", [board]).draw("One")
    assert "no answer from Prometheus at http://127.0.0.1:1" in panel.reason
    with pytest.raises(ClusterError, match="no address of Prometheus"):
        Grafana("ftp://x", [board])


@pytest.mark.parametrize(
    ("mode", "content", "html"),
    [
        (
            "markdown",
            "# Title\n\nSome *words* and `code`.",
            "<h1>Title</h1>\n<p>Some <em>words</em> and <code>code</code>.</p>",
        ),
        ("markdown", "- one\n- [two](https://x)", '<ul><li>one</li><li><a href="https://x" target="_blank"'),
        ("html", "<b onclick=x()>bold</b><script>alert(1)</script>", "<b>bold</b>"),
        ("html", '<img src="http://x/y"><a href="javascript:x()">y</a>', "<a>y</a>"),
        ("html", '<p style="color:red;background:url(x)">y', '<p style="color:red">y</p>'),
    ],
)
def test_text_is_kept_and_what_runs_is_not(mode, content, html):
    for raw in ({"mode": mode, "content": content}, {"options": {"mode": mode, "content": content}}):
        panel = drawn({"type": "text", "targets": [], **raw})
        assert panel.html.startswith(html)
        assert "script" not in panel.html


def test_a_panel_shows_itself_in_a_notebook():
    panel = drawn({"type": "graph", "title": "Requests"}, series([1, 2]))
    assert panel.plotly().layout.title.text == "Requests"
    assert "text/html" in drawn({"type": "text", "mode": "markdown", "content": "hi"})._repr_mimebundle_()


def test_dashboards_and_panels_are_found_by_name():
    boards = [Dashboard({"title": title, "panels": []}) for title in ("Istio Mesh Dashboard", "Istio Mixer Dashboard")]
    grafana = Grafana("http://127.0.0.1:1", boards)
    for name in ("Istio Mesh Dashboard", "istio-mesh-dashboard", "mesh", "Mesh"):
        assert grafana.dashboard(name).title == "Istio Mesh Dashboard"
    with pytest.raises(SettingError, match="2 dashboards are called 'istio'"):
        grafana.dashboard("istio")
    with pytest.raises(SettingError, match="no dashboard is called 'kiali'"):
        grafana.dashboard("kiali")
    with pytest.raises(SettingError, match="no panel 'x'"):
        grafana.draw("mesh").panel("x")


def test_a_row_repeats_for_each_value_of_its_variable():
    variable = {"name": "adapter", "type": "custom", "query": "x,y", "multi": True, "includeAll": True}
    variable["current"] = {"value": ["$__all"]}
    row = {"type": "row", "title": "$adapter Adapter", "repeat": "adapter", "gridPos": {"y": 0, "h": 1, "w": 24}}
    graph = {"type": "graph", "title": "of $adapter", "gridPos": {"y": 1, "h": 7}}
    graph["targets"] = [{"expr": 'a{b="$adapter"}'}]
    board = Dashboard({"title": "One", "panels": [row, graph], "templating": {"list": [variable]}})
    with fake(lambda path, given: {"resultType": "matrix", "result": []}) as url:
        found = Grafana(url, [board]).draw("One", window="1m")
    places = [(panel.title, panel.grid.y) for panel in found]
    assert places == [("x Adapter", 0), ("of x", 1), ("y Adapter", 8), ("of y", 9)]
    assert [query for panel in found for query in panel.queries] == ['a{b="x"}', 'a{b="y"}']


def test_rows_of_old_dashboards_are_read():
    old = Dashboard({"title": "Old", "rows": [{"title": "r", "panels": [{"type": "graph", "span": 6}] * 2}]})
    assert [(panel.kind, panel.grid.x, panel.grid.w) for panel in Grafana("http://127.0.0.1:1", [old]).draw("Old")] == [
        ("row", 0, 24),
        ("timeseries", 0, 12),
        ("timeseries", 12, 12),
    ]


def test_an_area_with_a_gap_is_not_closed():
    raw = {"type": "graph", "fill": 1}
    line, area = drawn(raw, series([1, 2, None, 4])).figure["data"]
    assert "fill" not in line
    assert (area["fill"], area["showlegend"]) == ("toself", False)
    assert area["y"] == [0, 1, 2, 0, None, 0, 4, 0, None]
    assert len(drawn(raw, series([1, 2])).figure["data"]) == 1


def test_overrides_match_what_a_transformation_renamed():
    raw: dict[str, Any] = {"type": "table", "transformations": [{"id": "merge"}]}
    organize = {"renameByName": {"Value": "Requests"}, "excludeByName": {"Time": True}, "indexByName": {"Value": 0}}
    raw["transformations"].append({"id": "organize", "options": organize})
    unit = {"matcher": {"id": "byName", "options": "Requests"}, "properties": [{"id": "unit", "value": "reqps"}]}
    raw["fieldConfig"] = {"overrides": [unit]}
    panel = drawn(raw, series([2], app="details"))
    assert list(panel.table.columns) == ["Requests", "app"]
    assert panel.figure["data"][0]["cells"]["values"] == [["2 req/s"], ["details"]]


def absent(expression: str, *names: str, counted: float | None = None) -> Panel:
    """A graph of `expression` that shows nothing, where Prometheus has `names`."""

    def answer(path: str, given: dict[str, str]) -> Any:
        if path == "label/__name__/values":
            return list(names)
        counts = given.get("query", "").startswith("count(") and counted is not None
        return {"resultType": "vector", "result": [series([counted])] if counts else []}

    panel = {"id": 1, "type": "timeseries", "targets": [{"expr": expression, "refId": "A"}]}
    with fake(answer) as url:
        (found,) = Grafana(url, [Dashboard({"title": "One", "panels": [panel]})], sources=[]).draw("One", end=END)
    return found


def test_an_empty_panel_says_which_metrics_are_missing():
    panel = absent('rate(a_total[1m]) + b / c - d{x="1"} * e', "a_total")
    assert panel.drawn
    assert panel.empty
    assert panel.note == "there is no metric b, c, d, …"
    texts = [one["text"] for one in panel.figure["layout"]["annotations"]]
    assert texts[-2:] == ["No data", "there is no metric b, c, d, …"]


def test_many_missing_metrics_are_not_all_named():
    expression = " + ".join(f"rate(m{number}[1m])" for number in range(5))
    assert absent(expression).note == "there is no metric m0, m1, m2, …"


def test_an_empty_panel_says_which_series_are_missing():
    assert absent('sum(up{job="pilot"})', "up").note == 'no series of up has job="pilot"'
    few = "its series are there, with too few samples in this time"
    assert absent('sum(up{job="pilot"})', "up", counted=1.0).note == few
    assert absent("sum(rate(up[1m]))", "up").note == few


@pytest.mark.parametrize(
    ("expression", "there", "note"),
    [
        # Of one or the other both are the reason.
        ("a or b", {}, "there is no metric a, b"),
        ('known{x="1"} or b', {}, 'there is no metric b; no series of known has x="1"'),
        # A part without an answer is none where another one has one.
        (
            "(count(known) or b) / c",
            {"count(known)", "count(known) or b", "(count(known) or b)"},
            "there is no metric c",
        ),
        ("sum(known or b) > 5", {"sum(known or b)"}, "no value of sum(known or b) is above 5"),
        ("5 < known", {"count(known)"}, "for no value of known it holds that 5 < it"),
        ("a unless known", {"count(known)"}, "there is no metric a"),
        ("known unless other", {"count(known)", "count(other)"}, "each series of known is in other as well"),
        ("known / other", {"count(known)", "count(other)"}, "no series of known has the labels of one of other"),
        ("known * scalar(b)", {"scalar(b)"}, "its series are there, with too few samples in this time"),
        ("absent(known)", {"count(known)"}, "absent(known) has an answer only where known has none, which is there"),
        ("sum(rate(known[1m])) or sum(rate(b[1m]))", {"count_over_time(known[1m])"}, "there is no metric b"),
    ],
)
def test_an_empty_panel_says_what_is_the_reason_and_nothing_else(expression, there, note):
    def answer(path: str, given: dict[str, str]) -> Any:
        if path == "label/__name__/values":
            return ["known", "other"]
        asked = path == "query" and given["query"] in there
        return {"resultType": "vector", "result": [series([1.0])] if asked else []}

    panel = {"id": 1, "type": "timeseries", "targets": [{"expr": expression, "refId": "A"}]}
    with fake(answer) as url:
        (found,) = Grafana(url, [Dashboard({"title": "One", "panels": [panel]})], sources=[]).draw("One", end=END)
    assert found.note == note


def test_the_summary_has_the_note():
    def answer(path: str, given: dict[str, str]) -> Any:
        return [] if path.startswith("label/") else {"resultType": "vector", "result": []}

    panel = {"id": 1, "type": "stat", "title": "T", "targets": [{"expr": "rate(gone_total[1m])", "refId": "A"}]}
    with fake(answer) as url:
        summary = Grafana(url, [Dashboard({"title": "One", "panels": [panel]})], sources=[]).draw("One").summary
    assert summary["reason"].tolist() == ["there is no metric gone_total"]


def test_an_old_number_without_a_value_is_what_its_mapping_says():
    raw = {"type": "singlestat", "title": "4xxs", "format": "ops", "valueName": "current"}
    raw["valueMaps"] = [{"op": "=", "value": "null", "text": "N/A"}]
    panel = drawn(raw)
    assert panel.empty
    assert panel.figure["layout"]["annotations"][0]["text"] == "<b>N/A</b>"
