# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicies as the rules that Envoy is given."""

from __future__ import annotations

import re
from typing import Any

import pytest

from meshbox.mesh.authorization import network_filters
from meshbox.mesh.istio_validation import check

from .objects import istio, snapshot

Obj = dict[str, Any]

SHOP = "spiffe://shop.example.org/ns/a/sa/b"
OTHER = "spiffe://other.org/ns/a/sa/b"
SHOP_ABROAD = "spiffe://shop.example.org.evil/ns/a/sa/b"


def rule_of(rule: Obj) -> Obj:
    """What is asked of a connection's caller by a policy with this one rule."""
    snap = snapshot(authorization_policies=[istio("p", {"rules": [rule]})])
    workload = snap.workloads["bookinfo", "reviews-v1"]
    (made,) = network_filters(snap, workload)
    (policy,) = made["typed_config"]["rules"]["policies"].values()
    (found,) = policy["principals"]
    return dict(found)


def holds(rule: Obj, caller: str) -> bool:
    """Whether a rule of Envoy's holds for an identity."""
    ((key, inner),) = rule.items()
    if key == "any":
        return True
    if key in ("and_ids", "or_ids"):
        return (all if key == "and_ids" else any)(holds(one, caller) for one in inner["ids"])
    if key == "not_id":
        return not holds(inner, caller)
    assert key == "authenticated"
    ((kind, value),) = inner["principal_name"].items()
    if kind == "safe_regex":
        return re.fullmatch(value["regex"], caller) is not None
    assert kind == "exact"
    return bool(caller == value)


def refused(kind: str, spec: Obj) -> list[str]:
    obj = {"kind": kind, "metadata": {"name": "x", "namespace": "bookinfo"}, "spec": spec}
    return check(obj, legacy=False).errors


def test_what_1_30_added_is_taken() -> None:
    spec = {
        "rules": [
            {"from": [{"source": {"trustDomains": ["cluster.local"]}}]},
            {"from": [{"source": {"notTrustDomains": ["other.org"]}}]},
            {"when": [{"key": "source.trustDomain", "values": ["cluster.local"]}]},
        ]
    }
    assert refused("AuthorizationPolicy", spec) == []
    tls = {"mode": "MUTUAL", "credentialName": "shop", "caCertCredentialName": "clients"}
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example.com"], "tls": tls}
    assert refused("Gateway", {"servers": [server]}) == []


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ({"from": [{"source": {"trustDomains": ["shop.example.org"]}}]}, [SHOP]),
        ({"from": [{"source": {"trustDomains": ["shop.*"]}}]}, [SHOP, SHOP_ABROAD]),
        ({"from": [{"source": {"trustDomains": ["*.org"]}}]}, [SHOP, OTHER]),
        ({"from": [{"source": {"trustDomains": ["*"]}}]}, [SHOP, OTHER, SHOP_ABROAD]),
        ({"from": [{"source": {"notTrustDomains": ["shop.example.org"]}}]}, [OTHER, SHOP_ABROAD]),
        ({"when": [{"key": "source.trustDomain", "values": ["other.org"]}]}, [OTHER]),
        ({"when": [{"key": "source.trustDomain", "notValues": ["other.org"]}]}, [SHOP, SHOP_ABROAD]),
        ({"from": [{"source": {"principals": ["other.org/ns/a/sa/b"], "trustDomains": ["*.org"]}}]}, [OTHER]),
    ],
)
def test_a_trust_domain_is_what_stands_first_in_an_identity(rule: Obj, taken: list[str]) -> None:
    made = rule_of(rule)
    assert [caller for caller in (SHOP, OTHER, SHOP_ABROAD) if holds(made, caller)] == taken
