# SPDX-License-Identifier: Apache-2.0
"""Counts never fall while the proxies run: rules, policies and new reporting may replace their listeners meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from labkit.observe.prometheus import Prometheus
from tests.conftest import wait_until
from tests.e2e.settling import settled
from tests.e2e.steady import Sent, steady
from tests.e2e.test_steady_load import LIGHT, counts
from tests.shops import TELEMETRY, Shop

RULE = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: details}
spec: {hosts: [details], http: [{timeout: 60s, route: [{destination: {host: details, subset: v1}}]}]}
"""
# Both make every sidecar of the namespace take up new listeners: by itself each takes plain text and mutual TLS.
POLICY = {
    "1.2.2": """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: default}
spec: {}
""",
    "1.30.3": """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
""",
}
METRIC = "istio_requests_total"
DRAIN = 1.0
GATEWAY = "istio-system", "istio-ingressgateway"
DUMP = "config_dump?resource=dynamic_listeners"


def listeners(shop: Shop) -> dict[tuple[str, str], tuple[list[str], bool]]:
    """When each proxy on the way took up its listeners, and whether others are on their way in or out."""
    found = {}
    for namespace, name in (GATEWAY, ("bookinfo", "productpage-v1"), ("bookinfo", "details-v1")):
        into = ("exec", "-n", namespace, f"deployment/{name}", "-c", "istio-proxy", "--")
        said = shop.sandbox.kubectl(*into, "pilot-agent", "request", "GET", DUMP).stdout
        every = json.loads(said)["configs"]
        stays = sorted(one["active_state"]["last_updated"] for one in every if "active_state" in one)
        found[namespace, name] = stays, any("draining_state" in one or "warming_state" in one for one in every)
    return found


def replaced(shop: Shop, before: dict[tuple[str, str], tuple[list[str], bool]]) -> None:
    """Wait for other listeners than before: each proxy takes them up at a moment of its own, and then the old ones go.

    In Istio 1.2 nobody tells the gateway's proxy anything.
    """

    def done() -> bool:
        now = listeners(shop)
        mine = [where for where in now if where != GATEWAY or shop.sandbox.release != "1.2.2"]
        return all(now[where][0] != before[where][0] and not now[where][1] for where in mine)

    wait_until(done, what="new listeners in all proxies, and no old ones")


def standing(prometheus: Prometheus) -> dict[tuple[str, ...], float]:
    """The four hops' counts once they have arrived."""
    return settled(prometheus, lambda: counts(prometheus, METRIC), lambda seen: len(seen) == 4)


@pytest.fixture
def untraced(shop: Shop, prometheus: Prometheus) -> Iterator[Shop]:
    """A mesh in which nobody has said yet what is traced; at the end it is as it was."""
    traced = shop.sandbox.release != "1.2.2"
    if traced:
        # What is not scraped by now would go with the listeners, and be missed at one end only.
        steady(shop.url + LIGHT, 50, 0.1)
        standing(prometheus)
        listening = listeners(shop)
        shop.sandbox.kubectl("delete", "-f", "-", stdin=TELEMETRY)
        replaced(shop, listening)
    yield shop
    for more in (RULE, POLICY[shop.sandbox.release]):
        shop.sandbox.kubectl("delete", "-n", "bookinfo", "--ignore-not-found", "-f", "-", stdin=more)
    if traced:
        shop.sandbox.kubectl("apply", "-f", "-", stdin=TELEMETRY)


def test_what_was_counted_stays_counted(untraced: Shop, prometheus: Prometheus) -> None:
    shop = untraced
    steady(shop.url + LIGHT, 50, 1)
    before = standing(prometheus)
    apply = ("apply", "-n", "bookinfo", "-f", "-")

    # While nobody calls, so that what ends takes its counts along unless they are kept.
    listening = listeners(shop)
    shop.sandbox.kubectl(*apply, stdin=POLICY[shop.sandbox.release])
    if shop.sandbox.release != "1.2.2":
        shop.sandbox.kubectl("apply", "-f", "-", stdin=TELEMETRY)
    replaced(shop, listening)
    assert standing(prometheus) == before

    # And in the middle of the load.
    sent: list[Sent] = []
    load = threading.Thread(target=lambda: sent.append(steady(shop.url + LIGHT, 50, 4)))
    load.start()
    shop.sandbox.kubectl(*apply, stdin=RULE)
    shop.sandbox.kubectl("delete", "-n", "bookinfo", "-f", "-", stdin=POLICY[shop.sandbox.release])
    load.join()
    (all_of_it,) = sent
    # What is under way has a second when its listener goes (`--drain-time-s`); a busy machine may need longer for it.
    cut = all_of_it.statuses[503]
    assert set(all_of_it.statuses) <= {200, 503}, all_of_it.wrong
    assert cut == 0 or all_of_it.slowest > DRAIN / 2, all_of_it.wrong
    gained = {hop: count - before[hop] for hop, count in standing(prometheus).items()}
    assert gained["source", "istio-ingressgateway", "productpage-v1"] == all_of_it.count
    assert all(all_of_it.count - cut <= count <= all_of_it.count for count in gained.values()), (gained, cut)
