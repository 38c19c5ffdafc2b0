# SPDX-License-Identifier: Apache-2.0
"""The exercises of 11-load-balancing in a mesh, and what they count by: what an Envoy has sent to each endpoint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import bookinfo, cluster, istio
from labkit.course import Lesson
from labkit.ground.errors import ClusterError, SettingError
from tests.conftest import wait_until
from tests.course.exercising import begun, found, lesson_in, solution, solved, told
from tests.shops import Shop

# Rules and pods are made, with labkit's marks.
pytestmark = [pytest.mark.long, pytest.mark.restored, pytest.mark.timeout(1200)]

SUBSETS = "  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, "11-load-balancing") as lesson:
        yield lesson


def wrong(lesson: Lesson, name: str, seen: str, step: str, *answer: str) -> None:
    """This answer is a wrong one, and what is found says why."""
    told(found(lesson, name, *answer), seen, step)


def policy(host: str, more: str, subsets: str = SUBSETS) -> str:
    head = "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\n"
    return f"{head}metadata: {{name: {host}}}\nspec:\n  host: {host}\n{more}{subsets}"


def traffic(host: str, fields: str) -> str:
    return policy(host, f"  trafficPolicy: {{{fields}}}\n")


def hashed(by: str) -> str:
    return traffic("ratings", f"loadBalancer: {{consistentHash: {{{by}}}}}")


def ejecting(fields: str) -> str:
    return traffic("ratings", f"outlierDetection: {{baseEjectionTime: 60s{fields}}}")


def pool(tcp: str) -> str:
    return traffic("reviews", f"connectionPool: {{tcp: {{{tcp}}}}}")


def virtual_service(name: str, rule: str, of: str) -> str:
    head = f"apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: {name}}}\n"
    return f"{head}spec:\n  {of}\n  http:\n{rule}"


def door(path: str, to: str, more: str) -> str:
    rule = f"  - match: [{{uri: {{prefix: {path}}}}}]\n    route: [{{destination: {{{to}, port: {{number: 9080}}}}}}]\n"
    return virtual_service("doors", f"{rule}    {more}\n", "hosts: ['*']\n  gateways: [bookinfo-gateway]")


def test_stay(lesson: Lesson) -> None:
    name, memory = "stay", "who gives stars sees them again: "
    wrong(lesson, name, memory, "Which field of a DestinationRule")
    # Nobody sends this header, so nothing is hashed.
    wrong(lesson, name, memory, "Which field of a DestinationRule", hashed("httpHeaderName: end-user"))
    # All requests come from one machine.
    one = hashed("useSourceIp: true")
    wrong(lesson, name, "1 of 3 pods got their requests", "take what differs from user to user", one)
    solved(lesson, name, one, *solution(lesson.name, name))
    level = "{port: {number: 9080}, loadBalancer: {consistentHash: {httpHeaderName: X-User}}}"
    solved(lesson, name, traffic("ratings", f"portLevelSettings: [{level}]"))


def test_eject(lesson: Lesson) -> None:
    name, errors = "eject", "all of the last 60 requests succeed: "
    percent = "is `maxEjectionPercent`, 10 where nothing is said"
    wrong(lesson, name, errors, percent)
    wrong(lesson, name, errors, percent, ejecting(""))
    again = door("/ratings", "host: ratings", "retries: {attempts: 3, retryOn: 5xx}")
    wrong(lesson, name, "tries went to them", "A retry hides an error from the visitor", again)
    wrong(lesson, name, "0 broken pods", "not yours to mend, nor to hide", "delete deployment ratings-broken")
    solved(lesson, name, ejecting(", maxEjectionPercent: 25"), *solution(lesson.name, name))
    field = {"1.2.2": "consecutiveErrors", "1.30.3": "consecutiveGatewayErrors"}[lesson.release.version]
    solved(lesson, name, ejecting(f", {field}: 1, maxEjectionPercent: 100, interval: 1s"))


def test_shed(lesson: Lesson) -> None:
    name, nobody = "shed", "refused at once, with 503: 0 of 12 were refused"
    wrong(lesson, name, "nobody waits longer than 2 s: the slowest waited ", "How long the queue may be")
    wrong(lesson, name, nobody, "so leave the limit", pool("maxConnections: 100"))
    late = door("/reviews", "host: reviews, subset: v2", "timeout: 1s")
    wrong(lesson, name, nobody, "only after a wait, and with 504", late)
    fast = virtual_service("ratings", "  - route: [{destination: {host: ratings, subset: v1}}]\n", "hosts: [ratings]")
    wrong(lesson, name, "it has no delay any more", "brings back what this exercise begins with", fast)
    solved(lesson, name, pool("maxConnections: 100"), *solution(lesson.name, name))
    own = "  subsets:\n  - name: v2\n    labels: {version: v2}\n    trafficPolicy: {connectionPool: {tcp: "
    own += "{maxConnections: 2}, http: {http1MaxPendingRequests: 1}}}\n"
    solved(lesson, name, policy("reviews", "", own))


def test_what_an_envoy_has_sent_to_each_endpoint(shared_shop: Shop, lesson: Lesson) -> None:
    begun(lesson, "eject")
    url = f"{shared_shop.url}/ratings/0"

    def known() -> bool:
        pods = {pod["metadata"]["name"] for pod in cluster.get("pods", namespace="bookinfo")}
        there = {name for name in pods if name.startswith("ratings-")}
        to = set(istio.endpoints("ingress", "ratings").index)
        return len(there) == 4 and to == there and cluster.fetch(url).status in (200, 503)

    # Those that an exercise before this one had are gone.
    wait_until(known, what="the gateway to know all four pods, and no others")
    before = istio.endpoints("ingress", "ratings")
    assert before.index.name == "endpoint"
    assert dict(before.dtypes.astype(str)) == {"requests": "int64", "errors": "int64", "ejected": "bool"}
    sent = bookinfo.load(url, 40, rate=200)
    gained = istio.endpoints("ingress", "ratings")[["requests", "errors"]] - before[["requests", "errors"]]
    assert gained["requests"].sum() == 40
    assert gained["errors"].sum() == (sent["status"] == 503).sum() > 0
    assert (gained["errors"] == gained["requests"])[gained.index.str.startswith("ratings-broken")].all()
    cluster.apply(ejecting(", maxEjectionPercent: 50"), namespace="bookinfo", show=False)

    def left_out() -> bool:
        bookinfo.load(url, 40, rate=200)
        seen = istio.endpoints("ingress", "ratings")["ejected"]
        return list(seen) == [name.startswith("ratings-broken") for name in seen.index]

    wait_until(left_out, what="both broken pods to be left out")
    # Whoever does not call it knows of it as well, and has sent nothing; a Service that is not there has no endpoints.
    wait_until(
        lambda: list(istio.endpoints("details-v1", "ratings")["requests"]) == [0, 0, 0, 0], what="details to know them"
    )
    assert istio.endpoints("ingress", "nobody").empty
    with pytest.raises(SettingError, match="no workload 'nobody'"):
        istio.endpoints("nobody", "ratings")


def test_what_is_posted_is_kept(shared_shop: Shop, lesson: Lesson) -> None:
    begun(lesson, "shed")
    where = f"{shared_shop.url}/ratings/77"
    wait_until(lambda: cluster.fetch(where).status == 200, what="the door to ratings")
    wait_until(lambda: len(istio.endpoints("ingress", "ratings")) == 1, what="a single pod of ratings")
    assert cluster.fetch(where, post='{"ann": 3}', headers={"Content-Type": "application/json"}).status == 200
    assert '"ann"' in cluster.fetch(where).text
    with pytest.raises(ClusterError, match="no answer from http://127"):
        cluster.fetch("http://127.0.0.1:1", post="")
