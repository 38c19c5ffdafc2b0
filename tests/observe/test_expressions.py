# SPDX-License-Identifier: Apache-2.0
"""Which series PromQL asks for, with odd but legal expressions."""

from __future__ import annotations

import pytest

from grafana_figures.expressions import selectors, written
from grafana_figures.quantities import unit_of
from labkit.ground.errors import SettingError


@pytest.mark.parametrize(
    ("expression", "unit"),
    [
        ("sum(rate(istio_requests_total[1m]))", "requests/s"),
        ("histogram_quantile(0.9, sum(rate(istio_request_duration_milliseconds_bucket[1m])) by (le))", "ms"),
        ("histogram_quantile(0.9, sum(rate(istio_request_duration_seconds_bucket[1m])) by (le))", "s"),
        ("rate(istio_tcp_sent_bytes_total[1m])", "bytes/s"),
        ("process_resident_memory_bytes", "bytes"),
        ("sum(rate(istio_requests_total[1m])) / sum(rate(istio_requests_total[5m]))", ""),
        ("up", ""),
        ('rate(a_total{b="x_seconds"}[1m])', "events/s"),
        ("# histogram_quantile(\nrate(a_seconds_sum[1m])", "s/s"),
        ("rate(a_seconds_sum[1m]) / 60", "s/s"),
        ("irate(a_bytes[1m])\n/ ignoring (b) rate(c_bytes[1m])", ""),
        # What counts has no unit of what it counts.
        ("istio_request_duration_milliseconds_count", ""),
        ("sum by (le) (istio_request_bytes_bucket)", ""),
        ("rate(istio_request_duration_milliseconds_count[1m])", "requests/s"),
        ("rate(a_seconds_count[1m])", "events/s"),
        ("count(process_resident_memory_bytes)", ""),
        ('count_values("v", a_bytes)', ""),
        ("count_over_time(a_seconds[5m])", ""),
        ("changes(a_seconds[5m])", ""),
        ("absent(a_bytes)", ""),
        # What grew is in the unit of what grows.
        ("increase(istio_requests_total[5m])", "requests"),
        ("sum(increase(istio_tcp_sent_bytes_total[5m]))", "bytes"),
        ("increase(a_seconds_sum[5m])", "s"),
        ("delta(a_bytes[5m])", "bytes"),
        ("deriv(a_bytes[5m])", "bytes/s"),
        ("istio_requests_total", "requests"),
        ("max_over_time(istio_requests_total[5m])", "requests"),
        # A comparison that filters keeps what it compares; one that asks is 0 or 1.
        ("a_bytes > 1000", "bytes"),
        ("1000 < a_bytes", "bytes"),
        ("a_bytes > bool 1000", ""),
        ("rate(istio_requests_total[1m]) > 0", "requests/s"),
        ("a_bytes and b_seconds", "bytes"),
        ("a_bytes or vector(0)", "bytes"),
        ("a_bytes or b_seconds", ""),
        ("sum(rate(istio_requests_total[1m])) or vector(0)", "requests/s"),
        # The mean of an observation, and shares.
        ("rate(a_milliseconds_sum[1m]) / rate(a_milliseconds_count[1m])", "ms"),
        ("a_bytes_sum / a_bytes_count", "bytes"),
        ("sum(rate(istio_request_bytes_sum[1m])) / sum(rate(istio_requests_total[1m]))", "bytes"),
        ("sum(rate(a_total[1m])) / sum(rate(b_total[1m])) * 100", "%"),
        ("100 * sum(istio_requests_total) / sum(istio_requests_total)", ""),
        ("rate(a_bucket[1m]) / ignoring (le) rate(a_count[1m])", ""),
        # Constants that lead to another unit, and those that do not.
        ("a_seconds * 1000", "ms"),
        ("a_bytes / 1024 / 1024", "MiB"),
        ("a_bytes / (1024 * 1024)", "MiB"),
        ("a_bytes / 1024 ^ 2", "MiB"),
        ("rate(istio_requests_total[1m]) * 60", "requests/min"),
        ("2 * a_bytes", "bytes"),
        ("-a_seconds", "s"),
        ("time() - process_start_time_seconds", "s"),
        ("a_bytes * b_bytes", ""),
        ("stdvar(a_seconds)", ""),
        ("stddev(a_seconds)", "s"),
        ("quantile_over_time(0.9, a_seconds[5m])", "s"),
        ("max_over_time(rate(a_bytes_total[1m])[30m:10s])", "bytes/s"),
        # Native histograms have no suffix.
        ("histogram_quantile(0.9, rate(a_seconds[1m]))", "s"),
        ("histogram_count(a_seconds)", ""),
        ("histogram_fraction(0, 0.2, rate(a_seconds[1m]))", ""),
        # Names that do not say their unit.
        ("histogram_quantile(0.5, rate(envoy_cluster_upstream_rq_time_bucket[1m]))", "ms"),
        ("histogram_quantile(0.5, rate(pilot_proxy_convergence_time_bucket[1m]))", "s"),
        ("a_seconds:rate5m", ""),
        ('{__name__="a_bytes"}', "bytes"),
        ("vector(1)", ""),
        ('"a text"', ""),
        ("rate(", ""),
    ],
)
def test_units_are_read_off_names(expression, unit):
    assert unit_of(expression) == unit


def test_names_in_by_are_not_metrics():
    found = list(selectors('sum(rate(a_total{x="1"}[1m])) by (le, y) / sum(b_total) by (y)'))
    assert found == [("a_total", [("x", "=", "1")]), ("b_total", [])]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('a # + b{c="d"}\n+ e', [("a", []), ("e", [])]),
        ('a{b="{c}"} - d', [("a", [("b", "=", "{c}")]), ("d", [])]),
        ("a{b='c'}", [("a", [("b", "=", "c")])]),
        (r"a{b=~`\d+{2}`}", [("a", [("b", "=~", r"\d+{2}")])]),
        (r'a{b="q\"\\"}', [("a", [("b", "=", 'q"\\')])]),
        ("a @ end() offset -5m", [("a", [])]),
        ('a{b!="c",} @ 1609746000', [("a", [("b", "!=", "c")])]),
        ("max_over_time(rate(a[1m])[30m:10s] offset 1h)", [("a", [])]),
        ('{__name__="a",b!~"c"}', [("a", [("b", "!~", "c")])]),
        ('{"a.b", "c.d"="e"}', [("a.b", [("c.d", "=", "e")])]),
        ('{__name__=~"a|b"}', [("", [("__name__", "=~", "a|b")])]),
        ("topk by (le) (3, a) / on (b) group_left (c) sum without (d) (e)", [("a", []), ("e", [])]),
        ("quantile(scalar(a), sum(b) > bool 1) unless c", [("a", []), ("b", []), ("c", [])]),
        ("-sum(le) * 1e3", [("le", [])]),
        ('label_replace(a, "b", "$1 c", "d", "(.*)")', [("a", [])]),
        ("vector(1)", []),
    ],
)
def test_odd_but_legal_promql_is_read(expression, found):
    assert list(selectors(expression)) == found


@pytest.mark.parametrize("expression", ["", "rate(a[", "a{b=c}", "rate(a[$__rate_interval])"])
def test_what_is_no_promql_is_told(expression):
    with pytest.raises(SettingError, match="cannot be read as PromQL"):
        list(selectors(expression))


@pytest.mark.parametrize("expression", ["(" * 100_000 + "a" + ")" * 100_000, "-" * 100_000 + "a", "a" + "+a" * 100_000])
def test_what_would_keep_the_parser_busy_is_not_read(expression):
    with pytest.raises(SettingError, match="more than 1000 words and signs"):
        list(selectors(expression))


def test_a_long_text_in_an_expression_is_no_reason_not_to_read_it():
    value = "|".join(f"a-{number}" for number in range(5000))
    assert list(selectors(f'a{{b=~"{value}"}}')) == [("a", [("b", "=~", value)])]


@pytest.mark.parametrize(
    ("name", "matchers", "text"),
    [
        ("a", [], "a"),
        ("a", [("b", "=", 'c"\\'), ("d", "!~", "e")], r'a{b="c\"\\",d!~"e"}'),
        ("", [("b", "=", "ü")], '{b="ü"}'),
        ("a.b", [("c.d", "=", "")], '{"a.b","c.d"=""}'),
        ("a.b", [], '{"a.b"}'),
    ],
)
def test_a_selector_is_written_as_it_is_read(name, matchers, text):
    assert written(name, matchers) == text
    assert list(selectors(text)) == [(name, matchers)]
