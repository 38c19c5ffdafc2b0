"""Counts never fall while the proxies run: rules, policies and new reporting may replace their listeners meanwhile."""

from __future__ import annotations

import threading
import time

import pytest

from labkit.observe.prometheus import Prometheus
from tests.conftest import wait_until
from tests.e2e.conftest import TELEMETRY, Shop
from tests.e2e.steady import Sent, steady
from tests.e2e.test_steady_load import LIGHT, counts

pytestmark = pytest.mark.timeout(240)

RULE = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: details}
spec: {hosts: [details], http: [{timeout: 5s, route: [{destination: {host: details, subset: v1}}]}]}
"""
# Both make every sidecar of the namespace take up new listeners.
POLICY = {
    "1.2.2": """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: default}
spec: {peers: [{mtls: {mode: PERMISSIVE}}]}
""",
    "1.30.3": """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
""",
}
METRIC = "istio_requests_total"


def settled(prometheus: Prometheus) -> dict[tuple[str, ...], float]:
    """The four hops' counts once they have stood still for three seconds."""
    history: list[tuple[float, dict[tuple[str, ...], float]]] = []

    def still() -> bool:
        history.append((time.monotonic(), counts(prometheus, METRIC)))
        now, last = history[-1]
        return len(last) == 4 and now - min(at for at, seen in history if seen == last) > 3

    wait_until(still, 40, "counts that stand still")
    return history[-1][1]


def test_what_was_counted_stays_counted(shop: Shop, prometheus: Prometheus) -> None:
    steady(shop.url + LIGHT, 50, 1)
    before = settled(prometheus)
    apply = ("apply", "-n", "bookinfo", "-f", "-")

    # While nobody calls, so that what ends takes its counts along unless they are kept.
    shop.sandbox.kubectl(*apply, stdin=POLICY[shop.sandbox.release])
    if shop.sandbox.release != "1.2.2":
        shop.sandbox.kubectl("apply", "-f", "-", stdin=TELEMETRY)
    assert settled(prometheus) == before

    # And in the middle of the load.
    sent: list[Sent] = []
    load = threading.Thread(target=lambda: sent.append(steady(shop.url + LIGHT, 50, 4)))
    load.start()
    shop.sandbox.kubectl(*apply, stdin=RULE)
    shop.sandbox.kubectl("delete", "-n", "bookinfo", "-f", "-", stdin=POLICY[shop.sandbox.release])
    load.join()
    (all_of_it,) = sent
    assert all_of_it.statuses == {200: all_of_it.count}, all_of_it.wrong
    assert settled(prometheus) == {hop: count + all_of_it.count for hop, count in before.items()}
