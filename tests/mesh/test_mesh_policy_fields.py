# SPDX-License-Identifier: Apache-2.0
"""No field of a policy is silent: it changes what a proxy is told, closes it, or a Warning names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.ground.typed import security as fields
from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.authorization import asking_filters, judging_filters, network_filters, route_config
from meshbox.mesh.jwt import jwt_filters, nobodys_keys
from meshbox.mesh.kinds import AUTHORIZATION_POLICIES, GATEWAYS, REQUEST_AUTHENTICATIONS, RESOURCES, Kind
from meshbox.mesh.notices import notices
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.security_notices import denying, unplayed
from meshbox.mesh.snapshot import Snapshot

from .cluster import Cluster
from .objects import PLAN, istio, snapshot, workload

Obj = dict[str, Any]

DENIED = "-deny-due-to-bad-CUSTOM-action"
VALUES: dict[str, Any] = {"ipBlocks": ["10.0.0.0/8"], "remoteIpBlocks": ["10.0.0.0/8"], "ports": ["9080"]}
KEYS = (
    *("source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount"),
    *("source.trustDomain", "request.headers[x-a]", "request.auth.principal", "request.auth.audiences"),
    *("request.auth.presenter", "request.auth.claims[a]", "destination.ip", "destination.port", "connection.sni"),
    "experimental.envoy.filters.a.b[c]",
)
OF_HTTP = ("request.headers", "request.auth.")
PROVIDER: Obj = {"service": "ratings.bookinfo.svc.cluster.local", "port": 9080}


def told(snap: Snapshot, name: str = "reviews-v1") -> str:
    """All that a proxy is told of policies, as text."""
    own = workload(snap, name)
    port = (snap.services_of[own.namespace, own.pod][0], snap.services_of[own.namespace, own.pod][0].ports[0])
    parts = [
        asking_filters(snap, own),
        jwt_filters(snap, own, 9080),
        judging_filters(snap, own),
        route_config(snap, own, port),
        network_filters(snap, own, port),
        mtls_mode(snap, own, 9080),
    ]
    return json.dumps(parts)


def policy(spec: Obj, mesh: str = "", **meta: Any) -> Snapshot:
    made = istio("p", spec)
    made["metadata"] |= meta
    return snapshot(authorization_policies=[made], mesh=mesh)


def unseen(spec: Obj) -> Snapshot:
    """A policy that no webhook has looked at."""
    return snapshot(kept={AUTHORIZATION_POLICIES: [{**istio("p", spec), "kind": "AuthorizationPolicy"}]})


def sample(field: str) -> Any:
    name = field.removeprefix("not")
    return VALUES.get(name[0].lower() + name[1:], ["a"])


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
@pytest.mark.parametrize(
    ("section", "part", "field"),
    [
        *(("from", "source", field) for field in fields.Source.__annotations__),
        *(("to", "operation", field) for field in fields.Operation.__annotations__),
    ],
)
def test_each_part_of_a_rule_is_told(section: str, part: str, field: str, action: str) -> None:
    snap = policy({"action": action, "rules": [{section: [{part: {field: sample(field)}}]}]})
    assert told(snap) != told(policy({"action": action, "rules": [{}]}))
    (chain,) = network_filters(snap, workload(snap, "reviews-v1"))
    rules = chain["typed_config"]["rules"]["policies"]
    only_http = field.removeprefix("not").lower() in ("requestprincipals", "hosts", "methods", "paths")
    if not only_http:
        assert rules
    elif action == "ALLOW":
        # What only HTTP can show never allows a plain connection …
        assert rules == {}
    else:
        # … and never saves one from being denied.
        ((_, rule),) = rules.items()
        assert rule == {"principals": [{"any": True}], "permissions": [{"any": True}]}


@pytest.mark.parametrize("where", ["values", "notValues"])
@pytest.mark.parametrize("key", KEYS)
def test_each_condition_is_told(key: str, where: str) -> None:
    value = "10.0.0.1" if key.endswith(".ip") else "9080" if key.endswith("port") else "a"
    rules = [{"when": [{"key": key, where: [value]}]}]
    allow = unseen({"rules": rules})
    assert told(allow) != told(unseen({"rules": [{}]}))
    assert told(unseen({"action": "DENY", "rules": rules})) != told(unseen({"action": "DENY", "rules": [{}]}))
    (chain,) = network_filters(allow, workload(allow, "reviews-v1"))
    assert bool(chain["typed_config"]["rules"]["policies"]) is not key.startswith(OF_HTTP)


def test_what_has_no_meaning_opens_no_door() -> None:
    """The webhook refuses such objects; a cluster may hold them all the same."""

    def rules(action: str, rule: Obj) -> Obj:
        snap = unseen({"action": action, "rules": [rule]})
        ((_, made),) = route_config(snap, workload(snap, "reviews-v1")).items()
        found: Obj = made["rbac"]["rules"]["policies"]
        return found

    anything = [{"principals": [{"any": True}], "permissions": [{"any": True}]}]
    for rule in (
        {"to": [{"operation": {"paths": ["/{**}/{*}"]}}]},
        {"to": [{"operation": {"notPaths": ["/a{*}"]}}]},
        {"when": [{"key": "no.such.key", "values": ["a"]}]},
    ):
        assert rules("ALLOW", rule) == {}
        assert list(rules("DENY", rule).values()) == anything


def test_a_service_account_is_of_the_policys_namespace_unless_another_is_named() -> None:
    snap = policy({"rules": [{"from": [{"source": {"serviceAccounts": ["a", "other/b"]}}]}]})
    text = told(snap)
    assert "/ns/bookinfo/(.+/|)sa/a(/.+)?" in text
    assert "/ns/other/(.+/|)sa/b(/.+)?" in text


def test_principals_are_of_all_names_of_the_mesh() -> None:
    spec = {
        "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/b", "*/ns/a/sa/c", "x/ns/a/sa/d"]}}]}]
    }
    text = told(policy(spec, mesh="trustDomain: shop.example\ntrustDomainAliases: [old.example]\n"))
    for name in ("shop.example/ns/a/sa/b", "old.example/ns/a/sa/b", "/ns/a/sa/c", "x/ns/a/sa/d"):
        assert name in text
    assert "old.example/ns/a/sa/d" not in text


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *(
            (kind, field, value)
            for kind in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc")
            for field, value in (
                ("timeout", "3s"),
                ("failOpen", True),
                ("statusOnError", "401"),
                (
                    "includeRequestBodyInCheck",
                    {"maxRequestBytes": 10, "allowPartialMessage": True, "packAsBytes": True},
                ),
            )
        ),
        ("envoyExtAuthzHttp", "pathPrefix", "/check"),
        ("envoyExtAuthzHttp", "includeRequestHeadersInCheck", ["x-a"]),
        ("envoyExtAuthzHttp", "includeHeadersInCheck", ["x-a"]),
        ("envoyExtAuthzHttp", "includeAdditionalHeadersInCheck", {"x-a": "b"}),
        ("envoyExtAuthzHttp", "headersToUpstreamOnAllow", ["x-a-*"]),
        ("envoyExtAuthzHttp", "headersToDownstreamOnDeny", ["*-a"]),
        ("envoyExtAuthzHttp", "headersToDownstreamOnAllow", ["x-a"]),
    ],
)
def test_each_setting_of_a_provider_is_told(kind: str, field: str, value: Any) -> None:
    def asked(**settings: Any) -> str:
        mesh = json.dumps({"extensionProviders": [{"name": "e", kind: {**PROVIDER, **settings}}]})
        snap = policy({"action": "CUSTOM", "provider": {"name": "e"}, "rules": [{}]}, mesh)
        assert not list(denying(snap))
        found = told(snap)
        # Who is asked about HTTP only is asked nothing about bytes.
        assert DENIED not in found
        assert ("envoy.filters.network.ext_authz" in found) is (kind == "envoyExtAuthzGrpc")
        return found

    assert asked(**{field: value}) != asked()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "has no 'e' (there are: none)"),
        ({"zipkin": {}}, "neither envoyExtAuthzHttp nor envoyExtAuthzGrpc"),
        ({"envoyExtAuthzHttp": "x"}, "must be a map"),
        ({"envoyExtAuthzHttp": {**PROVIDER, "port": 0}}, "port must be in the range"),
        ({"envoyExtAuthzHttp": {**PROVIDER, "port": 81}}, "has no port 81"),
        ({"envoyExtAuthzGrpc": {**PROVIDER, "service": "gone.svc"}}, "no service 'gone.svc'"),
        ({"envoyExtAuthzHttp": {**PROVIDER, "statusOnError": "9"}}, "no status of HTTP"),
        ({"envoyExtAuthzHttp": {**PROVIDER, "pathPrefix": "x"}}, "must begin with `/`"),
        ({"envoyExtAuthzHttp": {**PROVIDER, "headersToUpstreamOnAllow": ["*"]}}, "a single *"),
    ],
)
def test_a_provider_that_cannot_be_asked_denies_what_it_is_about_and_is_told_of(settings: Obj, why: str) -> None:
    mesh = json.dumps({"extensionProviders": [{"name": "e", **settings}] if settings else []})
    snap = policy({"action": "CUSTOM", "provider": {"name": "e"}, "rules": [{}]}, mesh)
    ((obj, problem),) = denying(snap)
    assert obj["metadata"]["name"] == "p"
    assert why in problem
    assert told(snap).count(f'"istio-ext-authz-ns[bookinfo]-policy[p]-rule[0]{DENIED}"') == 2


def test_two_providers_for_one_workload_deny_what_either_is_about() -> None:
    known = [{"name": name, "envoyExtAuthzHttp": PROVIDER} for name in ("e", "f")]
    policies = [istio(n, {"action": "CUSTOM", "provider": {"name": n}, "rules": [{}]}) for n in ("e", "f")]
    snap = snapshot(authorization_policies=policies, mesh=json.dumps({"extensionProviders": known}))
    for name in ("e", "f"):
        assert f'"istio-ext-authz-ns[bookinfo]-policy[{name}]-rule[0]{DENIED}"' in told(snap)
    assert {obj["metadata"]["name"] for obj, _ in denying(snap)} == {"e", "f"}


def test_a_dry_run_stands_among_the_shadow_rules() -> None:
    for action, prefix in (("ALLOW", "istio_dry_run_allow_"), ("DENY", "istio_dry_run_deny_")):
        snap = policy({"action": action, "rules": [{}]}, annotations={"istio.io/dry-run": "true"})
        ((_, made),) = route_config(snap, workload(snap, "reviews-v1")).items()
        assert "rules" not in made["rbac"]
        assert made["rbac"]["shadow_rules"]["action"] == action
        assert made["rbac"]["shadow_rules_stat_prefix"] == prefix
    assert "shadow" not in told(policy({"rules": [{}]}, annotations={"istio.io/dry-run": "false"}))


RULE = {"issuer": "https://a.example", "jwks": '{"keys": [{"kty": "oct", "k": "YQ"}]}'}


def tokens(*rules: Obj, keys: dict[str, str] | None = None, **spec: Any) -> Snapshot:
    snap = snapshot(request_authentications=[istio("r", {"jwtRules": list(rules), **spec})])
    snap.keys = keys or {}
    return snap


@pytest.mark.parametrize("field", sorted(fields.JWTRule.__annotations__))
def test_each_field_of_a_rule_about_tokens_is_told(field: str) -> None:
    value: Any = {
        "issuer": "https://b.example",
        "jwks": '{"keys": [{"kty": "oct", "k": "Yg"}]}',
        "jwksUri": "http://keys.example/",
        "jwks_uri": "http://keys.example/",
        "forwardOriginalToken": True,
        "fromHeaders": [{"name": "x-a", "prefix": "b"}],
        "outputClaimToHeaders": [{"header": "x-a", "claim": "b"}],
        "outputPayloadToHeader": "x-a",
        "timeout": "2s",
    }.get(field, ["a"])
    rule = {**RULE, field: value}
    if field == "timeout":
        # How long a fetch may take: `meshbox.mesh.jwks` asks for it.
        return
    if field in ("jwksUri", "jwks_uri"):
        del rule["jwks"]
        obj = {**istio("r", {"jwtRules": [rule]}), "kind": "RequestAuthentication"}
        snap = snapshot(kept={REQUEST_AUTHENTICATIONS: [obj]})
        assert json.dumps(nobodys_keys()) in told(snap)
        snap.keys = {value: '{"keys": [{"kty": "oct", "k": "YQ"}]}'}
        assert json.dumps(nobodys_keys()) not in told(snap)
        return
    assert told(tokens(rule)) != told(tokens(RULE))


def test_keys_that_nobody_gives_refuse_and_are_told_of() -> None:
    snap = tokens({"issuer": "books"})
    assert json.dumps(nobodys_keys()) in told(snap)
    (obj,) = snap.all(REQUEST_AUTHENTICATIONS)
    (said,) = unplayed(REQUEST_AUTHENTICATIONS, obj)
    assert said == "no keys are given for issuer books (jwks or jwksUri): its tokens are refused (401)"


@pytest.mark.parametrize("kind", ["authorization_policies", "request_authentications", "telemetries"])
def test_targets_are_for_gateways_and_others_are_told_of(kind: str) -> None:
    spec: Obj = {
        "authorization_policies": {"action": "DENY", "rules": [{}]},
        "request_authentications": {"jwtRules": [RULE]},
        "telemetries": {"accessLogging": [{"disabled": True}]},
    }[kind]
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "shop"}
    service = {"group": "", "kind": "Service", "name": "reviews"}
    labels = {"gateway.networking.k8s.io/gateway-name": "shop"}
    router = {
        "metadata": {"name": "shop-istio", "namespace": "bookinfo", "labels": labels},
        "spec": {"containers": [{"name": "istio-proxy", "image": "istio/proxyv2", "args": ["proxy", "router"]}]},
        "status": {"podIP": "127.99.64.99", "phase": "Running"},
    }
    resource = next(r for r in RESOURCES if r.startswith(kind.replace("_", "")))
    for targets, chosen in (([gateway], True), ([service], False), ([{**gateway, "name": "x"}], False)):
        snap = snapshot(**{kind: [istio("p", {**spec, "targetRefs": targets})], "pods": [router]})
        found: Kind[Any] = resource
        assert bool(snap.selected(found, workload(snap, "shop-istio"))) is chosen
        assert not snap.selected(found, workload(snap, "reviews-v1"))
        (obj,) = snap.all(found)
        assert bool(list(unplayed(resource, obj))) is (targets == [service])


def test_an_audit_is_no_judgement_and_says_so() -> None:
    snap = policy({"action": "AUDIT", "rules": [{}]})
    assert told(snap) == told(snapshot())
    (said,) = unplayed("authorizationpolicies.security.istio.io", {"spec": {"action": "AUDIT", "rules": [{}]}})
    assert "no audit back-end" in said


@pytest.mark.parametrize("legacy", [True, False])
def test_a_credential_that_istio_1_2_has_no_agent_for_is_served_and_said(legacy: bool) -> None:
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    found = list(notices(GATEWAYS, istio("g", {"servers": [{}, {"tls": tls}]}), legacy=legacy))
    assert [one.partition(" is served here; ")[0] for one in found] == ["servers[1].tls.credentialName"] * legacy


def test_a_warning_is_said_when_it_is_applied(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "1.30.3", PLAN)
    obj = {**istio("p", {"action": "AUDIT", "rules": [{}]}), "kind": "AuthorizationPolicy"}
    request = AdmissionRequest("CREATE", AUTHORIZATION_POLICIES, "bookinfo", "p", obj)
    MeshAdmission(cluster, cluster.settings).validate(request)
    (said,) = request.warnings
    assert said.startswith("action AUDIT enforces nothing")
    cluster.close()


ORIGIN = {"issuer": "books", "jwks": '{"keys": [{"kty": "oct", "k": "YQ"}]}'}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peers", [{"mtls": {}}]),
        ("peers", [{"mtls": {"mode": "PERMISSIVE"}}]),
        ("peers", [{"jwt": {"issuer": "x"}}]),
        ("origins", [{"jwt": {**ORIGIN, "audiences": ["a"]}}]),
        ("origins", [{"jwt": {**ORIGIN, "jwksUri": "http://x/", "jwks": ""}}]),
        ("origins", [{"jwt": {**ORIGIN, "jwtHeaders": ["x-a"]}}]),
        ("origins", [{"jwt": {**ORIGIN, "jwtParams": ["a"]}}]),
        ("origins", [{"jwt": {**ORIGIN, "triggerRules": [{"includedPaths": [{"suffix": "/a"}]}]}}]),
        ("originIsOptional", True),
    ],
)
def test_each_field_of_an_old_policy_is_told(field: str, value: Any) -> None:
    base = {"targets": [{"name": "reviews"}], "origins": [{"jwt": ORIGIN}]}
    before = told(snapshot(legacy=True, policies=[istio("reviews", base)]))
    assert told(snapshot(legacy=True, policies=[istio("reviews", {**base, field: value})])) != before


@pytest.mark.parametrize(
    "spec",
    [
        {"peers": [{"mtls": {"allowTls": True}}]},
        {"peers": [{"mtls": {}}], "peerIsOptional": True},
        {"peers": [{"jwt": {}}]},
        {"targets": [{"name": "a", "labels": {"a": "b"}}]},
        {"origins": [{"jwt": {"triggerRules": [{}, {}]}}]},
    ],
)
def test_what_of_an_old_policy_is_not_played_is_told_of(spec: Obj) -> None:
    for kind in ("policies", "meshpolicies"):
        assert len(list(unplayed(f"{kind}.authentication.istio.io", {"spec": spec}))) == 1


NAMED = {"tls": {"mode": "SIMPLE", "credentialName": "api"}}


@pytest.mark.parametrize(
    ("spec", "told_of"),
    [
        ({"trafficPolicy": NAMED}, True),
        ({"trafficPolicy": {"portLevelSettings": [{}, NAMED]}}, True),
        ({"subsets": [{"trafficPolicy": None}, {"trafficPolicy": {"portLevelSettings": [NAMED]}}]}, True),
        ({"trafficPolicy": NAMED, "workloadSelector": {"matchLabels": {"app": "a"}}}, False),
        ({"trafficPolicy": {"tls": {"mode": "MUTUAL", "clientCertificate": "/c"}}}, False),
        ({"trafficPolicy": {"tls": {"mode": "DISABLE", "credentialName": "api"}}}, False),
        ({}, False),
    ],
)
def test_a_credential_that_only_gateways_take_is_told_of(spec: Obj, told_of: bool) -> None:
    text = (
        "sidecars leave out TLS for this rule; only gateways take a credentialName from a rule without workloadSelector"
    )
    assert list(unplayed("destinationrules.networking.istio.io", {"spec": spec})) == ([text] if told_of else [])


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (
            {"mode": "MUTUAL", "credentialName": "shop", "caCrl": "/r"},
            " beside credentialName: the Secret's own list (ca.crl) counts",
        ),
        (
            {"mode": "MUTUAL", "credentialNames": ["shop"], "caCrl": "/r"},
            " beside credentialName: the Secret's own list (ca.crl) counts",
        ),
        ({"mode": "ISTIO_MUTUAL", "caCrl": "/r"}, " with mode ISTIO_MUTUAL"),
        ({"mode": "MUTUAL", "caCertificates": "/ca", "caCrl": "/r"}, ""),
        ({"mode": "MUTUAL", "credentialName": "shop"}, ""),
    ],
)
def test_a_list_of_what_is_revoked_that_does_not_count_is_told_of(tls: Obj, said: str) -> None:
    found = list(unplayed("gateways.networking.istio.io", {"spec": {"servers": [{}, {"tls": tls}]}}))
    assert found == ([f"servers[1].tls.caCrl has no effect{said}"] if said else [])
