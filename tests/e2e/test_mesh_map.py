# SPDX-License-Identifier: Apache-2.0
"""The map of the mesh and the traffic beside it, on a real mesh of each release."""

from __future__ import annotations

from typing import Any

import pytest

from labkit import bookinfo, ui
from labkit.observe.prometheus import Prometheus
from tests.conftest import wait_until
from tests.e2e.conftest import Shop

GATEWAY = "istio-ingressgateway"
WAYS = {
    (GATEWAY, "productpage", "productpage-v1"),
    ("productpage-v1", "details", "details-v1"),
    *(("productpage-v1", "reviews", f"reviews-v{number}") for number in (1, 2, 3)),
    *((f"reviews-v{number}", "ratings", "ratings-v1") for number in (2, 3)),
}
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings-for-nobody, namespace: bookinfo}
spec: {selector: {matchLabels: {app: ratings}}}
"""
FAULT = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: ratings-fail, namespace: bookinfo}
spec:
  hosts: [ratings]
  http: [{fault: {abort: {httpStatus: 500, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]
"""


def test_what_is_sent_is_on_the_map(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    # 1.2.2's demo is permissive, and asks for nothing more; today mutual TLS needs no asking.
    secured = shop.sandbox.release != "1.2.2"
    with bookinfo.traffic(shop.url, 20) as traffic:

        def whole() -> bool:
            edges = ui.mesh().edges
            keys = zip(edges["caller"], edges["service"], edges["workload"], strict=True)
            found = dict(zip(keys, edges["mutual_tls"].fillna(not secured).tolist(), strict=True))
            # What others did before is in the last minute too.
            return all(found.get(way) == secured for way in WAYS)

        wait_until(whole, 300, "every call of BookInfo on the map")
        seen = ui.mesh()
        assert traffic.running
    assert set(traffic.seen["status"]) == {200}
    rules = seen.rules
    door = rules[(rules["kind"] == "VirtualService") & (rules["name"] == "bookinfo")]
    assert door[["service", "callers"]].to_numpy().tolist() == [["productpage", GATEWAY]]
    mine = set(rules[rules["kind"] == "DestinationRule"]["service"])
    assert mine == {"productpage", "details", "reviews", "ratings"}
    assert "istio-ingressgateway → productpage (productpage-v1): " in capsys.readouterr().out


def test_a_new_rule_and_what_it_does_are_on_it(shop: Shop) -> None:
    names = {"ratings-fail"}
    shop.sandbox.kubectl("apply", "-f", "-", stdin=FAULT)
    if shop.sandbox.release != "1.2.2":
        shop.sandbox.kubectl("apply", "-f", "-", stdin=POLICY)
        names.add("ratings-for-nobody")
    try:
        with bookinfo.traffic(shop.url, 20):

            def failing() -> Any:
                seen = ui.mesh()
                errors = (seen.edges[seen.edges["service"] == "ratings"]["error_percent"] > 0).any()
                # The policy, which another proxy hears of, may turn calls away before there is a fault.
                return seen if errors and "500" in str(seen) else None

            seen = wait_until(failing, 300, "the fault's errors on the way to ratings")
        bears = seen.rules.set_index("name")
        assert names <= set(bears.index)
        assert bears.loc["ratings-fail", ["kind", "service", "callers"]].tolist() == ["VirtualService", "ratings", ""]
        if "ratings-for-nobody" in names:
            assert bears.loc["ratings-for-nobody", "workload"] == "ratings-v1"
        assert "✘" in str(seen)
    finally:
        shop.sandbox.kubectl("delete", "-f", "-", stdin=FAULT)
        if shop.sandbox.release != "1.2.2":
            shop.sandbox.kubectl("delete", "-f", "-", stdin=POLICY)
    # Who counts next must not meet them: of the fault three callers hear, and of the policy who is called.
    for version in ("v1", "v2", "v3"):
        wait_until(lambda version=version: rated(shop, version), what=f"ratings for reviews {version}")


def rated(shop: Shop, version: str) -> bool:
    """Whether the proxy of a version of reviews gets an answer of ratings."""
    into = ("exec", "-n", "bookinfo", f"deployment/reviews-{version}", "-c", "reviews", "--")
    asked = ("curl", "-s", "-f", "-o", "/dev/null", "http://ratings:9080/ratings/0")
    return shop.sandbox.kubectl(*into, *asked, check=False).returncode == 0


def test_what_was_sent_is_what_was_counted(shop: Shop, prometheus: Prometheus) -> None:
    assert shop.status() == 200
    counted = (
        "sum by (destination_workload) (max_over_time("
        'istio_requests_total{reporter="destination",destination_workload_namespace="bookinfo"}[1m]))'
    )
    sent, gained, _ = bookinfo.measure(shop.url, 60, prometheus, counted, rate=100)
    versions = sent["reviews"].value_counts()
    assert gained["productpage-v1"] == gained["details-v1"] == 60
    assert {version: gained[f"reviews-{version}"] for version in versions.index} == versions.to_dict()
    assert gained["ratings-v1"] == versions.get("v2", 0) + versions.get("v3", 0)
