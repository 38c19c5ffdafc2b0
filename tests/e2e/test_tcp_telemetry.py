# SPDX-License-Identifier: Apache-2.0
"""Raw TCP in the mesh: connections and bytes are counted as made, by both ends, whichever program makes them."""

from __future__ import annotations

import pytest

from labkit.observe.prometheus import Prometheus
from tests.conftest import PATIENCE, wait_until
from tests.e2e.settling import settled
from tests.istio.of_releases import METRICS
from tests.shops import Shop

# "other" has no protocol in its name: Istio 1.2 takes it for TCP, today's looks at what is sent.
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: tcp-echo, labels: {app: tcp-echo}}
spec:
  selector: {app: tcp-echo}
  ports: [{name: tcp, port: 9000}, {name: other, port: 9001}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tcp-echo}
spec:
  selector: {matchLabels: {app: tcp-echo, version: v1}}
  template:
    metadata: {labels: {app: tcp-echo, version: v1}}
    spec:
      containers:
        - name: tcp-echo
          image: docker.io/istio/tcp-echo-server:1.3
          args: ["9000,9001", "hello"]
          ports: [{containerPort: 9000}, {containerPort: 9001}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  selector: {matchLabels: {app: caller, version: v1}}
  template:
    metadata: {labels: {app: caller, version: v1}}
    spec:
      containers: [{name: caller, image: "docker.io/curlimages/curl:8.16.0", command: [/bin/sleep, infinity]}]
"""
N = 12
LINE = "a line of bytes\n"
SENT, ANSWERED = len(LINE), len(f"hello {LINE}")

# Samples of Istio's in the same mesh have a tcp-echo as well.
HERE = 'destination_workload="tcp-echo", destination_workload_namespace="talk"'


@pytest.fixture(scope="module")
def talk(shop: Shop):
    """Runs a shell command in a pod of the mesh that calls."""
    # In a namespace of its own, which takes all of it along.
    shop.sandbox.kubectl("create", "namespace", "talk")
    shop.sandbox.kubectl("label", "namespace", "talk", "istio-injection=enabled")
    shop.sandbox.kubectl("apply", "-n", "talk", "-f", "-", stdin=ECHO)
    for name in ("tcp-echo", "caller"):
        shop.sandbox.kubectl("rollout", "status", f"deployment/{name}", "-n", "talk", "--timeout=120s")

    def run(command: str) -> str:
        into = ("exec", "-n", "talk", "deployment/caller", "-c", "caller", "--")
        return shop.sandbox.kubectl(*into, "sh", "-c", command, check=False).stdout

    wait_until(lambda: run(f"printf '{LINE}' | nc -w 10 tcp-echo 9000") == f"hello {LINE}", 60, "an echo")
    yield run
    shop.sandbox.kubectl("delete", "namespace", "talk", "--timeout=120s")


NAMES = ("connections_opened", "connections_closed", "received_bytes", "sent_bytes")

Counts = dict[str, dict[str, float]]


def counts(prometheus: Prometheus) -> Counts:
    """Metric → its value by who reports it."""
    found: Counts = {}
    for name in NAMES:
        answer = prometheus.query(f"sum by (reporter) (istio_tcp_{name}_total{{{HERE}}})")
        found[name] = answer.set_index("reporter")["value"].to_dict() if len(answer) else {}
    return found


def whole(seen: Counts) -> bool:
    """Whether both ends have counted, and all connections are closed."""
    return set(seen["connections_opened"]) == {"source", "destination"} and (
        seen["connections_opened"] == seen["connections_closed"]
    )


def standing(prometheus: Prometheus) -> Counts:
    """The counts once all connections are closed and nothing changes any more."""
    return settled(prometheus, lambda: counts(prometheus), whole)


def until_said(words: str, command: str) -> str:
    """A command of curl's, which waits for more as long as the server stays: ended once it has said these words."""
    wait = f"until grep -q '{words}' $said || ! kill -0 $!; do sleep 0.1; done"
    return f"said=$(mktemp); {command} -m {PATIENCE:g} >$said & {wait}; kill $!; cat $said; rm $said"


CALLS = {
    "nc": (N, f"for i in $(seq {N}); do printf '{LINE}' | nc tcp-echo 9000; done"),
    "a port without a protocol": (N, f"for i in $(seq {N}); do printf '{LINE}' | nc tcp-echo.talk 9001; done"),
    "curl": (1, until_said("bytes", f"printf '{LINE}' | curl -sSN telnet://tcp-echo:9000")),
}


@pytest.mark.parametrize("call", CALLS)
def test_connections_and_bytes_are_counted_as_made(talk, prometheus, call):
    before = standing(prometheus)
    n, command = CALLS[call]
    assert talk(command) == f"hello {LINE}" * n
    wanted = dict(zip(NAMES, (n, n, n * SENT, n * ANSWERED), strict=True))
    now = standing(prometheus)
    gained = {name: {end: now[name][end] - before[name][end] for end in before[name]} for name in NAMES}
    assert gained == {name: {"source": value, "destination": value} for name, value in wanted.items()}


def test_the_labels_are_the_releases(shop, talk, prometheus, facts):
    before = standing(prometheus)
    assert set(before) == set(NAMES)
    mutual = shop.sandbox.release != "1.2.2"
    caller = "spiffe://cluster.local/ns/talk/sa/default" if mutual else "unknown"
    for metric in (m for m in METRICS[facts.version] if m.name.startswith("istio_tcp_")):
        series = prometheus.get("series", [("match[]", f"{metric.name}{{{HERE}}}")])
        assert {one["reporter"] for one in series} == {"source", "destination"}
        for one in series:
            assert set(metric.labels) <= set(one), (metric.name, set(metric.labels) - set(one))
            assert one["destination_service"] == "tcp-echo.talk.svc.cluster.local"
            assert one["destination_service_name"] == one["destination_workload"] == "tcp-echo"
            assert one["destination_version"] == "v1"
            assert one["response_flags"] == "-"
            assert one["source_principal"] == caller
            security = "unknown" if one["reporter"] == "source" else "mutual_tls" if mutual else "none"
            assert one["connection_security_policy"] == security
        named = [one for one in series if one["source_workload"] == one["source_app"] == "caller"]
        assert {one["reporter"] for one in named} == {"source", "destination"}
        # What today's Istio finds out about a port by looking at it, comes without a header that names the caller.
        assert len(series) - len(named) <= (1 if mutual else 0)


def test_curl_gets_what_a_server_without_http_says(talk, prometheus):
    """As anywhere: curl takes the echo of its own request for an answer in HTTP/0.9."""
    before = standing(prometheus)["connections_opened"]
    asked = until_said("^hello GET", "curl -sSN --http0.9 http://tcp-echo:9000/")
    assert "hello GET / HTTP/1.1" in talk(asked)
    assert standing(prometheus)["connections_opened"] == {end: value + 1 for end, value in before.items()}
