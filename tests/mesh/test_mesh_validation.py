# SPDX-License-Identifier: Apache-2.0
"""What Istio's webhooks refuse, in which words; and that they let through what is right."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshbox.mesh.istio_validation import check, denial
from meshbox.mesh.kinds import VIRTUAL_SERVICES
from meshbox.mesh.translate import translate

from .conftest import RELEASES, REPOSITORY
from .objects import istio, snapshot, workload

Obj = dict[str, Any]

V1 = {"destination": {"host": "reviews", "subset": "v1"}}


def obj(kind: str, spec: Any, name: str = "x") -> Obj:
    return {"kind": kind, "metadata": {"name": name, "namespace": "bookinfo"}, "spec": spec}


def refusal(found: Obj, *, legacy: bool) -> tuple[str, list[str]]:
    return denial(found, problems := check(found, legacy=legacy)), problems.warnings


def words(kind: str, spec: Any, *, legacy: bool = True) -> str:
    return refusal(obj(kind, spec), legacy=legacy)[0].removeprefix("configuration is invalid: ")


def of_rule(*, legacy: bool = True, **rule: Any) -> str:
    return words("VirtualService", {"hosts": ["reviews"], "http": [rule]}, legacy=legacy)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("where", ["own", "genuine"])
def test_every_sample_of_the_releases_passes(release: str, where: str) -> None:
    folder = REPOSITORY / "labkit" / "istio" / "manifests" / release
    if where == "genuine":
        folder = REPOSITORY.parent / "shared" / "releases" / f"istio-{release}"
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there")
    seen = 0
    for file in folder.rglob("*.yaml"):
        for found in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            if found and "istio.io" in str(found.get("apiVersion", "")).split("/")[0] and "spec" in found:
                assert refusal(found, legacy=release == "1.2.2") == ("", []), file
                seen += 1
    assert seen > 0


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ({"route": [{**V1, "weight": 75}, {**V1, "weight": 26}]}, "total destination weight 101 != 100", ""),
        (
            {"route": [{**V1, "weight": 0}, {**V1, "weight": 0}]},
            "total destination weight 0 != 100",
            "total destination weight = 0",
        ),
        ({}, "HTTP route or redirect is required", "HTTP route, redirect or direct_response is required"),
        (
            {"route": [{"weight": 100}]},
            "1 error occurred:\n\t* destination is required\n\n",
            "1 error occurred:\n\t* destination is required\n\n",
        ),
        (
            {"route": [V1], "retries": {"attempts": 0}},
            "1 error occurred:\n\t* attempts must be positive\n\n",
            "",
        ),
        (
            {"route": [V1], "retries": {"attempts": 1, "retryOn": "nonsense"}},
            '"nonsense" is not a valid retryOn policy',
            '"nonsense" is not a valid retryOn policy',
        ),
        ({"route": [V1], "timeout": "0.1ms"}, "duration must be greater than 1ms", "duration must be greater than 1ms"),
        (
            {"route": [V1], "fault": {}},
            "1 error occurred:\n\t* HTTP fault injection must have an abort and/or a delay\n\n",
            "1 error occurred:\n\t* HTTP fault injection must have an abort and/or a delay\n\n",
        ),
        (
            {"route": [V1], "fault": {"delay": {"percent": 101, "fixedDelay": "1s"}}},
            "percentage 101 is not in range 0..100",
            "",
        ),
        (
            {"route": [{"destination": {"host": "*"}}]},
            "invalid destintation host *",
            "invalid destination host *",
        ),
        (
            {"route": [{"destination": {"host": "reviews", "subset": "V_1"}}]},
            "subset name is invalid: V_1",
            "subset name is invalid: V_1",
        ),
        (
            {"route": [{"destination": {"host": "reviews", "port": {"number": 70000}}}]},
            "port number 70000 must be in the range 1..65535",
            "port number 70000 must be in the range 1..65535",
        ),
        (
            {"route": [V1], "redirect": {"uri": "/x"}},
            "HTTP route cannot contain both route and redirect",
            "HTTP route cannot contain both route and redirect",
        ),
    ],
)
def test_http_rules(rule: Obj, old: str, new: str) -> None:
    assert of_rule(**rule) == old
    assert of_rule(legacy=False, **rule) == new


def test_a_pattern_that_envoy_cannot_compile() -> None:
    text = of_rule(match=[{"uri": {"regex": "(unclosed"}}], route=[V1])
    assert text.startswith('"uri": error parsing regexp: missing closing ): `(unclosed`')


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"hosts": ["re_views"], "http": [{"route": [V1]}]},
            'domain name "re_views" invalid (label "re_views" invalid)',
        ),
        ({"hosts": ["reviews"]}, "http, tcp or tls must be provided in virtual service"),
        (
            {"hosts": ["*"], "http": [{"route": [V1]}]},
            "wildcard host * is not allowed for virtual services bound to the mesh gateway",
        ),
        (
            {"hosts": ["*.a.b", "x.a.b"], "http": [{"route": [V1]}]},
            "duplicate hosts in virtual service: *.a.b & x.a.b",
        ),
        (
            {"hosts": ["a"], "gateways": ["no/such/name"], "http": [{"route": [V1]}]},
            'invalid value for gateway name: "such/name"',
        ),
    ],
)
def test_virtual_services(spec: Obj, text: str) -> None:
    assert words("VirtualService", spec) == text
    assert words("VirtualService", spec, legacy=False) == text


def test_several_errors_are_listed() -> None:
    assert words("VirtualService", {"http": []}) == (
        "2 errors occurred:\n\t* virtual service must have at least one host\n"
        "\t* http, tcp or tls must be provided in virtual service\n\n"
    )


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"hosts": ["a"], "htpp": []}, 'unknown field "htpp" in v1alpha3.VirtualService'),
        ({"hosts": ["a"], "http": [{"rout": []}]}, 'unknown field "rout" in v1alpha3.HTTPRoute'),
        (
            {"hosts": ["a"], "http": [{"mirrorPercentage": {"value": 1}}]},
            'unknown field "mirrorPercentage" in v1alpha3.HTTPRoute',
        ),
        ({"hosts": "a"}, "json: cannot unmarshal string into Go value of type []json.RawMessage"),
        ({"hosts": [1]}, "json: cannot unmarshal number into Go value of type string"),
        (
            {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "b"}, "weight": "x"}]}]},
            "json: cannot unmarshal string into Go value of type int32",
        ),
        ({"hosts": ["a"], "http": [{"timeout": "soon"}]}, "bad Duration: time: invalid duration soon"),
    ],
)
def test_what_the_old_release_could_not_decode(spec: Obj, problem: str) -> None:
    text = refusal(obj("VirtualService", spec), legacy=True)[0]
    assert text.startswith("error decoding configuration: YAML decoding error: ")
    assert text.endswith(problem)


@pytest.mark.parametrize(
    ("kind", "spec", "text"),
    [
        ("DestinationRule", {"host": ""}, "empty domain name not allowed"),
        ("DestinationRule", {"host": "a", "trafficPolicy": {}}, "traffic policy must have at least one field"),
        (
            "DestinationRule",
            {"host": "a", "trafficPolicy": {"connectionPool": {}}},
            "connection pool must have at least one field",
        ),
        (
            "DestinationRule",
            {"host": "a", "trafficPolicy": {"tls": {"mode": "MUTUAL", "clientCertificate": "/c"}}},
            "private key required for mutual tls",
        ),
        ("Gateway", {"selector": {"a": "b"}}, "gateway must have at least one server"),
        (
            "Gateway",
            {"servers": [{"port": {"number": 80, "name": "http", "protocol": "NONSENSE"}, "hosts": ["*"]}]},
            'invalid protocol "NONSENSE", supported protocols are HTTP, HTTP2, GRPC, MONGO, REDIS, MYSQL, TCP',
        ),
        (
            "Gateway",
            {"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["short"]}]},
            "short names (non FQDN) are not allowed",
        ),
        (
            "Gateway",
            {"servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"]}]},
            "server must have TLS settings for HTTPS/TLS protocols",
        ),
        (
            "ServiceEntry",
            {"hosts": ["a.b"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC"},
            "endpoints must be provided if service entry resolution mode is static",
        ),
        ("Sidecar", {"egress": [{"hosts": ["nowhere"]}]}, "host must be of form namespace/dnsName"),
    ],
)
def test_other_kinds_of_routing(kind: str, spec: Obj, text: str) -> None:
    assert words(kind, spec) == text


@pytest.mark.parametrize(
    ("kind", "spec", "text"),
    [
        (
            "PeerAuthentication",
            {"portLevelMtls": {"80": {"mode": "STRICT"}}},
            "mesh/namespace peer authentication cannot have port level mTLS",
        ),
        (
            "AuthorizationPolicy",
            {"rules": [{"from": [{}]}]},
            "invalid policy x.bookinfo: `from.source` must not be nil, found at rule 0",
        ),
        (
            "AuthorizationPolicy",
            {"rules": [{"when": [{"key": "no.such", "values": ["1"]}]}]},
            "2 errors occurred:\n"
            "\t* invalid policy x.bookinfo: invalid `value` for `key` no.such: unknown attribute: no.such\n"
            "\t* invalid policy x.bookinfo: invalid `notValue` for `key` no.such: unknown attribute: no.such\n\n",
        ),
        (
            "RequestAuthentication",
            {"jwtRules": [{}]},
            "1 error occurred:\n\t* issuer or jwksUri must be non-empty string\n\n",
        ),
        (
            "Telemetry",
            {"tracing": [{"providers": [{"name": ""}]}]},
            "providers.name may not be empty",
        ),
    ],
)
def test_kinds_of_security_and_telemetry(kind: str, spec: Obj, text: str) -> None:
    assert words(kind, spec, legacy=False) == text


@pytest.mark.parametrize(
    ("endpoints", "text"),
    [
        # A list of none is none.
        ([], ""),
        ([{"address": "10.1.2.3"}], "only one of WorkloadSelector or Endpoints is allowed in Service Entry"),
    ],
)
def test_a_service_entry_selects_or_lists(endpoints: list[Obj], text: str) -> None:
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    chosen = {"workloadSelector": {"labels": {"app": "away"}}, "endpoints": endpoints}
    assert (
        words("ServiceEntry", {"hosts": ["a.b"], "ports": [port], "resolution": "STATIC", **chosen}, legacy=False)
        == text
    )


def test_warnings_let_pass() -> None:
    rules = [{"route": [V1]}, {"route": [V1]}]
    text, warnings = refusal(obj("VirtualService", {"hosts": ["reviews"], "http": rules}), legacy=False)
    assert text == ""
    assert warnings == ["virtualService rule #1 not used (only the last rule can have no matches)"]


def test_a_gateway_named_as_a_host_is_told_how_it_is_read() -> None:
    spec = {"hosts": ["foo.bar"], "gateways": ["gateway.example.com"], "http": [{"route": [V1]}]}
    text, warnings = refusal(obj("VirtualService", spec), legacy=False)
    better = 'prefer the <namespace>/<name> format: "example/gateway"'
    assert (text, warnings) == ("", [f'using legacy gatewayName format "gateway.example.com"; {better}'])


FIELDS = (
    "hosts http match route uri exact prefix regex destination host subset port number weight fault delay "
    "abort percent percentage value fixedDelay httpStatus retries attempts timeout headers request set add "
    "rewrite redirect mirror corsPolicy allowOrigins gateways tls tcp"
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.text("ab*./-%(", max_size=6)
    | st.sampled_from(["1s", "reviews", "v1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS.split(" ")),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(spec=json_values, legacy=st.booleans())
def test_whatever_is_sent_is_refused_in_words_or_can_be_translated(spec: Any, legacy: bool) -> None:
    found = obj("VirtualService", spec)
    if check(found, legacy=legacy).errors:
        assert refusal(found, legacy=legacy)[0]
        return
    snap = snapshot(legacy=legacy, kept={VIRTUAL_SERVICES: [istio("x", spec or {})]})
    assert translate(snap, workload(snap, "productpage-v1")).routes["9080"]


rules = st.fixed_dictionaries(
    {},
    optional={
        "match": st.lists(json_values, max_size=2),
        "route": st.lists(
            st.fixed_dictionaries(
                {"destination": st.fixed_dictionaries({"host": st.sampled_from(["reviews", "no.such", "*"])})}
            ),
            max_size=2,
        ),
        "timeout": st.sampled_from(["1s", "0s", "x"]),
        "redirect": json_values,
        "rewrite": json_values,
        "fault": json_values,
        "retries": json_values,
        "mirror": json_values,
        "headers": json_values,
        "corsPolicy": json_values,
    },
)


@settings(max_examples=300, deadline=None)
@given(rule=rules, legacy=st.booleans())
def test_rules_that_are_nearly_right(rule: Any, legacy: bool) -> None:
    spec = {"hosts": ["reviews"], "http": [rule]}
    found = obj("VirtualService", spec)
    if not check(found, legacy=legacy).errors:
        snap = snapshot(legacy=legacy, kept={VIRTUAL_SERVICES: [istio("x", spec)]})
        assert translate(snap, workload(snap, "productpage-v1")).routes["9080"]


@pytest.mark.parametrize("legacy", [True, False])
def test_names_may_have_capitals_which_kubernetes_own_may_not(legacy: bool) -> None:
    rule = obj("DestinationRule", {"host": "Reviews.Example.com", "subsets": [{"name": "V1", "labels": {"a": "b"}}]})
    assert refusal(rule, legacy=legacy) == ("", [])


def test_a_current_release_tells_durations_as_todays_go() -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    for timeout, said in (
        ("5", 'time: missing unit in duration "5"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
    ):
        spec = {"hosts": ["a"], "http": [{**route, "timeout": timeout}]}
        assert refusal(obj("VirtualService", spec), legacy=False)[0].endswith(f"bad Duration: {said}")
        assert refusal(obj("VirtualService", spec), legacy=True)[0].endswith(f"bad Duration: {said}".replace('"', ""))
