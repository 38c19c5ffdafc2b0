# SPDX-License-Identifier: Apache-2.0
"""Queries against a real Prometheus that scrapes a page of known numbers."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from grafana_figures.promql import Api
from labkit.ground import config
from labkit.ground.errors import ClusterError, NotReadyError, SettingError
from labkit.observe import settling
from labkit.observe.prometheus import Prometheus, chart, duration
from labkit.ui import cells
from tests.conftest import PATIENCE, wait_until
from tests.observe.grafana_numbers import fake
from tests.ports import kept_port

BOTH = 'reporter="destination",response_code="200"'

LATELY = "[5m]"
"""A window in which there are two scrapes, once there were any: a busy machine may miss many in a row."""


class Page(BaseHTTPRequestHandler):
    """A counter that grows by 10 a second from the server's start, and two that stand still.

    Each says itself when it was read: a scrape that a busy machine answers late would show another rate, and what has
    no time of its own is gone for as long as a scrape has failed.
    """

    began = 0.0

    def do_GET(self) -> None:
        now = round(time.time(), 3)
        grown, at = 10 * (now - self.began), round(now * 1000)
        lines = [
            f'istio_requests_total{{{BOTH},destination_workload="reviews-v1"}} {grown} {at}',
            f'istio_requests_total{{{BOTH},destination_workload="reviews-v2"}} 5 {at}',
            f'istio_request_bytes_sum{{reporter="source"}} 700 {at}',
        ]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = config.tool("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: labkit setup")
    folder = tmp_path_factory.mktemp("prometheus")
    Page.began = round(time.time(), 3)
    page = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 250ms}\n"
        f"scrape_configs: [{{job_name: page, static_configs: [{{targets: ['127.0.0.1:{page.server_port}']}}]}}]\n"
    )
    command = [str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with kept_port() as port:
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        api = Prometheus(f"http://127.0.0.1:{port}")

        def scraped() -> bool:
            try:
                return api.value(f'sum(rate(istio_requests_total{{destination_workload="reviews-v1"}}{LATELY}))') > 0
            except ClusterError:
                return False

        wait_until(scraped, what="two scrapes")
        yield api
        process.kill()
        process.wait()
    page.shutdown()
    page.server_close()


def test_an_instant_query_is_a_row_a_series(api):
    table = api.query("istio_requests_total")
    assert sorted(table["destination_workload"]) == ["reviews-v1", "reviews-v2"]
    assert table.index.name == "time"
    assert str(table.index.dtype).endswith("UTC]")
    assert table["value"].dtype == "float64"
    assert table[table["destination_workload"] == "reviews-v2"]["value"].tolist() == [5.0]


def test_a_rate_is_what_was_sent(api):
    sent = 'sum(rate(istio_requests_total{destination_workload="reviews-v1"}[2s]))'
    assert 9 <= api.wait_for(sent, lambda rate: 9 <= rate <= 11, timeout=PATIENCE) <= 11


def test_a_range_query_is_a_row_a_point_and_draws_with_its_unit(api):
    table = api.range(f"sum by (destination_workload) (rate(istio_requests_total{LATELY}))", "3s", "500ms")
    assert table.attrs["unit"] == "requests/s"
    assert set(table["destination_workload"]) == {"reviews-v1", "reviews-v2"}
    figure = chart(table)
    assert [line.name for line in figure.data] == ["reviews-v1", "reviews-v2"]
    assert figure.layout.yaxis.title.text == "requests/s"
    assert figure.layout.legend.title.text == "destination_workload"


def test_an_empty_answer_is_an_empty_table_and_zero(api):
    table = api.query('istio_requests_total{destination_workload="ratings-v1"}')
    assert len(table) == 0
    assert list(table.columns) == ["value"]
    assert api.value("nothing_at_all") == 0.0


INDEX = "datetime64[ns, UTC]"


def test_every_table_has_the_same_index(api):
    asked = (
        api.query("istio_requests_total"),
        api.query("nothing_at_all"),
        api.query("1"),
        api.query("istio_requests_total[1s]"),
        api.range("istio_requests_total", "3s", "500ms"),
        api.range("nothing_at_all", "3s", "500ms"),
    )
    assert {str(table.index.dtype) for table in asked} == {INDEX}
    assert {str(table["value"].dtype) for table in asked} == {"float64"}


def test_labels_with_the_names_of_columns_are_columns_of_another_name(api):
    still = 'istio_requests_total{destination_workload="reviews-v2"}'
    asked = f'label_replace(label_replace({still}, "value", "a", "", ""), "time", "b", "", "")'
    table = api.query(asked)
    assert table[["exported_value", "exported_time", "value"]].values.tolist() == [["a", "b", 5.0]]
    assert sorted(table.attrs["warnings"]) == [
        "the label time is the column exported_time",
        "the label value is the column exported_value",
    ]
    both = api.query(f'label_replace({asked}, "exported_value", "c", "", "")')
    assert both[["exported_exported_value", "exported_value"]].values.tolist() == [["a", "c"]]
    assert [line.name for line in chart(api.range(f"sum by (value) ({asked})", "1s", "500ms")).data] == ["a"]
    assert api.counts(f"sum by (value) ({asked})").to_dict() == {"a": 5.0}


def test_a_range_is_a_row_a_sample(api):
    table = api.query('istio_requests_total{destination_workload="reviews-v2"}[1m]')
    assert len(table) >= 2
    assert set(table["value"]) == {5.0}
    assert table.index.is_monotonic_increasing


def test_a_text_is_told_and_no_traceback(api):
    with pytest.raises(ClusterError, match=r'^"a" returns a text, not numbers'):
        api.query('"a"')
    with pytest.raises(ClusterError, match="refused the query"):
        api.range('"a"')


def histograms(path: str, given: dict[str, str]):
    """A native histogram beside a number, and alone for a query that says "alone"."""
    counted = {"count": "3", "sum": "1.5", "buckets": [[0, "0.25", "0.5", "3"]]}
    one, two = {"metric": {"pod": "a"}}, {"metric": {"pod": "b"}}
    if path == "query":
        found = [one | {"histogram": [1, counted]}, two | {"value": [1, "2"]}]
    else:
        found = [one | {"histograms": [[1, counted]]}, two | {"values": [[1, "2"]]}]
    kind = "vector" if path == "query" else "matrix"
    return {"resultType": kind, "result": found[:1] if "alone" in given["query"] else found}


def test_native_histograms_are_no_numbers_and_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    with fake(histograms) as url:
        api = Prometheus(url)
        for table in (api.query("a_seconds"), api.range("a_seconds")):
            assert table[["pod", "value"]].values.tolist() == [["b", 2.0]]
            (warning,) = table.attrs["warnings"]
            assert warning.startswith("one series of a_seconds: native histograms")
        assert api.query("alone").empty
        with pytest.raises(ClusterError, match="alone returns a native histogram, not one number"):
            api.value("alone")
        with pytest.raises(ClusterError, match="native histograms, which are no single numbers"):
            Api(url).query("alone", 1.0)
        monkeypatch.setattr(cells, "address_of", lambda name, *, show: url)
        assert len(cells.promql("", "a_seconds")) == 1
        assert "one series of a_seconds: native histograms" in capsys.readouterr().out


def test_what_prometheus_says_of_a_question_comes_along(api):
    # Since 2.53; one that says nothing has nothing to add.
    said = api.get("query", {"query": "rate(up[1m])"})["warnings"]
    assert api.query("rate(up[1m])").attrs["warnings"] == said
    assert api.query("up").attrs["warnings"] == []


def test_wrong_promql_is_told_in_prometheus_words(api):
    with pytest.raises(ClusterError, match=r"refused the query \(bad_data\).*parse error"):
        api.query("sum(rate(")


def test_several_series_are_not_one_number(api):
    with pytest.raises(ClusterError, match="returns 2 series"):
        api.value("istio_requests_total")


def test_explain_names_the_wrong_label_value_and_the_closest_series(api):
    found = api.explain('sum(rate(istio_requests_total{reporter="destination", destination_workload="review-v1"}[1m]))')
    assert 'no series of istio_requests_total has destination_workload="review-v1"' in found.reasons[0]
    assert found.closest[0] == 'istio_requests_total{destination_workload="reviews-v1"}'


def test_explain_names_a_label_that_does_not_exist(api):
    found = api.explain('istio_requests_total{workload="reviews-v1"}')
    assert found.reasons == ("istio_requests_total has no label workload",)


def test_explain_names_a_misspelt_metric(api):
    found = api.explain("sum(rate(istio_request_total[1m])) by (destination_workload)")
    assert found.reasons == ("there is no metric istio_request_total; did you mean istio_requests_total?",)


def test_explain_tells_labels_that_never_go_together(api):
    found = api.explain(
        'istio_requests_total{destination_workload="reviews-v1",reporter="destination",response_code!="200"}'
    )
    assert "response_code" in found.reasons[0]


def test_explain_of_a_series_named_by_its_labels_alone(api):
    assert (
        api.explain('{__name__="istio_requests_total",reporter="none"}')
        .reasons[0]
        .startswith('no series of istio_requests_total has reporter="none"; there are destination')
    )
    assert api.explain('count({job=~"no.*"})').reasons == ('no series has job=~"no.*"',)


def test_explain_of_a_value_with_quotes_asks_for_it_as_it_is(api):
    (reason,) = api.explain(r"""istio_requests_total{reporter='a "b" \\ {c}'}""").reasons
    assert reason.startswith('no series of istio_requests_total has reporter="a \\"b\\" \\\\ {c}"; there are')


def test_explain_of_what_is_no_promql_says_so(api):
    assert "cannot be read as PromQL" in api.explain("rate(istio_requests_total[").reasons[0]


def test_explain_of_a_window_without_two_samples(api):
    assert "fewer than two samples" in str(api.explain("rate(istio_requests_total[1ms])"))


def test_explain_names_what_is_the_reason_and_nothing_else(api):
    assert api.explain("gone_total or also_gone").reasons == (
        "there is no metric gone_total",
        "there is no metric also_gone",
    )
    assert api.explain("(istio_requests_total or gone_total) / also_gone").reasons == ("there is no metric also_gone",)
    assert api.explain("istio_request_bytes_sum > 5000").reasons == (
        "no value of istio_request_bytes_sum is above 5000",
    )


def test_waiting_ends_with_the_value_or_with_the_reason(api):
    assert api.wait_for("count(istio_requests_total)", lambda value: value == 2) == 2
    with pytest.raises(NotReadyError, match="there is no metric nothing_at_all"):
        api.wait_for("nothing_at_all", lambda value: value > 0, timeout=0.3)


def test_label_values(api):
    assert api.label_values("destination_workload", "istio_requests_total") == ["reviews-v1", "reviews-v2"]


def test_counters_by_their_labels(api):
    still = 'istio_requests_total{destination_workload="reviews-v2"}'
    assert api.counts(f"sum by (destination_workload) ({still})").to_dict() == {"reviews-v2": 5.0}
    pairs = api.counts(f"sum by (destination_workload, reporter) ({still})")
    assert pairs.to_dict() == {("reviews-v2", "destination"): 5.0}
    assert api.counts(f"sum({still})").to_dict() == {"all": 5.0}
    assert api.counts("nothing_at_all").empty


def test_counters_that_stand_still_and_those_that_do_not(api, monkeypatch: pytest.MonkeyPatch):
    settled = api.settled('sum by (destination_workload) (istio_requests_total{destination_workload="reviews-v2"})')
    assert settled.to_dict() == {"reviews-v2": 5.0}
    assert settled.attrs["changed_for"] == 0.0
    assert api.settled("sum(istio_request_bytes_sum)").to_dict() == {"all": 700.0}
    # A sample that says itself when it was read may be seen a moment after its scrape is.
    monkeypatch.setattr(settling, "_AT_ONCE", 2.0)
    with pytest.raises(NotReadyError, match="to stand still; seen last: they changed"):
        # They have changed within the last half of that time, unless no scrape came for so long.
        api.settled("sum(istio_requests_total)", timeout=6)


def test_whom_it_asks_and_how_often(api):
    jobs = api.jobs()
    assert jobs.loc["page"].to_dict() == {"every": "250ms", "seconds": 0.25, "mesh": True}
    assert jobs["seconds"].dtype == "float64"
    assert api.clock() == 0.25


def test_expressions_side_by_side(api):
    still = 'sum by (destination_workload) (istio_requests_total{destination_workload="reviews-v2"})'
    table = api.together({"once": still, "twice": f"2 * {still}"})
    assert table.loc["reviews-v2"].to_dict() == {"once": 5.0, "twice": 10.0}


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("5m", 300.0), ("1h30m", 5400.0)])
def test_durations_are_prometheus_own(text, seconds):
    assert duration(text) == seconds


def test_a_bad_duration_is_told():
    with pytest.raises(SettingError, match="'five' is not a duration"):
        duration("five")


@pytest.fixture
def typed(api, monkeypatch: pytest.MonkeyPatch):
    """The API, as cells find it that begin with %%promql."""
    monkeypatch.setattr(cells, "address_of", lambda name, *, show: {"prometheus": api.url}[name])
    return api


def test_a_typed_question_is_asked_without_its_comments(typed):
    table = cells.promql("", "# how many\nsum by (destination_workload)\n  # of each\n  (istio_requests_total)\n")
    assert sorted(table["destination_workload"]) == ["reviews-v1", "reviews-v2"]
    assert table.attrs["promql"] == "sum by (destination_workload)\n  (istio_requests_total)"


def test_a_typed_window_draws_lines(typed):
    figure = cells.promql(" 3s ", f"sum by (destination_workload) (rate(istio_requests_total{LATELY}))")
    assert [line.name for line in figure.data] == ["reviews-v1", "reviews-v2"]
    assert all(len(line.x) <= 4 for line in figure.data), "no two points are closer than a second"
    with pytest.raises(SettingError, match="'long' is not a duration"):
        cells.promql("long", "up")


def test_a_typed_question_without_an_answer_says_why(typed, capsys: pytest.CaptureFixture[str]):
    assert cells.promql("", "sum(istio_request_total)") is None
    assert "did you mean istio_requests_total?" in capsys.readouterr().out
    assert cells.promql("", "# sum(istio_requests_total)\n") is None
    assert "only comments in this cell: nothing was asked" in capsys.readouterr().out
    with pytest.raises(ClusterError, match="parse error"):
        cells.promql("", "sum(rate(")
