# SPDX-License-Identifier: Apache-2.0
"""Rules of HTTPRoutes and GRPCRoutes as those of VirtualServices, one for each match."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.gateway_api.backends import Backends
from meshbox.mesh.gateway_api.faults import Fault, RouteFault
from meshbox.mesh.gateway_api.http_rules import http_rules, in_precedence

Obj = dict[str, Any]

REVIEWS = {"host": "reviews.bookinfo.svc.cluster.local", "port": {"number": 9080}}


def service(name: str, namespace: str = "bookinfo", *ports: tuple[str, int]) -> Obj:
    listed = [{"name": n, "port": p} for n, p in ports or (("http", 9080),)]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": listed}}


def entry(name: str, *hosts: str, namespace: str = "bookinfo") -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hosts": list(hosts)}}


def grant(namespace: str, *, kind: str = "HTTPRoute", name: str = "", source: str = "bookinfo") -> Obj:
    asked = {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": source}
    given = {"group": "", "kind": "Service", **({"name": name} if name else {})}
    return {"metadata": {"name": "grant", "namespace": namespace}, "spec": {"from": [asked], "to": [given]}}


SERVICES = [service("reviews"), service("ratings"), service("shelf", "library")]
ENTRIES = [entry("outside", "api.example.com")]


def backends(*grants: Obj) -> Backends:
    return Backends(SERVICES, ENTRIES, list(grants))


def to(name: str = "reviews", port: int | None = 9080, **fields: Any) -> Obj:
    return {"name": name, **({"port": port} if port else {}), **fields}


def rules(*given: Obj, kind: str = "HTTPRoute", mesh: bool = False, grants: tuple[Obj, ...] = ()) -> list[Any]:
    found, fault = faulty(*given, kind=kind, mesh=mesh, grants=grants)
    assert fault is None
    return found


def faulty(
    *given: Obj, kind: str = "HTTPRoute", mesh: bool = False, grants: tuple[Obj, ...] = ()
) -> tuple[list[Any], Fault | None]:
    route = {"kind": kind, "metadata": {"name": "shop", "namespace": "bookinfo"}, "spec": {"rules": list(given)}}
    found, fault = http_rules(route, backends(*grants), mesh=mesh)
    return list(found), fault


def played(*filters: Obj, **rule: Any) -> Any:
    """The one rule that filters and fields make."""
    (found,) = rules({"backendRefs": [to()], "filters": list(filters), **rule})
    return found


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ({"path": {"type": "Exact", "value": "/a"}}, {"uri": {"exact": "/a"}}),
        ({"path": {"type": "PathPrefix", "value": "/"}}, {"uri": {"prefix": "/"}}),
        ({"path": {"type": "PathPrefix", "value": "/a/"}}, {"uri": {"prefix": "/a"}}),
        ({"path": {"value": "/a"}}, {"uri": {"prefix": "/a"}}),
        ({"path": {"type": "RegularExpression", "value": "/a.*"}}, {"uri": {"regex": "/a.*"}}),
        ({"headers": [{"name": "x", "value": "1"}]}, {"headers": {"x": {"exact": "1"}}}),
        (
            {"headers": [{"name": "x", "value": "1.*", "type": "RegularExpression"}, {"name": "x", "value": "2"}]},
            {"headers": {"x": {"regex": "1.*"}}},
        ),
        (
            {"queryParams": [{"name": "q", "value": "1"}, {"name": "r", "value": ".", "type": "RegularExpression"}]},
            {"queryParams": {"q": {"exact": "1"}, "r": {"regex": "."}}},
        ),
        ({"method": "POST"}, {"method": {"exact": "POST"}}),
    ],
)
def test_what_a_match_asks(match: Obj, wanted: Obj) -> None:
    (rule,) = rules({"matches": [{"path": {"value": "/p"}, **match}], "backendRefs": [to()]})
    assert rule["match"] == [{"uri": {"prefix": "/p"}, **wanted}]


def test_each_match_is_a_rule_of_its_own() -> None:
    found = rules({"matches": [{"path": {"value": "/a"}}, {"path": {"value": "/b"}}], "backendRefs": [to()]})
    assert [rule["match"][0]["uri"]["prefix"] for rule in found] == ["/a", "/b"]
    assert {rule["name"] for rule in found} == {"bookinfo.shop.0"}
    assert rules({"name": "mine", "backendRefs": [to()]})[0]["name"] == "mine"


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ({"service": "s", "method": "m"}, {"exact": "/s/m"}),
        ({"service": "s"}, {"prefix": "/s/"}),
        ({"method": "m"}, {"regex": "/[^/]+/m"}),
        ({"type": "RegularExpression", "service": "s.*", "method": "m.*"}, {"regex": "/s.*/m.*"}),
        ({"type": "RegularExpression", "service": "s.*"}, {"regex": "/s.*/.+"}),
        ({"type": "RegularExpression", "method": "m.*"}, {"regex": "/[^/]+/m.*"}),
    ],
)
def test_the_path_of_a_call_is_its_service_and_method(method: Obj, uri: Obj) -> None:
    (rule,) = rules({"matches": [{"method": method}], "backendRefs": [to()]}, kind="GRPCRoute")
    assert rule["match"] == [{"uri": uri}]


def test_a_call_without_conditions_is_any_call() -> None:
    for matches in ([], [{}]):
        (rule,) = rules({"matches": matches, "backendRefs": [to()]}, kind="GRPCRoute")
        assert "match" not in rule
        assert rule["route"] == [{"destination": REVIEWS}]


def test_matches_are_asked_in_the_gateway_apis_order() -> None:
    def match(path: Obj, **more: Any) -> Obj:
        return {"path": path, **more}

    exact, prefix, regex = ({"type": kind, "value": "/aa"} for kind in ("Exact", "PathPrefix", "RegularExpression"))
    header, other = {"name": "x", "value": "1"}, {"name": "y", "value": "1"}
    wanted = [
        match(exact),
        match({"type": "PathPrefix", "value": "/aaa"}, method="GET"),
        match({"type": "PathPrefix", "value": "/aaa"}),
        match(prefix, method="GET"),
        match(prefix, headers=[header, other]),
        match(prefix, headers=[header], queryParams=[header]),
        match(prefix, headers=[header]),
        match(prefix, queryParams=[header]),
        match(prefix),
        match({"type": "RegularExpression", "value": "/aaaaaa.*"}),
        match(regex),
    ]
    asked = [rule["match"] for rule in rules({"matches": wanted, "backendRefs": [to()]})]
    backwards = rules({"matches": wanted[::-1], "backendRefs": [to()]})
    assert [rule["match"] for rule in in_precedence(backwards)] == asked  # type: ignore[typeddict-item]


def test_of_equal_matches_the_first_counts_and_a_rule_without_one_is_last() -> None:
    first, second = ({"name": name, "matches": [{"path": {"value": "/a"}}]} for name in ("first", "second"))
    found = in_precedence(rules({"name": "all"}, first, second))
    assert [rule["name"] for rule in found] == ["first", "second", "all"]


def test_headers_are_set_added_and_removed() -> None:
    modifier = {
        "set": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}],
        "add": [{"name": "X-B", "value": "3"}],
        "remove": ["x-c"],
    }
    wanted = {"set": {"x-a": "1"}, "add": {"x-b": "3"}, "remove": ["x-c"]}
    assert played({"type": "RequestHeaderModifier", "requestHeaderModifier": modifier})["headers"] == {
        "request": wanted
    }
    assert played({"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier})["headers"] == {
        "response": wanted
    }


@pytest.mark.parametrize(
    ("redirect", "wanted"),
    [
        ({"hostname": "a.b"}, {"authority": "a.b", "derivePort": "FROM_REQUEST_PORT", "redirectCode": 302}),
        (
            {"scheme": "https", "statusCode": 301},
            {"scheme": "https", "derivePort": "FROM_PROTOCOL_DEFAULT", "redirectCode": 301},
        ),
        ({"scheme": "https", "port": 8443}, {"scheme": "https", "port": 8443, "redirectCode": 302}),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}, "port": 1},
            {"uri": "/x", "port": 1, "redirectCode": 302},
        ),
        (
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}, "port": 1},
            {"uri": "%PREFIX()%/x", "port": 1, "redirectCode": 302},
        ),
    ],
)
def test_a_redirect(redirect: Obj, wanted: Obj) -> None:
    (rule,) = rules({"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]})
    assert rule == {"name": "bookinfo.shop.0", "redirect": wanted}


@pytest.mark.parametrize(
    ("rewrite", "wanted"),
    [
        ({"hostname": "a.b"}, {"authority": "a.b"}),
        ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x/"}}, {"uri": "/x"}),
        ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}}, {"uri": "/"}),
        ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}, {"uri": "/"}),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
            {"uriRegexRewrite": {"match": "/.*", "rewrite": "/x"}},
        ),
    ],
)
def test_a_rewrite(rewrite: Obj, wanted: Obj) -> None:
    assert played({"type": "URLRewrite", "urlRewrite": rewrite})["rewrite"] == wanted


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        ({}, {}),
        ({"percent": 20}, {"percentage": {"value": 20.0}}),
        ({"fraction": {"numerator": 1, "denominator": 8}}, {"percentage": {"value": 12.5}}),
        ({"fraction": {"numerator": 3}}, {"percentage": {"value": 3.0}}),
    ],
)
def test_copies_go_to_mirrors(share: Obj, wanted: Obj) -> None:
    found = played({"type": "RequestMirror", "requestMirror": {"backendRef": to("ratings"), **share}})
    ratings = {"host": "ratings.bookinfo.svc.cluster.local", "port": {"number": 9080}}
    assert found["mirrors"] == [{"destination": ratings, **wanted}]


def test_a_mirror_that_is_not_there_gets_nothing_and_is_told() -> None:
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to("gone")}}
    (rule,), fault = faulty({"backendRefs": [to()], "filters": [mirror]})
    assert "mirrors" not in rule
    assert rule["route"] == [{"destination": REVIEWS}]
    assert fault == Fault("BackendNotFound", "backend(gone.bookinfo.svc.cluster.local) not found")


@pytest.mark.parametrize(
    ("filters", "kind"),
    [
        ([{"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "C", "name": "d"}}], "HTTPRoute"),
        ([{"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "backendRef": to()}}], "HTTPRoute"),
        ([{"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "C", "name": "d"}}], "GRPCRoute"),
    ],
)
def test_a_filter_that_is_not_known_takes_the_route(filters: list[Obj], kind: str) -> None:
    with pytest.raises(RouteFault) as caught:
        rules({"backendRefs": [to()], "filters": filters}, kind=kind)
    assert caught.value.fault == Fault("InvalidFilter", f'unsupported filter type "{filters[0]["type"]}"')


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"timeouts": {"request": "10s"}}, {"timeout": "10s"}),
        ({"timeouts": {"request": "0s"}}, {}),
        ({"timeouts": {"request": "10s", "backendRequest": "2s"}}, {"timeout": "2s"}),
        (
            {"retry": {"attempts": 3, "codes": [500, 503], "backoff": "100ms"}},
            {
                "retries": {
                    "attempts": 3,
                    "retryOn": "connect-failure,refused-stream,unavailable,cancelled,500,503",
                    "backoff": "100ms",
                }
            },
        ),
        ({"retry": {"attempts": 0}}, {"retries": {"attempts": 0}}),
        (
            {"retry": {}},
            {"retries": {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}},
        ),
        (
            {"retry": {"codes": [500]}, "timeouts": {"request": "5s", "backendRequest": "1s"}},
            {
                "timeout": "5s",
                "retries": {
                    "attempts": 2,
                    "retryOn": "connect-failure,refused-stream,unavailable,cancelled,500",
                    "perTryTimeout": "1s",
                },
            },
        ),
    ],
)
def test_limits_of_time_and_tries(fields: Obj, wanted: Obj) -> None:
    found = played(**fields)
    assert {key: found[key] for key in ("timeout", "retries") if key in found} == wanted


def test_weights() -> None:
    (rule,) = rules({"backendRefs": [to(weight=3), to("ratings", weight=0), to("ratings", 8080)]})
    ratings = {"host": "ratings.bookinfo.svc.cluster.local", "port": {"number": 8080}}
    assert rule["route"] == [{"destination": REVIEWS, "weight": 3}, {"destination": ratings, "weight": 1}]


@pytest.mark.parametrize(
    ("refs", "kind", "status"),
    [
        ([], "HTTPRoute", 404),
        ([], "GRPCRoute", 500),
        ([to(weight=0)], "HTTPRoute", 500),
        ([to(weight=0), to("ratings", weight=0)], "HTTPRoute", 500),
    ],
)
def test_where_no_backend_has_a_weight_there_is_an_answer(refs: list[Obj], kind: str, status: int) -> None:
    (rule,) = rules({"backendRefs": refs}, kind=kind)
    assert rule == {"name": "bookinfo.shop.0", "directResponse": {"status": status}}


def test_a_backend_may_have_headers_of_its_own_and_nothing_else() -> None:
    modifier = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}
    (rule,) = rules({"backendRefs": [to(filters=[modifier])]})
    headers = {"request": {"set": {"a": "b"}, "add": {}, "remove": []}}
    assert rule["route"] == [{"destination": REVIEWS, "headers": headers}]
    with pytest.raises(RouteFault, match='unsupported filter type "URLRewrite"'):
        rules({"backendRefs": [to(filters=[{"type": "URLRewrite", "urlRewrite": {"hostname": "a"}}])]})


@pytest.mark.parametrize(
    ("ref", "host", "reason", "message"),
    [
        (to("gone"), "gone.bookinfo.svc.cluster.local", "BackendNotFound", "backend(gone.bookinfo.svc.cluster.local)"),
        (
            to("shelf", namespace="library"),
            "",
            "RefNotPermitted",
            'backendRef shelf/library not accessible to a HTTPRoute in namespace "bookinfo" (missing a Reference',
        ),
        (
            to("x", group="a.b", kind="Thing"),
            "",
            "InvalidKind",
            'referencing unsupported backendRef: group "a.b" kind "Thing"',
        ),
        (
            to("nowhere.example.com", group="networking.istio.io", kind="Hostname"),
            "nowhere.example.com",
            "BackendNotFound",
            "backend(nowhere.example.com) not found",
        ),
    ],
)
def test_a_backend_that_cannot_be_had_is_told_and_answers_500(ref: Obj, host: str, reason: str, message: str) -> None:
    (rule,), fault = faulty({"backendRefs": [ref]})
    assert rule["route"][0]["destination"]["host"] == host
    assert fault is not None
    assert fault.reason == reason
    assert message in fault.message


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (to("a.b"), "service name invalid; the name of the Service must be used, not the hostname."),
        (to(port=None), "port is required in backendRef"),
        (
            to("api.example.com", group="networking.istio.io", kind="Hostname", namespace="library"),
            "namespace may not be set with Hostname type",
        ),
    ],
)
def test_a_backend_without_meaning_takes_the_route(ref: Obj, message: str) -> None:
    with pytest.raises(RouteFault, match=message.split("(")[0]) as caught:
        rules({"backendRefs": [ref]}, mesh=True)
    assert caught.value.fault == Fault("InvalidDestination", message)


def test_a_hostname_leads_to_whatever_the_mesh_knows_by_it() -> None:
    (rule,) = rules({"backendRefs": [to("api.example.com", 443, group="networking.istio.io", kind="Hostname")]})
    assert rule["route"] == [{"destination": {"host": "api.example.com", "port": {"number": 443}}}]


@pytest.mark.parametrize(
    ("given", "kind", "permitted"),
    [
        (grant("library"), "HTTPRoute", True),
        (grant("library", name="shelf"), "HTTPRoute", True),
        (grant("library", name="other"), "HTTPRoute", False),
        (grant("library", source="other"), "HTTPRoute", False),
        (grant("other"), "HTTPRoute", False),
        (grant("library"), "GRPCRoute", False),
        (grant("library", kind="GRPCRoute"), "GRPCRoute", True),
    ],
)
def test_another_namespaces_service_wants_a_grant(given: Obj, kind: str, permitted: bool) -> None:
    _, fault = faulty({"backendRefs": [to("shelf", namespace="library")]}, kind=kind, grants=(given,))
    assert (fault is None) == permitted


def test_callers_inside_the_mesh_need_no_grant() -> None:
    (rule,) = rules({"backendRefs": [to("shelf", namespace="library")]}, mesh=True)
    assert rule["route"][0]["destination"]["host"] == "shelf.library.svc.cluster.local"
