# SPDX-License-Identifier: Apache-2.0
"""Istio 1.2's roles and bindings as the rules that Envoy is given."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.kinds import CLUSTER_RBAC_CONFIGS, POLICIES, RBAC_CONFIGS, SERVICE_ROLE_BINDINGS, SERVICE_ROLES, Kind
from meshbox.mesh.rbac_matchers import whole_request_principal
from meshbox.mesh.service_roles import role_rules
from meshbox.mesh.snapshot import Snapshot

from .objects import istio, snapshot, workload

Obj = dict[str, Any]
HOST = "reviews.bookinfo.svc.cluster.local"
ACCESS: Obj = {"services": [HOST], "methods": ["GET"]}
BY_ORIGIN: Obj = istio(
    "default", {"origins": [{"jwt": {"issuer": "https://a", "jwksUri": "http://a"}}], "principalBinding": "USE_ORIGIN"}
)
USER: Obj = {"user": "cluster.local/ns/bookinfo/sa/x"}


def world(access: Obj = ACCESS, subject: Obj = USER, kind: Kind[Any] = CLUSTER_RBAC_CONFIGS, **more: Any) -> Snapshot:
    binding = {"subjects": [subject], "roleRef": {"kind": "ServiceRole", "name": "r"}, **more.pop("binding", {})}
    policies = more.pop("policies", [])
    config = {"metadata": {"name": "default"}, "spec": {"mode": "ON", **more}}
    if kind == RBAC_CONFIGS:
        config["metadata"]["namespace"] = "istio-system"
    kept: dict[str, list[Obj]] = {
        kind: [config],
        SERVICE_ROLES: [istio("r", {"rules": [access]}), istio("r", {"rules": [{"services": ["*"]}]}, "other")],
        SERVICE_ROLE_BINDINGS: [istio("b", binding)],
        POLICIES: policies,
    }
    return snapshot(legacy=True, kept=kept)


def rules(snap: Snapshot, *, http: bool = True) -> Obj:
    own = workload(snap, "reviews-v1")
    service = snap.services_of[own.namespace, own.pod][0]
    return role_rules(snap, own, (service, service.ports[0]), http=http)


@pytest.mark.parametrize(
    ("config", "on"),
    [
        ({"mode": "OFF"}, False),
        ({"mode": "ON"}, True),
        ({"mode": "ON_WITH_INCLUSION", "inclusion": {"services": [HOST]}}, True),
        ({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["bookinfo"]}}, True),
        ({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["other"]}}, False),
        ({"mode": "ON_WITH_EXCLUSION", "exclusion": {"services": [HOST]}}, False),
        ({"mode": "ON_WITH_EXCLUSION", "exclusion": {"namespaces": ["other"]}}, True),
    ],
)
@pytest.mark.parametrize("kind", [CLUSTER_RBAC_CONFIGS, RBAC_CONFIGS])
def test_where_access_control_is_on(kind: Kind[Any], config: Obj, on: bool) -> None:
    assert bool(rules(world(kind=kind, **config))) is on


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hosts", ["a"]), ("notHosts", ["a"]), ("paths", ["/a"]), ("notPaths", ["/a"]), ("not_paths", ["/a"]),
        ("methods", ["POST"]), ("notMethods", ["POST"]), ("ports", [80]), ("notPorts", [80]), ("services", ["x"]),
        ("constraints", [{"key": "request.headers[x]", "values": ["a"]}]),
        ("constraints", [{"key": "destination.ip", "values": ["10.0.0.0/8"]}]),
        ("constraints", [{"key": "destination.labels[version]", "values": ["v9"]}]),
        ("constraints", [{"key": "destination.namespace", "values": ["other"]}]),
        ("constraints", [{"key": "no.such.key", "values": ["a"]}]),
    ],
)  # fmt: skip
def test_each_field_of_a_role_is_told(field: str, value: Any) -> None:
    assert rules(world({**ACCESS, field: value})) != rules(world())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", "*"), ("names", ["a"]), ("notNames", ["a"]), ("not_names", ["a"]), ("group", "a"), ("groups", ["a"]),
        ("notGroups", ["a"]), ("namespaces", ["a"]), ("notNamespaces", ["a"]), ("ips", ["10.0.0.1"]),
        ("notIps", ["10.0.0.1"]), ("properties", {"source.namespace": "a"}), ("properties", {"source.ip": "10.0.0.1"}),
        ("properties", {"request.auth.claims[a]": "b"}), ("properties", {"request.auth.principal": "a"}),
    ],
)  # fmt: skip
def test_each_field_of_a_subject_is_told(field: str, value: Any) -> None:
    assert rules(world(subject={**USER, field: value})) != rules(world())


def test_an_origins_principal_is_one_text() -> None:
    snap = world(subject={"properties": {"request.auth.principal": "https://a/*"}}, policies=[BY_ORIGIN])
    (made,) = granted(rules(snap)).values()
    (asked,) = made["principals"][0]["and_ids"]["ids"][1:]
    assert asked == {"or_ids": {"ids": [whole_request_principal("https://a/*")]}}


def granted(made: Obj) -> Obj:
    found: Obj = made["rules"]["policies"]
    return found


def test_whoever_is_not_named_gets_nothing() -> None:
    assert granted(rules(world())) != {}
    for snap in (
        world(subject={}),
        world({**ACCESS, "constraints": [{"key": "destination.labels[version]", "values": ["v9"]}]}),
        world(binding={"roleRef": {"kind": "ServiceRole", "name": "another"}}),
        world({**ACCESS, "constraints": [{"key": "no.such.key", "values": ["a"]}]}),
    ):
        assert granted(rules(snap)) == {}
    # A role that asks for methods grants no plain connection.
    assert granted(rules(world(), http=False)) == {}
    assert granted(rules(world({"services": ["*"]}), http=False)) != {}


def test_what_is_only_tried_out_stands_among_the_shadow_rules() -> None:
    made = rules(world(binding={"mode": "PERMISSIVE"}))
    assert granted(made) == {}
    assert made["shadow_rules"]["policies"]
    everything = rules(world(enforcement_mode="PERMISSIVE"))
    assert "rules" not in everything
    assert everything["shadow_rules"]["policies"]
