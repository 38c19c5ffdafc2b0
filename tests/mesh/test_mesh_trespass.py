# SPDX-License-Identifier: Apache-2.0
"""What a user of one namespace, or a patch, must not open: others' Secrets, the doors of listeners, policies' rules."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError
from meshbox.interception import Interception
from meshbox.mesh.certificates import Authority
from meshbox.mesh.envoy import extension
from meshbox.mesh.envoy_filters.trials import Candidate, validated
from meshbox.mesh.gateway_notices import GatewayNotices
from meshbox.mesh.jwt import jwt_filters, nobodys_keys
from meshbox.mesh.key_sets import usable
from meshbox.mesh.kinds import REQUEST_AUTHENTICATIONS
from meshbox.mesh.memo import Memo
from meshbox.mesh.secrets import SecretSource
from meshbox.mesh.security_notices import denying, unplayed
from meshbox.mesh.settings import number
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .objects import PLAN, istio, pod, service, snapshot
from .patching import OWN, Obj, envoy_filter, made, patch, read
from .test_gateway_api_routes import convert, route, to
from .test_mesh_envoy_filter_trials import listener
from .test_mesh_gateways import config as gateway_config
from .test_mesh_gateways import gateway, gateway_pod, server
from .test_mesh_policy_fields import DENIED, PROVIDER, policy, told

CLIENT, CLIENTS = pod("client-1", "127.99.64.1"), service("client")
DOOR = ["labkit.ends", "labkit.own_user"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("kubernetes://mine-cacert", True),
        ("kubernetes://bookinfo/mine-cacert", True),
        ("kubernetes-gateway://bookinfo/mine-cacert", True),
        ("kubernetes://other/theirs-cacert", False),
        ("kubernetes-gateway://other/theirs-cacert", False),
    ],
)
def test_no_proxy_is_given_the_secret_of_another_namespace(tmp_path: Path, asked: str, given: bool) -> None:
    authority = Authority(tmp_path)
    authority.load()
    data = {"ca.crt": base64.b64encode(authority.root.encode()).decode()}
    kept = [
        {"metadata": {"name": name, "namespace": namespace}, "data": data}
        for name, namespace in (("mine", "bookinfo"), ("theirs", "other"))
    ]
    snap = snapshot(pods=[pod("client-v1", "127.99.64.70")], secrets=kept)
    assert (SecretSource(authority, lambda: snap).get(("bookinfo", "client-v1"), asked) is not None) is given


def test_whoever_names_the_secret_of_another_namespace_is_told_no_more_of_it() -> None:
    tls = {"mode": "SIMPLE", "credentialName": "other/theirs"}
    theirs = {"metadata": {"name": "theirs", "namespace": "other"}, "data": {"private": "eA=="}}
    said: list[tuple[str, str]] = []

    class Objects:
        def event(self, _obj: Obj, _type: str, reason: str, message: str, _component: str) -> None:
            said.append((reason, message))

    objects: Any = Objects()
    given = [gateway(server(8443, "HTTPS", tls=tls))]
    for secrets in ([], [theirs]):
        GatewayNotices(objects, "istiod").tell(snapshot(pods=[gateway_pod()], gateways=given, secrets=secrets))
    first, second = said
    assert first == second
    assert first[0] == "ReferencedResourceNotFound"
    assert "Secrets of namespace other are not given to the gateway's pods" in first[1]


def test_no_port_is_too_long_to_read() -> None:
    long = Interception({"not_inbound": f"8080,{'9' * 5000}"})
    assert (long.takes_inbound(8080), long.takes_inbound(8081)) == (False, True)


def test_what_is_done_to_paths_reaches_listeners_that_are_kept() -> None:
    memo, found = Memo(), []
    for normalization in ("NONE", "MERGE_SLASHES"):
        mesh = json.dumps({"pathNormalization": {"normalization": normalization}})
        config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
        objects = {"pods": [CLIENT], "services": [CLIENTS], "configmaps": [config]}
        snap = Snapshot(objects, PLAN, legacy=False, memo=memo)
        told_now = translate(snap, snap.workloads["bookinfo", "client-1"]).listeners
        found.append({name for name, body in told_now.items() if b"merge_slashes" in body})
        memo.settle()
    assert found == [set(), {"virtualInbound_9080", "0.0.0.0_9080", "0.0.0.0_80", "http_proxy"}]


@pytest.mark.parametrize(("text", "value"), [("7", 7.0), (".5", 0.5), ("x", 1.0), (math.inf, 1.0), ("nan", 1.0)])
def test_a_number_is_a_finite_one(text: object, value: float) -> None:
    assert number(text, 1.0) == value


def names(chain: Obj) -> list[str]:
    return [one["name"] for one in chain["filters"]]


@pytest.mark.parametrize("listener", ["virtualOutbound", "0.0.0.0_9080", "http_proxy", "virtualInbound_9080"])
def test_no_patch_lets_a_listener_listen_elsewhere(listener: str) -> None:
    everywhere = {"socket_address": {"address": "0.0.0.0", "port_value": 7777}}
    more = {"bindToPort": True, "additionalAddresses": [{"address": everywhere}], "tcp_backlog_size": 5}
    before = read(made().config.listeners, listener)
    after = read(made(envoy_filter(patch("LISTENER", "MERGE", more))).config.listeners, listener)
    assert after.pop("tcp_backlog_size") == 5
    assert after == before


def test_a_door_is_known_by_what_it_does_and_not_by_its_name() -> None:
    feigned = [{"name": name, "typed_config": {"@type": "type.googleapis.com/own"}} for name in DOOR]
    add = patch("FILTER_CHAIN", "ADD", {"name": "new", "filters": [*feigned, OWN]}, "SIDECAR_INBOUND")
    chain = read(made(envoy_filter(add)).config.listeners, "virtualInbound_9080")["filter_chains"][-1]
    assert names(chain) == [*DOOR, *DOOR, "own"]
    assert chain["filters"][2:4] == feigned


def test_a_certificate_that_a_patch_asks_for_opens_no_door() -> None:
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": "x", "requireClientCertificate": True}}
    add = patch("FILTER_CHAIN", "ADD", {"name": "new", "transportSocket": socket, "filters": [OWN]}, "SIDECAR_INBOUND")
    other = patch("FILTER_CHAIN", "MERGE", {"transport_socket": socket}, "SIDECAR_INBOUND")
    chains = read(made(envoy_filter(add)).config.listeners, "virtualInbound_9080")["filter_chains"]
    assert names(chains[-1]) == [*DOOR, "own"]
    # The mesh's own mTLS stays without one.
    assert names(chains[0])[0] not in DOOR
    for chain in read(made(envoy_filter(other)).config.listeners, "virtualInbound_9080")["filter_chains"]:
        assert names(chain)[:2] == DOOR


def test_the_version_that_a_patch_asks_for_takes_no_time() -> None:
    # Python's own expressions would go on for years.
    endless = patch("HTTP_FILTER", "INSERT_FIRST", OWN, proxy={"proxyVersion": "(.?){500}z"})
    assert made(envoy_filter(endless)).config.listeners == made().config.listeners


def test_policies_hold_for_what_passes_by_its_server_name() -> None:
    passing = gateway(server(15443, "TLS", ("*.local",), tls={"mode": "AUTO_PASSTHROUGH"}))
    deny = istio("deny", {"action": "DENY", "rules": [{}]}, namespace="istio-system")

    def chains(*policies: Obj) -> list[list[str]]:
        found = gateway_config(gateways=[passing], authorization_policies=list(policies))
        return [names(chain) for chain in json.loads(found.listeners["0.0.0.0_15443"])["filter_chains"]]

    assert {tuple(found) for found in chains()} == {(*DOOR, "envoy.filters.network.tcp_proxy")}
    expected = (*DOOR, "envoy.filters.network.rbac", "envoy.filters.network.tcp_proxy")
    assert {tuple(found) for found in chains(deny)} == {expected}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"failOpen": "false"}, "failOpen must be true or false"),
        ({"timeout": "soon"}, "timeout must be a duration"),
        ({"timeout": "-1s"}, "timeout must be more than 0s"),
        ({"includeRequestBodyInCheck": True}, "includeRequestBodyInCheck must be a map"),
        ({"includeRequestBodyInCheck": {}}, "maxRequestBytes must be 1 or more"),
        ({"includeRequestBodyInCheck": {"maxRequestBytes": 1, "packAsBytes": "no"}}, "must be a map of settings"),
        ({"headersToUpstreamOnAllow": 5}, "headersToUpstreamOnAllow must be a list"),
        ({"includeAdditionalHeadersInCheck": ["x"]}, "includeAdditionalHeadersInCheck must be a map"),
        ({"includeAdditionalHeadersInCheck": {"a b": "x"}}, "includeAdditionalHeadersInCheck must be a map"),
    ],
)
def test_a_provider_of_no_form_takes_no_policy_away(settings: Obj, why: str) -> None:
    mesh = json.dumps({"extensionProviders": [{"name": "e", "envoyExtAuthzHttp": {**PROVIDER, **settings}}]})
    snap = policy({"action": "CUSTOM", "provider": {"name": "e"}, "rules": [{}]}, mesh)
    ((_, problem),) = denying(snap)
    assert why in problem
    assert told(snap).count(DENIED) == 2


@pytest.mark.parametrize(
    "rule",
    [
        {"when": [{"key": "request.headers[[]", "values": ["x"]}]},
        {"when": [{"key": "request.auth.claims[[]", "values": ["x"]}]},
        {"when": [{"key": "experimental.envoy.filters.a[[]", "values": ["x"]}]},
        {"when": [{"key": "request.headers[a\nb]", "values": ["x"]}]},
        {"to": [{"operation": {"paths": ["/{*}/" + 300 * "a"]}}]},
        {"to": [{"operation": {"notPaths": ["//{*}"]}}]},
    ],
)
def test_what_envoy_would_refuse_of_a_rule_takes_no_other_rule_with_it(rule: Obj) -> None:
    allow, deny = (told(policy({"action": action, "rules": [rule]})) for action in ("ALLOW", "DENY"))
    assert "rule[0]" not in allow
    assert "rule[0]" in deny
    assert "uri_template" not in deny
    assert '""' not in deny


PATTERN = {"type": "RegularExpression", "value": "("}
CHANGED = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "a\nb"}]}}
MOVED = {"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/\n"}}}


@pytest.mark.parametrize(
    ("kind", "rule", "reason"),
    [
        ("HTTPRoute", {"matches": [{"path": PATTERN}]}, "UnsupportedValue"),
        ("HTTPRoute", {"matches": [{"headers": [{**PATTERN, "name": "x"}]}]}, "UnsupportedValue"),
        ("HTTPRoute", {"matches": [{"queryParams": [{**PATTERN, "name": "x"}]}]}, "UnsupportedValue"),
        ("GRPCRoute", {"matches": [{"method": {"type": "RegularExpression", "service": "("}}]}, "UnsupportedValue"),
        ("HTTPRoute", {"filters": [CHANGED]}, "InvalidFilter"),
        ("HTTPRoute", {"filters": [MOVED]}, "InvalidFilter"),
    ],
)
def test_a_route_that_envoy_would_refuse_takes_no_other_with_it(kind: str, rule: Obj, reason: str) -> None:
    bad = {**rule, "backendRefs": [] if rule.get("filters") == [MOVED] else [to()]}
    (made_of,), statuses = convert(route(), route(bad, kind=kind, name="bad", age=1))
    assert [one["name"] for one in made_of["spec"]["http"]] == ["bookinfo.shop.0"]
    said = [one for _, found in statuses[kind, "bookinfo", "bad"].parents for one in found]
    assert ("ResolvedRefs", reason) in [(one.type, one.reason) for one in said]


@pytest.mark.parametrize(
    "fields",
    [
        {"rewrite": {"uri": "/a\nb"}},
        {"rewrite": {"authority": "a\nb"}},
        {"redirect": {"uri": "/a\nb"}},
        {"redirect": {"authority": "a\nb"}},
        {"match": [{"queryParams": {"": {"exact": "a"}}}]},
    ],
)
def test_a_virtual_service_that_envoy_would_refuse_takes_no_other_with_it(fields: Obj) -> None:
    to_reviews = {} if "redirect" in fields else {"route": [{"destination": {"host": "reviews"}}]}
    one = istio("bad", {"hosts": ["reviews"], "http": [{**to_reviews, **fields}]})
    with pytest.raises(ApiError):
        snapshot(virtual_services=[one])


EC = {"kty": "EC", "crv": "P-256", **{k: json.loads(nobodys_keys())["keys"][0][k] for k in ("x", "y")}}
RSA = {"kty": "RSA", "n": base64.urlsafe_b64encode(bytes([255] * 256)).decode().rstrip("="), "e": "AQAB"}
ED = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}
SOUND = [
    EC,
    RSA,
    ED,
    {"kty": "oct", "k": "YQ"},
    {**EC, "alg": "ES256", "kid": "a", "use": "sig"},
    {**RSA, "alg": "PS512"},
]
ODD = [
    {},
    {"kty": "x"},
    {**EC, "x": "AQ"},
    {**EC, "crv": "P-1"},
    {**EC, "alg": "RS256"},
    {**RSA, "n": "!"},
    {**ED, "x": "A"},
]


def test_keys_that_envoy_would_refuse_are_nobodys_and_told_of() -> None:
    def asked(*keys: Obj) -> tuple[str, list[str]]:
        rule = {"issuer": "x", "jwks": json.dumps({"keys": keys})}
        obj: Any = istio("r", {"jwtRules": [rule]})
        snap = snapshot(request_authentications=[obj])
        (made_of,) = jwt_filters(snap, snap.workloads["bookinfo", "reviews-v1"])
        text: str = made_of["typed_config"]["providers"]["origins-0"]["local_jwks"]["inline_string"]
        return text, list(unplayed(REQUEST_AUTHENTICATIONS, obj))

    for key in SOUND:
        assert asked({}, key) == (json.dumps({"keys": [{}, key]}), [])
    for found, said in (asked(*ODD), asked()):
        assert found == nobodys_keys()
        assert said == ["jwks of issuer x holds no key by which tokens can be checked: its tokens are refused (401)"]


@pytest.mark.long
async def test_envoy_takes_the_keys_that_are_taken_for_sound() -> None:
    for keys, taken in (*(([key], True) for key in SOUND), ([{}, EC], True), ([{}], False), ([], False)):
        text = json.dumps({"keys": keys})
        provider = {"issuer": "x", "local_jwks": {"inline_string": text}}
        kind = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
        one = extension("envoy.filters.http.jwt_authn", kind, providers={"x": provider})
        assert (await validated([Candidate((listener(one),))]) == "", usable(text)) == (taken, taken), text


@pytest.mark.parametrize(
    "policy",
    [
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x", "minimumRingSize": 8388609}}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x", "ringHash": {"minimumRingSize": 8388609}}}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "a\nb"}}},
        {"loadBalancer": {"consistentHash": {"httpCookie": {"name": "x", "ttl": "-1s"}}}},
        {
            "loadBalancer": {
                "consistentHash": {"httpCookie": {"name": "x", "attributes": [{"name": "a", "value": "\n"}]}}
            }
        },
        # The largest prime of 63 bits: to see that it is one takes minutes.
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x", "maglev": {"tableSize": 9223372036854775783}}}},
        {"tls": {"mode": "SIMPLE", "sni": 256 * "a"}},
    ],
)
def test_a_destination_rule_that_envoy_would_refuse_takes_no_other_with_it(policy: Obj) -> None:
    with pytest.raises(ApiError):
        snapshot(destination_rules=[istio("bad", {"host": "reviews", "trafficPolicy": policy})])


def test_a_service_entry_that_envoy_would_refuse_takes_no_other_with_it() -> None:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    entry = {"hosts": ["a.test"], "ports": ports, "resolution": "STATIC", "endpoints": [{"address": "unix:///tmp/a"}]}
    snapshot(service_entries=[istio("good", entry)])
    with pytest.raises(ApiError):
        snapshot(service_entries=[istio("bad", {**entry, "endpoints": [{"address": "unix:///" + 107 * "a"}]})])
