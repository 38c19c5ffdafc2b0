# SPDX-License-Identifier: Apache-2.0
"""What is read from proxies' access logs, in which line a request died, and which lines are waited for."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import cluster, istio
from labkit.ground.errors import ClusterError, NotReadyError
from labkit.istio.access_log import Lines, read
from labkit.istio.flags import FLAGS, flags

log_module = importlib.import_module("labkit.istio.access_log")

TODAY = (
    '[2026-05-04T09:00:00.{ms:03}Z] "GET {path} HTTP/1.1" {status} {flags} {details} - "{failure}" 0 98 {took} - "-" '
    '"{agent}" "{request}" "{host}:9080" "{upstream}" {cluster} 10.0.0.1:5 10.0.0.2:9080 10.0.0.1:6 - default'
)
OF_2019 = (
    '[2026-05-04T09:00:00.{ms:03}Z] "GET {path} HTTP/1.1" {status} {flags} "-" "{failure}" 0 98 {took} - "-" '
    '"{agent}" "{request}" "{host}:9080" "{upstream}" {cluster} 10.0.0.1:5 10.0.0.2:9080 10.0.0.1:6 -'
)
USUAL = {
    "ms": 0, "path": "/details/0", "status": 200, "flags": "-", "details": "via_upstream", "failure": "-", "took": 7,
    "agent": "-", "request": "r-1", "host": "details", "upstream": "10.0.0.3:9080",
    "cluster": "outbound|9080||details.bookinfo.svc.cluster.local",
}  # fmt: skip


def line(form: str = TODAY, **said: Any) -> str:
    return form.format(**{**USUAL, **said})


@pytest.mark.parametrize("form", [TODAY, OF_2019], ids=["today", "2019"])
def test_a_line_of_either_release_is_read(form: str) -> None:
    found = read(line(form, status=503, flags="URX,UF", failure="delayed_connect_error:_111", ms=250), "productpage-v1")
    assert found is not None
    assert (found.workload, found.request, found.way) == ("productpage-v1", "GET details:9080/details/0", "out")
    assert (found.status, found.flags, found.seconds) == (503, ("URX", "UF"), 0.007)
    assert found.time.isoformat() == "2026-05-04T09:00:00.250000+00:00"
    assert found.says.startswith("URX: all tries failed")
    assert "UF: no connection came about" in found.says
    assert "delayed_connect_error:_111" in found.says
    assert found.own
    assert found.details == ("via_upstream" if form == TODAY else "")


def test_json_is_read_as_well() -> None:
    said = {
        "start_time": "2026-05-04T09:00:00.000Z", "method": "GET", "path": "/x", "protocol": "HTTP/1.1",
        "response_code": 403, "response_flags": "-", "response_code_details": "rbac_access_denied", "duration": 1,
        "authority": "reviews:9080", "upstream_host": None, "upstream_cluster": "inbound|9080||", "request_id": "r-2",
    }  # fmt: skip
    found = read(json.dumps(said), "reviews-v1")
    assert found is not None
    assert (found.request, found.way, found.own) == ("GET reviews:9080/x", "in", True)
    assert found.says == "this proxy answered itself; rbac_access_denied"


@pytest.mark.parametrize(
    "text",
    ["", "2026-05-04T09:00:00Z\tinfo\tready", "{", "[1]", '{"a": 1}', line() + " more", line(status="x")],
)
def test_what_is_no_line_of_an_access_log_is_none(text: str) -> None:
    assert read(text, "w") is None


def test_bytes_that_were_passed_on_are_told_as_such() -> None:
    text = line(path="-", status=0).replace('"GET - HTTP/1.1"', '"- - -"')
    found = read(text, "w")
    assert found is not None
    assert (found.request, found.status, found.own) == ("bytes", 0, False)


def lines(*said: tuple[str, dict[str, Any]]) -> Lines:
    found = [read(line(**more), workload) for workload, more in said]
    assert all(one is not None for one in found)
    return Lines(one for one in found if one is not None)


INBOUND = "inbound|9080||"
REFUSED = {"status": 403, "details": "rbac_access_denied", "upstream": "-", "cluster": INBOUND}


@pytest.mark.parametrize(
    ("said", "died"),
    [
        ([("a", {})], None),
        ([("a", {"status": 503, "flags": "NC", "upstream": "-"}), ("b", {"ms": 5})], "a"),
        ([("a", {"status": 403}), ("b", {**REFUSED, "ms": 1})], "b"),
        ([("a", {"status": 504, "flags": "UT"}), ("b", {"status": 0, "flags": "DC", "ms": 1})], "a"),
        # Who was given up on may hear of it later, and clocks of two machines are never quite the same.
        ([("a", {"status": 504, "flags": "UT", "took": 200}), ("b", {"status": 0, "flags": "DC", "took": 201})], "a"),
        ([("a", {"status": 504, "flags": "UT", "ms": 1}), ("b", {"status": 0, "flags": "DC"})], "a"),
        ([("b", {"status": 0, "flags": "DC"})], "b"),
        # A delay is no answer of the proxy's own; nor is an error of the application's.
        ([("a", {"status": 200, "flags": "DI"})], None),
        ([("a", {"status": 500}), ("b", {"status": 500, "cluster": INBOUND, "ms": 1})], None),
    ],
)
def test_a_request_died_where_a_proxy_answered_with_an_error_itself(said: Any, died: str | None) -> None:
    found = lines(*said)
    assert (found.died.workload if found.died else None) == died
    assert ("✘" in found.rich().text) is (died is not None)


def test_lines_are_in_the_order_of_the_calls_and_a_table() -> None:
    found = lines(("b", {"ms": 1, "cluster": INBOUND, "took": 3}), ("a", {"ms": 1, "took": 3}), ("gate", {"took": 9}))
    assert [one.workload for one in found] == ["gate", "a", "b"]
    table = found.table()
    assert str(table["time"].dtype) == "datetime64[ns, UTC]"
    assert table["status"].dtype == "int64"
    assert list(table["says"])[-1] == "answered by the application"
    assert Lines([]).table().empty
    assert "no access log" in Lines([]).rich().text


class Mesh:
    """Proxies that write their lines, some of them late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.late, self.flag, self.answers = 0, 0, "-", True
        gate = SimpleNamespace(pod="gate", namespace="istio-system", workload="istio-ingressgateway")
        monkeypatch.setattr(log_module, "find", lambda name, namespace: gate)
        monkeypatch.setattr(log_module, "ingress", lambda show: SimpleNamespace(url="http://127.0.0.1:1"))
        monkeypatch.setattr(log_module, "_REST", 0.0)
        monkeypatch.setattr(cluster, "fetch", self.fetch)
        monkeypatch.setattr(cluster, "log", self.log)
        monkeypatch.setattr(cluster, "get", lambda kind, namespace: [self.pod])
        self.marks: list[str] = []
        self.pod = {
            "metadata": {"name": "details-v1-a-b", "namespace": "bookinfo"},
            "spec": {"containers": [{"name": "istio-proxy"}]},
            "status": {"podIP": "10.0.0.3", "phase": "Running"},
        }

    def fetch(self, url: str, *, headers: dict[str, str]) -> Any:
        self.marks.append(headers["User-Agent"])
        return SimpleNamespace(status=200)

    def log(self, pod: str, container: str, *, namespace: str, last: int) -> str:
        self.asked += 1
        number = len(self.marks)
        if pod == "gate":
            said = [line(agent=mark, request=f"r-{n}", flags=self.flag) for n, mark in enumerate(self.marks)]
            return "\n".join(["something else", *said]) if self.answers else ""
        self.late -= 1
        if self.late >= 0:
            raise ClusterError("container is not there yet", next_step="")
        return line(cluster=INBOUND, request=f"r-{number - 1}", ms=1) + "\n" + line(request="another")


def test_a_line_of_whoever_answered_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(monkeypatch)
    mesh.late = 3
    found = istio.follow("/productpage")
    assert [one.workload for one in found] == ["istio-ingressgateway", "details-v1-a-b"]
    assert [one.says for one in found] == ["answered by details-v1-a-b", "answered by the application"]
    assert found.status == 200
    assert len(mesh.marks) == 1
    assert mesh.asked == 8


@pytest.mark.parametrize(("flag", "asked"), [("UT", 8), ("URX", 8), ("UF,URX", 2), ("UO", 2)])
def test_a_line_of_whoever_was_given_up_on_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, flag: str, asked: int
) -> None:
    mesh = Mesh(monkeypatch)
    mesh.late, mesh.flag = 3, flag
    found = istio.follow("/productpage", until=flag.split(",")[-1])
    assert len(found) == (2 if asked == 8 else 1), "who was never reached writes nothing"
    assert mesh.asked == asked


def test_a_request_is_sent_again_until_a_flag_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(monkeypatch)
    assert istio.follow("/", until="-").died is None
    with pytest.raises(NotReadyError, match="no proxy wrote NC of / within 0 s; the last answer: 200, no flag"):
        istio.follow("/", until="NC", timeout=0)
    mesh.flag = "NC"
    assert istio.follow("/", until="NC").flags == {"NC"}
    assert istio.follow("/", until="200").flags == {"NC"}
    assert istio.follow("/", until="UH NC", timeout=0).flags == {"NC"}


@pytest.mark.parametrize(("until", "so"), [("NC", True), ("FI", False), ("503", True), ("200", True), ("-", False)])
def test_a_flag_counts_where_the_request_died(until: str, so: bool) -> None:
    """Two calls for a page: the rule that lets the second one die is there, and so is the one of before."""
    text = line(flags="NC", status=503, upstream="-"), line(), line(flags="FI", status=503, ms=9, upstream="-")
    seen = Lines(filter(None, (read(one, "productpage-v1") for one in text)))
    assert (len(seen), log_module._shows(seen, until)) == (3, so)


def test_a_mesh_without_access_logs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Mesh(monkeypatch).answers = False
    monkeypatch.setattr(log_module, "_LATE", 0.0)
    with pytest.raises(ClusterError, match="no line of this request") as caught:
        istio.follow("/")
    assert "accessLogFile" in caught.value.next_step


def test_each_flag_is_told_in_words_of_its_own() -> None:
    shown = flags()
    assert list(shown.index) == list(FLAGS)
    assert {"NR", "UH", "UF", "UC", "UO", "URX", "UT", "DC", "LR", "UR", "FI", "DI", "RL", "UAEX", "RLSE", "IH", "SI",
            "DPE", "UPE", "UMSDR", "NC", "OM", "DF", "DO", "NFCF", "RFCF", "LH", "DT"} <= set(FLAGS)  # fmt: skip
    assert shown["name"].is_unique
    assert shown["says"].is_unique
    assert (shown.map(len) > 0).all(axis=None)
