# SPDX-License-Identifier: Apache-2.0
"""Variables: what is asked, what is chosen, and how it is written; units and built-in variables."""

from __future__ import annotations

from typing import Any

import pytest

from grafana_figures import ALL, Dashboard, Grafana
from grafana_figures.dashboard import sources_in
from grafana_figures.promql import Api, Window
from grafana_figures.units import ticks, written
from grafana_figures.variables import duration, macros, resolve
from labkit.ground.errors import SettingError
from tests.observe.grafana_numbers import fake

SERVICES = ["ratings.bookinfo", "details.bookinfo", "details.bookinfo"]


def board(*variables: dict[str, Any], expression: str = "up") -> Dashboard:
    panel = {"type": "graph", "title": "of $service", "targets": [{"expr": expression}]}
    return Dashboard({"title": "One", "panels": [panel], "templating": {"list": list(variables)}})


def answer(path: str, given: dict[str, str]) -> Any:
    if path.startswith("label/"):
        return sorted(set(SERVICES))
    if path == "query_range":
        return {"resultType": "matrix", "result": []}
    labels = [{"destination_service": name, "source": given["query"]} for name in SERVICES]
    return {"resultType": "vector", "result": [{"metric": one, "value": [1, "2"]} for one in labels]}


def test_label_values_and_the_first_is_chosen():
    one = {"name": "service", "type": "query", "query": "label_values(destination_service)", "label": "Service"}
    with fake(answer) as url:
        choice = Grafana(url, [board(one)]).variables("One")["service"]
    assert choice.options == ("details.bookinfo", "ratings.bookinfo")
    assert choice.chosen == ("details.bookinfo",)
    assert choice.written() == "details.bookinfo"
    assert choice.label == "Service"


def test_query_result_regex_and_order():
    one = {"name": "service", "type": "query", "query": "query_result(sum(x) by (destination_service))"}
    one |= {"regex": '/.*destination_service="([^"]*).*/', "sort": 2, "includeAll": True, "multi": True}
    with fake(answer) as url:
        choice = Grafana(url, [board(one)]).variables("One")["service"]
    assert choice.options == ("ratings.bookinfo", "details.bookinfo")
    assert choice.chosen == (ALL,)
    assert choice.written() == r"(ratings\\.bookinfo|details\\.bookinfo)"
    assert choice.written("text") == "All"


def test_a_variable_may_depend_on_those_before_it():
    first = {"name": "service", "type": "custom", "query": "a, b", "current": {"value": "b"}}
    second = {
        "name": "workload",
        "type": "query",
        "query": 'query_result(x{s="$service"})',
        "regex": '/source="(.*)"}/',
    }
    with fake(answer) as url:
        grafana = Grafana(url, [board(first, second)])
        assert grafana.variables("One")["workload"].options == ('x{s="b"}',)
        assert grafana.variables("One", {"service": "a"})["workload"].options == ('x{s="a"}',)


def test_what_is_chosen_reaches_queries_and_titles():
    one = {"name": "service", "type": "custom", "query": "a.b,c,d", "multi": True, "current": {"value": ["c"]}}
    expression = 'x{s=~"$service", t=~"${service:pipe}", u="[[service]]", v="$other"}'
    with fake(answer) as url:
        (panel,) = Grafana(url, [board(one, expression=expression)]).draw("One", {"service": ["a.b", "c"]})
    assert panel.title == "of a.b + c"
    assert panel.queries == (r'x{s=~"(a\\.b|c)", t=~"a.b|c", u="(a\\.b|c)", v="$other"}',)


def test_all_with_a_value_of_its_own_and_datasources():
    one = {"name": "service", "type": "custom", "query": "a,b", "includeAll": True, "allValue": ".*"}
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    with fake(answer) as url:
        choices = Grafana(url, [board(one, source)]).variables("One")
    assert choices["service"].written() == ".*"
    assert choices["datasource"].chosen == ("Prometheus",)


def test_a_variable_without_series_says_so():
    one = {"name": "service", "type": "query", "query": "label_values(destination_service)"}
    with fake(lambda path, given: "no such thing") as url:
        assert "no such thing" in Grafana(url, [board(one)]).variables("One")["service"].reason
    with fake(lambda path, given: []) as url:
        assert Grafana(url, [board(one)]).variables("One")["service"].reason == "Prometheus has no such series yet"
        with pytest.raises(SettingError, match="has no variable 'servce'"):
            Grafana(url, [board(one)]).variables("One", {"servce": "a"})


def test_built_in_variables():
    found = macros(Window(1000.0, 1300.0), 5.0, 15.0)
    assert (found["__interval"], found["__interval_ms"]) == ("5s", "5000")
    assert found["__rate_interval"] == "1m"
    assert (found["__range"], found["__range_s"]) == ("5m", "300")
    assert macros(Window(0, 60), 60.0, 15.0)["__rate_interval"] == "75s"
    assert [duration(one) for one in (0.5, 90, 7200)] == ["500ms", "90s", "2h"]


def test_the_interval_is_the_datasources_unless_told():
    board_ = board(expression="rate(x[$__rate_interval])")
    sources = sources_in("datasources: [{name: P, type: prometheus, url: u, jsonData: {timeInterval: 5s}}]")
    assert (sources[0].interval, sources[0].name) == (5.0, "P")
    with fake(answer) as url:
        assert Grafana(url, [board_], sources=sources).draw("One")[0].queries == ("rate(x[20s])",)
        assert Grafana(url, [board_], interval="1s").draw("One", window="1m")[0].queries == ("rate(x[4s])",)
    for wrong in ({"interval": "soon"}, {"theme": "pink"}):
        with pytest.raises(SettingError):
            Grafana("http://127.0.0.1:1", [board_], **wrong)
    with pytest.raises(SettingError, match="'soon' is no time range"):
        Grafana("http://127.0.0.1:1", [board_]).draw("One", window="soon")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.666, "ops", "3.67 ops/s"),
        (12345, "reqps", "12.3 K req/s"),
        (0.0125, "s", "12.5 ms"),
        (90, "s", "1.5 min"),
        (1500, "ms", "1.5 s"),
        (1536, "bytes", "1.5 KiB"),
        (1500, "decbytes", "1.5 kB"),
        (2_500_000, "Bps", "2.5 MB/s"),
        (0.9876, "percentunit", "98.8%"),
        (45, "percent", "45%"),
        (2_000_000, "short", "2 Mil"),
        (7, "none", "7"),
        (3, "cps", "3 c/s"),
        (3, "qps", "3 queries/s"),
        (5, "widgets", "5 widgets"),
        (0, "s", "0 s"),
        (None, "s", "–"),
        (0.001, "", "0.001"),
    ],
)
def test_units(value, unit, text):
    assert written(value, unit) == text


def test_decimals_are_kept_where_they_are_asked_for():
    assert written(1, "percentunit", 2) == "100.00%"
    assert written(4.9, "s", 2) == "4.90 s"


@pytest.mark.parametrize(
    ("low", "high", "unit", "texts"),
    [
        (0, 1.01, "percentunit", ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (0, 0.01, "s", ["0 ms", "2 ms", "4 ms", "6 ms", "8 ms", "10 ms"]),
        (0, 25, "ops", ["0 ops/s", "5 ops/s", "10 ops/s", "15 ops/s", "20 ops/s", "25 ops/s"]),
        (0, 2, "", ["0", "0.5", "1.0", "1.5", "2.0"]),
        (3, 3, "", ["3.0", "3.2", "3.4", "3.6", "3.8", "4.0"]),
    ],
)
def test_marks_of_an_axis_are_round(low, high, unit, texts):
    values, found = ticks(low, high, unit)
    assert found == texts
    assert len(values) == len(texts)


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (
            ["*", "10.0.0.1:80", "details.bookinfo.svc.cluster.local", "productpage.bookinfo.svc.cluster.local"],
            "productpage.bookinfo.svc.cluster.local",
        ),
        (["productpage.default.svc.cluster.local", "productpage.bookinfo.svc.cluster.local"], None),
        (["details.default.svc.cluster.local", "productpage.default.svc.cluster.local"], None),
        (["grafana.istio-system.svc.cluster.local", "reviews.bookinfo.svc.cluster.local"], None),
        (["bookinfo", "default"], "bookinfo"),
        (["bar", "bookinfo", "istio-system"], "bookinfo"),
        (["details-v1", "productpage-v1"], "productpage-v1"),
        (["a", "b"], "a"),
        (["a.b.svc", "bookinfo-like.c.svc"], "a.b.svc"),
    ],
)
def test_where_nothing_was_chosen_the_shop_is(options: list[str], first: str | None) -> None:
    raw = [{"name": "service", "type": "custom", "query": ",".join(options)}]
    choices = resolve(raw, Api("http://127.0.0.1:9"), Window(0.0, 60.0), {}, {})
    assert choices["service"].chosen == (first or options[-1],)
    chosen = resolve(raw, Api("http://127.0.0.1:9"), Window(0.0, 60.0), {"service": options[0]}, {})
    assert chosen["service"].chosen == (options[0],)
