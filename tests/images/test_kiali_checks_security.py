# SPDX-License-Identifier: Apache-2.0
"""What Kiali finds wrong with objects that say who may call whom: codes and paths as the genuine checkers give them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.images.kiali_world import to, virtual_service
from tests.images.test_kiali_api import get
from tests.images.test_kiali_checks import BOOKINFO, said, select, thing, tls


def policy(*, source: Any = None, operation: Any = None, when: Any = None, app: str = "reviews") -> dict[str, Any]:
    rule = {"from": [{"source": source}]} if source else {}
    rule |= {"to": [{"operation": operation}]} if operation else {}
    return select(app) | {"rules": [rule | ({"when": [when]} if when else {})]}


RULE = "spec/rules[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (policy(app="nobody"), [("KIA0004", "spec/selector/matchLabels")]),
        (
            policy(source={"namespaces": ["bookinfo", "nowhere"]}),
            [("KIA0101", f"{RULE}/from[0]/source/namespaces[1]")],
        ),
        (
            policy(operation={"methods": ["get", "/bookinfo.Reviews/List", "LOOK"]}),
            [("KIA0102", f"{RULE}/to[0]/operation/methods[2]")],
        ),
        (
            policy(operation={"hosts": ["reviews", "reviews.bookinfo", "*", "nobody", BOOKINFO]}),
            [("KIA0104", f"{RULE}/to[0]/operation/hosts[3]")],
        ),
        (policy(source={"principals": ["cluster.local/ns/bookinfo/sa/nobody"]}), []),
        (
            policy(operation={"hosts": ["*.bookinfo", "*.istio-system", "nobody.istio-system", "*.elsewhere"]}),
            [
                ("KIA0001", f"{RULE}/to[0]/operation/hosts[1]"),
                ("KIA0001", f"{RULE}/to[0]/operation/hosts[2]"),
                ("KIA0104", f"{RULE}/to[0]/operation/hosts[3]"),
            ],
        ),
        ({"rules": [{}]}, []),
        ({}, []),
    ],
)
def test_authorization_policies(api, world, spec, expected):
    world.istio = {"authorizationpolicies": [thing(spec)]}
    assert said(api, "authorizationpolicy") == expected


@pytest.mark.parametrize(
    ("peers", "rules", "needed"),
    [
        ([], [], False),
        ([thing({"mtls": {"mode": "DISABLE"}}, "peer")], [], True),
        ([thing({"mtls": {"mode": "DISABLE"}}, "peer", "istio-system")], [], True),
        ([thing({"mtls": {"mode": "STRICT"}}, "peer")], [], False),
        ([thing(select("reviews") | {"mtls": {"mode": "DISABLE"}}, "peer")], [], True),
        ([thing(select("details") | {"mtls": {"mode": "DISABLE"}}, "peer")], [], False),
        ([], [thing(tls(BOOKINFO, "DISABLE"), "rule")], True),
    ],
)
def test_who_asks_for_certificates_needs_mutual_tls(api, world, peers, rules, needed):
    caller = {"principals": ["*"], "notNamespaces": ["istio-system"]}
    asking = policy(source=caller, when={"key": "connection.sni", "values": ["a"]})
    world.istio = {"authorizationpolicies": [thing(asking)], "peerauthentications": peers, "destinationrules": rules}
    fields = ["from[0]/source/principals", "from[0]/source/notNamespaces", "when[0]"]
    assert said(api, "authorizationpolicy") == [("KIA0105", f"{RULE}/{field}") for field in fields if needed]


def test_a_host_of_a_virtual_service_or_service_entry_is_known(api, world):
    served = virtual_service("a", to("reviews"), host="shop.example.com")
    entry = thing({"hosts": ["*.example.org"]})
    hosts = ["shop.example.com", "www.example.org", "other.example.com"]
    asking = thing(policy(operation={"hosts": hosts}))
    world.istio = {"authorizationpolicies": [asking], "virtualservices": [served], "serviceentries": [entry]}
    assert said(api, "authorizationpolicy") == [("KIA0104", f"{RULE}/to[0]/operation/hosts[2]")]


@pytest.mark.parametrize(
    ("place", "specs", "expected"),
    [
        ("bookinfo", [{"mtls": {"mode": "STRICT"}}], []),
        ("bookinfo", [{}, {}], [("KIA0002", "spec/selector")]),
        ("bookinfo", [select("reviews"), select("reviews")], [("KIA0003", "spec/selector")]),
        ("bookinfo", [select("reviews"), select("details")], []),
        ("bookinfo", [select("reviews"), {}], []),
        ("bookinfo", [select("nobody")], [("KIA0004", "spec/selector/matchLabels")]),
    ],
)
def test_peer_authentications(api, world, place, specs, expected):
    made = [thing(spec, name, place) for name, spec in zip("ab", specs, strict=False)]
    world.istio = {"peerauthentications": made}
    assert said(api, "peerauthentication", "a", place) == expected


@pytest.mark.parametrize(
    ("place", "rules", "code"),
    [
        ("bookinfo", [tls(BOOKINFO, "ISTIO_MUTUAL")], "KIA0505"),
        ("bookinfo", [tls("*.local", "MUTUAL")], "KIA0505"),
        ("bookinfo", [tls("*.local", "MUTUAL"), tls(BOOKINFO, "DISABLE")], ""),
        ("istio-system", [tls("*.local", "ISTIO_MUTUAL")], "KIA0506"),
        ("istio-system", [tls(BOOKINFO, "ISTIO_MUTUAL")], ""),
        ("bookinfo", [], ""),
    ],
)
def test_who_switches_mutual_tls_off(api, world, place, rules, code):
    made = [thing(spec, name) for name, spec in zip("xy", rules, strict=False)]
    peer = thing({"mtls": {"mode": "DISABLE"}}, "a", place)
    world.istio = {"peerauthentications": [peer], "destinationrules": made}
    assert said(api, "peerauthentication", "a", place) == ([(code, "spec/mtls")] if code else [])


@pytest.mark.parametrize(
    ("place", "rules", "code"),
    [
        ("bookinfo", [], "KIA0501"),
        ("istio-system", [], "KIA0401"),
        ("bookinfo", [tls(BOOKINFO, "ISTIO_MUTUAL")], ""),
        ("bookinfo", [tls("*.local", "ISTIO_MUTUAL")], ""),
        ("istio-system", [tls(BOOKINFO, "ISTIO_MUTUAL")], "KIA0401"),
    ],
)
def test_without_automatic_mutual_tls_both_sides_have_to_say_it(api, world, place, rules, code):
    world.mesh_config = "enableAutoMtls: false"
    peer = thing({"mtls": {"mode": "STRICT"}}, "a", place)
    world.istio = {"peerauthentications": [peer], "destinationrules": [thing(spec) for spec in rules]}
    assert said(api, "peerauthentication", "a", place) == ([(code, "spec/mtls")] if code else [])
    assert get(f"{api}/mesh/tls")[1]["autoMTLSEnabled"] is False


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([{}, {}], [("KIA0002", "spec/selector")]),
        ([select("reviews"), select("reviews")], []),
        ([select("nobody")], [("KIA0004", "spec/selector/matchLabels")]),
    ],
)
def test_request_authentications(api, world, specs, expected):
    world.istio = {"requestauthentications": [thing(spec, name) for name, spec in zip("ab", specs, strict=False)]}
    assert said(api, "requestauthentication") == expected
