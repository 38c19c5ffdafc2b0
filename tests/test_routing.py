# SPDX-License-Identifier: Apache-2.0
"""Where Istio's objects send requests: one reading for the mesh, `analyze` and Kiali's checks."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.ground.hosts import gateway_key
from labkit.ground.routing import (
    Destination,
    Hosts,
    VirtualService,
    applies,
    destinations,
    exported,
    read,
    rule_host,
    shares,
    subsets_by_host,
)
from meshbox.mesh.destination_rules import DestinationRules

Json = dict[str, Any]


def an(name: str, namespace: str = "bookinfo", *, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": namespace, "annotations": annotations}, "spec": spec}


def to(host: str, subset: str = "", **more: Any) -> Json:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, **more}


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("mesh", "mesh"),
        ("web", "bookinfo/web"),
        ("./web", "bookinfo/web"),
        ("edge/web", "edge/web"),
        ("web.edge", "edge/web"),
        ("web.edge.svc.cluster.local", "edge/web"),
        # Istio 1.30.3 itself says what it reads here: it warns and prefers "example/gateway".
        ("gateway.example.com", "example/gateway"),
    ],
)
def test_a_gateway_is_named_with_its_namespace(written: str, key: str) -> None:
    assert gateway_key(written, "bookinfo") == key


def test_names_are_completed_in_hosts_destinations_mirrors_and_matches() -> None:
    rule = {
        "match": [{"gateways": ["web", "mesh"]}, {"uri": {"prefix": "/"}}],
        "route": [to("Reviews", "v1"), to("api.example.com")],
        "mirror": {"host": "details"},
        "mirrors": [to("ratings")],
    }
    one = VirtualService.of(an("a", hosts=["Reviews", "*.Example.com", "*"], gateways=["./web"], http=[rule]))
    assert one.hosts == ("reviews.bookinfo.svc.cluster.local", "*.example.com", "*")
    assert one.gateways == ("bookinfo/web",)
    (read_rule,) = one.http
    assert read_rule["match"] == [{"gateways": ["bookinfo/web", "mesh"]}, {"uri": {"prefix": "/"}}]
    assert [t["destination"]["host"] for t in read_rule["route"]] == [
        "reviews.bookinfo.svc.cluster.local",
        "api.example.com",
    ]
    assert read_rule["mirror"] == {"host": "details.bookinfo.svc.cluster.local"}
    assert read_rule["mirrors"][0]["destination"]["host"] == "ratings.bookinfo.svc.cluster.local"
    assert rule["mirror"] == {"host": "details"}, "the object itself stays as it is"


def test_without_gateways_it_speaks_to_the_mesh() -> None:
    assert VirtualService.of(an("a", hosts=["a"])).gateways == ("mesh",)


def test_destinations_say_what_was_written_and_where() -> None:
    obj = an(
        "a",
        http=[{"route": [to("reviews", "v1")], "mirror": {"host": "details"}}],
        tcp=[{"route": [to("db.other.svc.cluster.local")]}],
    )
    assert list(destinations(obj)) == [
        Destination("reviews.bookinfo.svc.cluster.local", "v1", "reviews", "spec/http[0]/route[0]/destination"),
        Destination("details.bookinfo.svc.cluster.local", "", "details", "spec/http[0]/mirror", mirror=True),
        Destination("db.other.svc.cluster.local", "", "db.other.svc.cluster.local", "spec/tcp[0]/route[0]/destination"),
    ]


def test_what_is_written_as_nothing_sends_nothing_anywhere() -> None:
    obj = an("reviews", hosts=["reviews"], http=[None, {"route": [None, to("ratings")]}], tls=[None], tcp=[None])
    assert [(one.host, one.path) for one in destinations(obj)] == [
        ("", "spec/http[1]/route[0]/destination"),
        ("ratings.bookinfo.svc.cluster.local", "spec/http[1]/route[1]/destination"),
    ]
    _, rule = VirtualService.of(obj).http
    assert [target["destination"]["host"] for target in rule["route"]] == ["", "ratings.bookinfo.svc.cluster.local"]
    assert rule_host(an("nothing")) == ""


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([None], [100]), ([0], [0]), ([80, 20], [80, 20]), ([0, 100], [100]), ([None, 100], [100]), ([], [])],
)
def test_who_gets_how_much(weights: list[int | None], expected: list[int]) -> None:
    targets = [to("a") if weight is None else to("a", weight=weight) for weight in weights]
    assert [weight for _, weight in shares(targets)] == expected


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"port": 9080}, True),
        ({"port": 80}, False),
        ({"sourceNamespace": "bookinfo"}, True),
        ({"sourceNamespace": "other"}, False),
        ({"sourceLabels": {"app": "web"}}, True),
        ({"sourceLabels": {"app": "web", "version": "v1"}}, False),
        ({"gateways": ["bookinfo/web"]}, False),
        ({"gateways": ["bookinfo/web", "mesh"]}, True),
    ],
)
def test_which_matches_can_hold_at_a_proxy(match: Json, holds: bool) -> None:
    where = {"labels": {"app": "web"}, "namespace": "bookinfo", "gateway": "mesh"}
    assert applies(match, port=9080, **where) is holds


def test_a_port_is_not_asked_where_all_are_served() -> None:
    assert applies({"port": 80}, port=0, labels={}, namespace="bookinfo", gateway="mesh")


ROOT = an("root", hosts=["reviews"], http=[{"name": "r", "delegate": {"name": "part", "namespace": "library"}}])


def test_a_delegates_short_names_are_of_its_own_namespace_mirrors_too() -> None:
    part = an("part", "library", http=[{"name": "p", "route": [to("books")], "mirror": {"host": "shadow"}}])
    (one,) = read([ROOT, part])
    (rule,) = one.http
    assert rule["name"] == "r-p"
    assert rule["route"][0]["destination"]["host"] == "books.library.svc.cluster.local"
    assert rule["mirror"]["host"] == "shadow.library.svc.cluster.local"


@pytest.mark.parametrize(("export", "rules"), [([], 1), (["*"], 1), (["bookinfo"], 1), (["."], 0), (["other"], 0)])
def test_a_delegate_that_the_root_cannot_see_brings_nothing(export: list[str], rules: int) -> None:
    (one,) = read([ROOT, an("part", "library", exportTo=export, http=[{"route": [to("books")]}])])
    assert len(one.http) == rules


def test_a_delegate_that_says_nothing_is_seen_by_whom_the_mesh_says() -> None:
    def rules(*default: str, **said: Any) -> int:
        (one,) = read([ROOT, an("part", "library", http=[{"route": [to("books")]}], **said)], default)
        return len(one.http)

    assert [rules(), rules("."), rules("bookinfo"), rules(".", exportTo=["*"])] == [1, 0, 1, 1]


def test_which_destination_rule_holds_is_asked_of_caller_service_and_root() -> None:
    rules = [
        an("root", "istio-system", host="*.svc.cluster.local", trafficPolicy={"of": "root"}),
        an("service", "bookinfo", host="reviews", trafficPolicy={"of": "service"}),
        an("hidden", "bookinfo", host="details", exportTo=["."], trafficPolicy={"of": "hidden"}),
        an("client", "other", host="ratings.bookinfo.svc.cluster.local", trafficPolicy={"of": "client"}),
    ]

    def policy(host: str, client: str) -> Any:
        spec = DestinationRules(rules, client, "istio-system").spec_for(
            f"{host}.bookinfo.svc.cluster.local", "bookinfo"
        )
        return (spec or {}).get("trafficPolicy")

    assert policy("reviews", "other") == {"of": "service"}
    assert policy("details", "other") == {"of": "root"}
    assert policy("details", "bookinfo") == {"of": "hidden"}
    assert policy("ratings", "other") == {"of": "client"}
    assert policy("ratings", "bookinfo") == {"of": "root"}
    assert DestinationRules(rules[1:], "other", "istio-system").spec_for("a.test", "bookinfo") is None


def test_rules_of_one_host_are_merged_and_the_older_wins() -> None:
    rules = [
        an("a", host="reviews", subsets=[{"name": "v1", "labels": {"version": "v1"}}]),
        an("b", host="reviews", subsets=[{"name": "v2"}]),
        an("c", host="reviews.bookinfo.svc.cluster.local", trafficPolicy={"of": "c"}, subsets=[{"name": "v1"}]),
    ]
    spec = DestinationRules(rules, "bookinfo", "istio-system").spec_for(
        "reviews.bookinfo.svc.cluster.local", "bookinfo"
    )
    assert spec is not None
    assert spec["subsets"] == [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2"}]
    assert spec["trafficPolicy"] == {"of": "c"}
    host = "reviews.bookinfo.svc.cluster.local"
    assert subsets_by_host(rules) == {(host, "v1"): 2, (host, "v2"): 1}


@pytest.mark.parametrize(
    ("host", "namespace", "seen"),
    [
        ("reviews.bookinfo.svc.cluster.local", "other", True),
        ("private.bookinfo.svc.cluster.local", "bookinfo", True),
        ("private.bookinfo.svc.cluster.local", "friend", True),
        ("private.bookinfo.svc.cluster.local", "other", False),
        ("own.test", "bookinfo", True),
        ("own.test", "other", False),
        ("a.wild.test", "other", True),
        ("*.a.wild.test", "other", True),
        ("*.bookinfo.svc.cluster.local", "other", True),
        ("*.test", "other", True),
        ("*.own.test", "other", False),
        ("*", "other", True),
    ],
)
def test_which_hosts_an_object_can_name(host: str, namespace: str, seen: bool) -> None:
    services = [an("reviews"), an("private", annotations={"networking.istio.io/exportTo": "., friend"})]
    entries = [an("a", hosts=["own.test"], exportTo=["."]), an("b", hosts=["*.wild.test"])]
    assert Hosts(services, entries).has(host, namespace) is seen


def merged(root: Json, *parts: Json) -> list[Json]:
    """The rules of a VirtualService whose one rule hands on to a delegate with these."""
    objects = [
        an("root", hosts=["shop.example.com"], http=[{"delegate": {"name": "part"}, **root}]),
        an("part", http=list(parts)),
    ]
    (found,) = read(objects)
    return [dict(rule) for rule in found.http]


@pytest.mark.parametrize(
    ("outer", "own", "expected"),
    [
        ({"port": 80}, {"method": {"exact": "GET"}}, {"port": 80, "method": {"exact": "GET"}}),
        ({"port": 80}, {"port": 80}, {"port": 80}),
        ({"port": 80}, {"port": 81}, None),
        ({"method": {"exact": "GET"}}, {"method": {"exact": "PUT"}}, None),
        ({"name": "a"}, {"name": "b"}, {"name": "b"}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/a/b"}}, {"uri": {"exact": "/a/b"}}),
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}, None),
        ({"uri": {"prefix": "/a"}}, {"uri": {"regex": "/a.*"}}, None),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}, None),
        ({"uri": {"prefix": "/a"}, "ignoreUriCase": True}, {"method": {"exact": "GET"}}, None),
        ({"headers": {"a": {"exact": "1"}}}, {"headers": {"a": {"exact": "2"}}}, None),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, None),
        ({"gateways": ["a", "b"]}, {"gateways": ["b"]}, {"gateways": ["bookinfo/b"]}),
        ({"gateways": ["a", "b"]}, {"gateways": ["c"]}, None),
        ({"uri": {"prefix": "/a"}}, {}, {"uri": {"prefix": "/a"}}),
        *(
            (
                {key: {"a": {"exact": "1"}, "b": {"prefix": "1"}}},
                {key: {"b": {"prefix": "12"}, "c": {"exact": "2"}}},
                {key: {"a": {"exact": "1"}, "b": {"prefix": "12"}, "c": {"exact": "2"}}},
            )
            for key in ("headers", "withoutHeaders", "queryParams")
        ),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"c": "2"}}, {"sourceLabels": {"a": "1", "c": "2"}}),
    ],
)
def test_a_delegates_match_holds_under_the_roots(outer: Json, own: Json, expected: Json | None) -> None:
    rules = merged({"match": [outer]}, {"match": [own], "timeout": "1s"})
    assert rules == ([] if expected is None else [{"match": [expected], "timeout": "1s"}])


def test_each_match_of_the_root_goes_with_each_of_the_delegate_that_fits() -> None:
    outer = [{"port": 80}, {"port": 81}]
    (rule,) = merged({"match": outer}, {"match": [{"port": 80}, {"method": {"exact": "GET"}}]})
    assert rule == {
        "match": [
            {"port": 80},
            {"port": 80, "method": {"exact": "GET"}},
            {"port": 81, "method": {"exact": "GET"}},
        ]
    }
    assert merged({}, {"timeout": "1s"}) == [{"timeout": "1s"}]


def test_what_a_delegate_says_goes_before_what_the_root_says() -> None:
    root = {"name": "outer", "timeout": "1s", "headers": {"request": {}}}
    assert merged(root, {"name": "inner", "timeout": "2s"}, {}) == [
        {"name": "outer-inner", "timeout": "2s", "headers": {"request": {}}},
        {"name": "outer", "timeout": "1s", "headers": {"request": {}}},
    ]


def test_a_delegate_is_one_without_hosts_and_other_rules_stay_where_they_are() -> None:
    objects = [
        an("root", hosts=["a"], http=[{"name": "1"}, {"delegate": {"name": "part"}}, {"name": "3"}]),
        an("part", http=[{"name": "2"}]),
        an("other", hosts=["b"], http=[{"delegate": {"name": "root"}}, {"delegate": {"name": "none"}}, {"name": "4"}]),
        an("plain", hosts=["c"], http=[{"name": "5"}]),
    ]
    root, other, plain = read(objects)
    assert [rule.get("name") for rule in root.http] == ["1", "2", "3"]
    assert [rule.get("name") for rule in other.http] == ["4"]
    assert [rule.get("name") for rule in plain.http] == ["5"]
    assert {root: 1}[root] == 1
    assert hash(root) == hash(read(objects)[0]) != hash(other)


def test_names_are_completed_for_tls_and_tcp_too() -> None:
    obj = an(
        "db",
        hosts=["db"],
        tls=[{"match": [{"sniHosts": ["db"], "gateways": ["gw"]}], "route": [to("db", "v1")]}],
        tcp=[{"match": [{"port": 1, "gateways": ["./gw"]}], "route": [to("db")]}],
    )
    found = VirtualService.of(obj)
    whole = {"host": "db.bookinfo.svc.cluster.local"}
    assert found.tls == (
        {
            "match": [{"sniHosts": ["db"], "gateways": ["bookinfo/gw"]}],
            "route": [{"destination": {**whole, "subset": "v1"}}],
        },
    )
    assert found.tcp == ({"match": [{"port": 1, "gateways": ["bookinfo/gw"]}], "route": [{"destination": whole}]},)
    assert [(one.path, one.subset, one.mirror) for one in destinations(obj)] == [
        ("spec/tls[0]/route[0]/destination", "v1", False),
        ("spec/tcp[0]/route[0]/destination", "", False),
    ]


def test_copies_are_told_from_what_is_answered() -> None:
    rule = {"route": [to("a")], "mirrors": [to("b", "v1", percentage={"value": 5})], "mirror": {"host": "c"}}
    obj = an("reviews", hosts=["reviews"], http=[rule])
    assert [(one.written, one.subset, one.path, one.mirror) for one in destinations(obj)] == [
        ("a", "", "spec/http[0]/route[0]/destination", False),
        ("b", "v1", "spec/http[0]/mirrors[0]/destination", True),
        ("c", "", "spec/http[0]/mirror", True),
    ]
    (found,) = VirtualService.of(obj).http
    assert found["mirrors"][0]["destination"]["host"] == "b.bookinfo.svc.cluster.local"
    assert found["mirrors"][0]["percentage"] == {"value": 5}


def test_a_share_of_one_in_a_hundred_counts_and_of_none_the_first_stands_for_all() -> None:
    assert shares([to("a", weight=1), to("b", weight=99)]) == [(to("a", weight=1), 1), (to("b", weight=99), 99)]
    assert shares([to("a", weight=0), to("b"), to("c", weight=0)]) == [(to("a", weight=0), 0)]


def test_what_is_exported_to_its_own_namespace_is_seen_there_only() -> None:
    rule = an("bookinfo", "library", host="books", exportTo=["."])
    assert [exported(rule, namespace) for namespace in ("library", "bookinfo")] == [True, False]
    hosts = Hosts([], [an("bookinfo", "library", hosts=["example.com"], exportTo=["."])])
    assert [hosts.has("example.com", namespace) for namespace in ("library", "bookinfo")] == [True, False]
