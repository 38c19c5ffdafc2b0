# SPDX-License-Identifier: Apache-2.0
"""What the Envoys' configuration foretells of a request is what becomes of it, in both releases."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from labkit import cluster, istio
from labkit.ground.errors import SettingError
from labkit.istio.trace_route import Trace
from tests.chance import likely
from tests.conftest import wait_until
from tests.shops import Shop

NAMESPACE = "bookinfo"
OF_REVIEWS = "outbound|9080|{}|reviews.bookinfo.svc.cluster.local"
PATIENCE = 240

_LINE = re.compile(r'"[A-Z]+ (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<flag>\S+)')


def rule(*http: dict, hosts: tuple[str, ...] = ("reviews",), name: str = "foretold") -> dict:
    """A VirtualService inside the mesh."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"hosts": list(hosts), "http": list(http)},
    }


def to(subset: str, weight: int | None = None, host: str = "reviews") -> dict:
    """A destination of a rule."""
    return {"destination": {"host": host, "subset": subset}, **({} if weight is None else {"weight": weight})}


@contextlib.contextmanager
def applied(*objects: dict) -> Iterator[None]:
    """These objects are there, and gone afterwards."""
    text = yaml.safe_dump_all(objects)
    cluster.apply(f"{text}\n", show=False)
    try:
        yield
    finally:
        cluster.delete(f"{text}\n", show=False)


def sent(url: str, n: int = 1, client: str = "ratings", headers: tuple[str, ...] = ()) -> Counter[tuple[int, str, str]]:
    """Requests from the application beside a sidecar: (status, flag, cluster) in that sidecar's log, with counts."""
    mark = uuid.uuid4().hex
    words = ["curl", "-s", "-o", "/dev/null", *(word for one in headers for word in ("-H", one))]
    glue = "&" if "?" in url else "?"
    words.append(f"{url}{glue}{mark}=[1-{n}]")
    cluster.exec(f"deploy/{client}-v1", words, container=client, namespace=NAMESPACE, show=False, timeout=300)

    def logged() -> list[str]:
        said = cluster.kubectl(f"logs deploy/{client}-v1 -n {NAMESPACE} -c istio-proxy --tail=-1", show=False)
        return [line for line in said.splitlines() if (mark in line and " outbound|" in line) or f"?{mark}" in line]

    def of_client() -> list[str]:
        return [line for line in logged() if _LINE.search(line)]

    wait_until(lambda: len(of_client()) >= n, PATIENCE, f"{n} lines in the log of {client}'s sidecar")
    found: Counter[tuple[int, str, str]] = Counter()
    for line in of_client():
        known = _LINE.search(line)
        assert known is not None
        target = re.search(r"(?:outbound\|\S*|\S*Cluster\S*)", line)
        found[int(known["status"]), known["flag"], target[0] if target else ""] += 1
    return found


def foretold(way: str, path: str = "/reviews/0", *, when: Callable[[Trace], bool], **how: Any) -> Trace:
    """The way that is foretold once the Envoys have heard of what was applied last: `when` says by what that shows."""
    found: list[Trace] = []

    def looked() -> bool:
        found[:] = [istio.trace_route(way, path, **how)]
        return when(found[0])

    wait_until(looked, PATIENCE, f"another way from {way}")
    return found[0]


def by(name: str) -> Callable[[Trace], bool]:
    """A rule of this name took the request, or the request was refused in its host."""
    return lambda trace: any(f"/{name}" in f"{step.says} {step.passed}" for step in trace.steps)


def leads(trace: Trace, cluster: str) -> bool:
    """The way is that of this cluster, and its endpoints have come as well, which an Envoy is told by themselves."""
    return any(one.cluster == cluster and one.endpoints for one in trace.branches)


@pytest.fixture(autouse=True)
def home(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where labkit finds that this cluster is a sandbox, in which it may delete."""
    monkeypatch.setenv("LABKIT_HOME", str(shop.sandbox.labkit_home))


def test_without_a_rule_every_version_gets_requests(shop: Shop) -> None:
    trace = foretold(
        "ratings → reviews", when=lambda trace: trace.branches[:1] != () and len(trace.branches[0].endpoints) == 3
    )
    (branch,) = trace.branches
    assert (branch.cluster, branch.share, branch.answer) == (OF_REVIEWS.format(""), 1.0, None)
    assert set(branch.workloads) == {"reviews-v1", "reviews-v2", "reviews-v3"}
    assert trace.depends == ()
    kinds = [step.kind for step in trace.steps if step.proxy == "ratings-v1"][:6]
    assert kinds == ["listener", "filter chain", "route table", "virtual host", "route", "cluster"]
    assert sent("http://reviews:9080/reviews/0", 5) == Counter({(200, "-", branch.cluster): 5})
    legacy = shop.sandbox.release == "1.2.2"
    # By itself today's Istio has sidecars meet with mutual TLS, that of 2019 did not.
    assert branch.tls == ("plain" if legacy else "mutual TLS")
    assert trace.client == "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings"
    if not legacy:
        assert branch.server == ("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews",)
    assert "reviews-v1" in trace.text
    assert "<table" in trace.rich().html


def test_headers_and_weights_share_requests_out_as_foretold(shop: Shop) -> None:
    jason = {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v2")]}
    rest = {"route": [to("v1", 80), to("v3", 20)]}
    with applied(rule(jason, rest)):
        his = foretold("ratings -> reviews", headers={"end-user": "jason"}, when=by("foretold"))
        assert [(one.subset, one.share, one.workloads) for one in his.branches] == [("v2", 1.0, ("reviews-v2",))]
        others = foretold("ratings -> reviews", when=by("foretold"))
        assert [(one.subset, one.share) for one in others.branches] == [("v1", 0.8), ("v3", 0.2)]
        route = next(step for step in others.steps if step.kind == "route")
        assert "header end-user is 'jason': there is none" in route.passed[0]
        assert "virtual-service bookinfo/foretold" in route.says
        url = "http://reviews:9080/reviews/0"
        assert sent(url, 5, headers=("end-user: jason",)) == Counter({(200, "-", OF_REVIEWS.format("v2")): 5})
        counts = sent(url, 100)
        assert set(counts) <= {(200, "-", OF_REVIEWS.format("v1")), (200, "-", OF_REVIEWS.format("v3"))}
        assert likely(counts[200, "-", OF_REVIEWS.format("v3")], 100, 0.2)


def test_a_subset_that_nobody_defines_or_that_has_no_pods(shop: Shop) -> None:
    missing = {"match": [{"uri": {"prefix": "/reviews/1"}}], "route": [to("v9")]}
    empty = {"match": [{"uri": {"exact": "/reviews/2"}}], "route": [to("v2", host="ratings")]}
    with applied(rule(missing, empty, {"route": [to("v1")]})):
        trace = foretold("ratings → reviews", "/reviews/1", when=by("foretold"))
        answer = trace.branches[0].answer
        assert answer is not None
        assert (answer.status, answer.flag) == (503, "NC")
        assert "no DestinationRule defines subset v9" in answer.why
        seen = sent("http://reviews:9080/reviews/1")
        assert {(status, flag) for status, flag, _ in seen} == {(answer.status, answer.flag)}
        trace = foretold("ratings → reviews", "/reviews/2", when=by("foretold"))
        answer = trace.branches[0].answer
        assert answer is not None
        assert (answer.status, answer.flag, trace.flag) == (503, "UH", "UH")
        seen = sent("http://reviews:9080/reviews/2")
        assert {(status, flag) for status, flag, _ in seen} == {(503, "UH")}


def test_what_envoy_answers_itself(shop: Shop) -> None:
    away = {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/reviews/0"}}
    percent = {"percent": 100} if shop.sandbox.release == "1.2.2" else {"percentage": {"value": 100}}
    faulty = {
        "match": [{"uri": {"regex": "/reviews/[3-4]"}}],
        "fault": {"abort": {"httpStatus": 418, **percent}},
        "route": [to("v1")],
    }
    only = {"match": [{"queryParams": {"all": {"exact": "yes"}}}], "route": [to("v3")]}
    with applied(rule(away, faulty, only)):
        expected = {
            "/old": (301, "-"),
            "/reviews/4": (418, "FI"),
            "/reviews/0": (404, "NR"),
        }
        for path, (status, flag) in expected.items():
            trace = foretold("ratings → reviews", path, when=lambda trace: trace.answer is not None)
            assert trace.answer is not None, path
            assert (trace.answer.status, trace.answer.flag, trace.branches) == (status, flag, ())
            seen = sent(f"http://reviews:9080{path}")
            assert {(s, f) for s, f, _ in seen} == {(status, flag)}
        trace = istio.trace_route("ratings → reviews", "/reviews/0?all=yes")
        assert [(one.subset, one.answer) for one in trace.branches] == [("v3", None)]
        assert set(sent("http://reviews:9080/reviews/0?all=yes")) == {(200, "-", OF_REVIEWS.format("v3"))}


def leading(host: str, number: int, address: str) -> dict[str, Any]:
    """A ServiceEntry: this host and port lead to port 9080 of an address."""
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "ServiceEntry",
        "metadata": {"name": "books", "namespace": NAMESPACE},
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": number, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": address, "ports": {"http": 9080}}],
        },
    }


def test_a_service_entry_adds_no_port_to_a_service(shop: Shop, shop_release: str) -> None:
    """For today's istiod a host is one object's, a Service's before any other: who calls that port gets 503 there."""
    details = next(one for one in cluster.get("pods", namespace=NAMESPACE, labels="app=details"))
    with pytest.raises(SettingError, match="Service reviews has no port 9090"):
        istio.trace_route("ratings → reviews", port=9090)
    address, host, own = details["status"]["podIP"], "books.example.com", "reviews.bookinfo.svc.cluster.local"
    other = {**leading(host, 9090, address), "metadata": {"name": "other", "namespace": NAMESPACE}}
    with applied(leading(own, 9090, address), other):
        foretold(f"ratings → {host}", "/", port=9090, when=lambda trace: leads(trace, f"outbound|9090||{host}"))
        if once := shop_release == "1.2.2":
            foretold("ratings → reviews", "/", port=9090, when=lambda trace: leads(trace, f"outbound|9090||{own}"))
        trace = istio.trace_route("ratings → reviews", "/details/0", port=9090)
        assert [one.cluster for one in trace.branches if one.endpoints] == [f"outbound|9090||{own}"] * once
        asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://reviews:9090/details/0"]
        said = cluster.exec("deploy/ratings-v1", asked, container="ratings", namespace=NAMESPACE, show=False)
        assert str(said) == ("200" if once else "503")


def test_a_host_outside_by_a_service_entry(shop: Shop) -> None:
    details = next(one for one in cluster.get("pods", namespace=NAMESPACE, labels="app=details"))
    host = "books.example.com"
    with applied(leading(host, 80, details["status"]["podIP"])):
        trace = foretold(f"ratings → {host}", "/details/0", when=lambda trace: leads(trace, f"outbound|80||{host}"))
        (branch,) = trace.branches
        assert (branch.cluster, branch.tls) == (f"outbound|80||{host}", "plain")
        assert [one.address for one in branch.endpoints] == [f"{details['status']['podIP']}:9080"]
        assert set(sent(f"http://{host}/details/0")) == {(200, "-", branch.cluster)}


def test_from_outside_through_the_gateway(shop: Shop) -> None:
    trace = istio.trace_route("ingress → productpage", "/productpage")
    assert [one.workloads for one in trace.branches] == [("productpage-v1",)]
    assert trace.branches[0].answer is None
    assert shop.status("/productpage") == 200
    nowhere = istio.trace_route("ingress → productpage", "/nothing/there")
    assert nowhere.answer is not None
    assert (nowhere.answer.status, nowhere.answer.flag) == (404, "NR")
    assert shop.status("/nothing/there") == 404
    other = istio.trace_route("ingress → reviews", "/productpage")
    assert "not to reviews.bookinfo" in next(step.says for step in other.steps if step.kind == "remark")


def test_policies_are_named_and_decide(shop: Shop) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 has no AuthorizationPolicy")
    principal = "cluster.local/ns/bookinfo/sa/bookinfo-productpage"
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "page-only", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "reviews", "version": "v1"}},
            "action": "ALLOW",
            "rules": [
                {
                    "from": [{"source": {"principals": [principal]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/reviews/*"]}}],
                }
            ],
        },
    }
    with applied(policy, rule({"route": [to("v1")]})):

        def both(trace: Trace) -> bool:
            # The caller's proxy and that of who is called each hear of their own rule by themselves.
            return by("foretold")(trace) and bool(trace.branches and trace.branches[0].policies)

        trace = foretold("ratings → reviews", when=both)
        (branch,) = trace.branches
        assert [(one.name, one.action, one.holds) for one in branch.policies] == [
            ("page-only, rule 0 (namespace bookinfo)", "ALLOW", False)
        ]
        assert branch.answer is not None
        assert (branch.answer.status, branch.answer.flag) == (403, "-")
        assert {status for status, _, _ in sent("http://reviews:9080/reviews/0")} == {403}
        page = foretold("productpage → reviews", "/reviews/0", when=both)
        assert page.branches[0].answer is None
        assert [one.holds for one in page.branches[0].policies] == [True]
        assert istio.trace_route("productpage → reviews", method="DELETE").branches[0].answer is not None


def test_plain_and_mutual_connections(shop: Shop) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 has no PeerAuthentication")

    def peers(mode: str) -> dict:
        about = {"metadata": {"name": "foretold", "namespace": NAMESPACE}, "spec": {"mtls": {"mode": mode}}}
        return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", **about}

    def chosen(trace: Trace) -> set[str]:
        return {step.name for step in trace.steps if step.kind == "filter chain" and step.branch}

    with applied(peers("DISABLE")):
        trace = foretold("ratings → reviews", when=lambda trace: chosen(trace) == {"9080_plain"})
        assert (trace.branches[0].tls, chosen(trace)) == ("plain", {"9080_plain"})
        assert {status for status, _, _ in sent("http://reviews:9080/reviews/0")} == {200}
    plain = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "foretold", "namespace": NAMESPACE},
        "spec": {"host": "details", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
    }
    base = istio.release(shop.sandbox.release).samples / "bookinfo/networking/destination-rule-all.yaml"
    try:
        # Of several rules for one host the oldest is heard.
        shop.sandbox.kubectl("delete", "destinationrule", "details", "-n", NAMESPACE)
        with applied(peers("STRICT"), plain):
            trace = foretold("ratings → reviews", when=lambda trace: chosen(trace) == {"9080_mtls"})
            assert trace.branches[0].tls == "mutual TLS"
            trace = foretold("ratings → details", "/details/0", when=lambda trace: bool(trace.branches[0].answer))
            answer = trace.branches[0].answer
            assert answer is not None
            seen = sent("http://details:9080/details/0")
            assert {(status, flag) for status, flag, _ in seen} == {(answer.status, answer.flag)} == {(503, "UC")}
    finally:
        shop.sandbox.kubectl("apply", "-n", NAMESPACE, "-f", str(base))


def test_what_the_last_write_changed(shop: Shop) -> None:
    with applied(rule({"route": [to("v1")]})):
        of_v1 = OF_REVIEWS.format("v1")
        wait_until(lambda: of_v1 in set(istio.inside("productpage").table()["leads_to"]), PATIENCE, "the rule")
        cluster.apply(rule({"route": [to("v1", 60), to("v2", 40)]}), show=False)
        host, shared = "reviews.bookinfo.svc.cluster.local:9080", "routes[any path].route.weighted_clusters"

        def shares() -> bool:
            # What a test before has put back may come with it, or before.
            rows = istio.inside("productpage", timeout=60).rows
            return any((one.resource, one.field) == (host, shared) for one in rows)

        wait_until(shares, PATIENCE, "the difference")
        looked = istio.inside("productpage")
        changed = looked.changes()
        where = f"resource == '{host}' and field.str.startswith('routes[any path].route.')"
        by_field = changed.query(where, engine="python").set_index("field")
        assert by_field.loc["routes[any path].route.cluster", "before"] == OF_REVIEWS.format("v1")
        assert by_field.loc["routes[any path].route.cluster", "change"] == "removed"
        added = by_field.loc[shared, "after"]
        assert f"name: {OF_REVIEWS.format('v2')}, weight: 40" in added.replace("'", "")
        assert by_field["meaning"].ne("").all()
        assert looked.compared_with is not None
        # Looked at again, or at another part, it is still the last write that is told.
        again = istio.inside("productpage")
        assert [one.field for one in again.rows] == [one.field for one in looked.rows]
        assert istio.inside("productpage", "clusters").rows == ()
        table = again.table().query(f"host == '{host}' and table == '9080'")
        assert list(table["leads_to"]) == [f"60% {OF_REVIEWS.format('v1')}\n40% {OF_REVIEWS.format('v2')}"]
        assert "weighted_clusters: Several clusters" in str(again)
        assert "https://www.envoyproxy.io/docs/" in again.rich().html
        assert istio.inside("productpage", since=looked).rows == ()


def test_secrets_show_who_and_until_when_and_no_key(shop: Shop) -> None:
    found = istio.inside("ratings", "secrets").table().set_index("secret")
    assert found.loc["default", "names"] == "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings"
    assert found.loc["ROOTCA", "kind"] == "trusted authority"
    assert found.loc["default", "valid_from"] < found.loc["default", "expires"]
    shown = istio.inside("ratings", "secrets").rich()
    assert "PRIVATE" not in shown.html + shown.text
    assert "Bearer" not in shown.html + shown.text
