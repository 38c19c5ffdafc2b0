# SPDX-License-Identifier: Apache-2.0
"""Istio's objects as the console creates, changes and deletes them, as far as the pod's account may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.images.kiali_world import kiali, meta, to, virtual_service
from tests.images.test_kiali_api import get

ALL = {"create": True, "update": True, "delete": True}
NONE = dict.fromkeys(ALL, False)


def post(url: str, content: Any) -> tuple[int, Any]:
    return get(url, "POST", json.dumps(content).encode())


@pytest.mark.parametrize(
    ("plural", "kind", "base"),
    [
        ("virtualservices", "VirtualService", "networking.istio.io/v1alpha3"),
        ("destinationrules", "DestinationRule", "networking.istio.io/v1alpha3"),
        ("gateways", "Gateway", "networking.istio.io/v1alpha3"),
        ("sidecars", "Sidecar", "networking.istio.io/v1alpha3"),
        ("authorizationpolicies", "AuthorizationPolicy", "security.istio.io/v1beta1"),
        ("peerauthentications", "PeerAuthentication", "security.istio.io/v1beta1"),
        ("requestauthentications", "RequestAuthentication", "security.istio.io/v1beta1"),
    ],
)
def test_what_is_created_gets_its_kind_from_the_path(api, world, plural, kind, base):
    sent = {"metadata": {"name": "a", "namespace": "bookinfo"}, "spec": {"some": None}}
    status, found = post(f"{api}/namespaces/bookinfo/istio/{plural}", sent)
    made = sent | {"apiVersion": base, "kind": kind}
    assert status == 200
    assert world.created == [(f"/apis/{base}/namespaces/bookinfo/{plural}", made)]
    assert (found["objectType"], found["permissions"]) == (plural, ALL)
    assert found[kind[0].lower() + kind[1:]] == made


def test_what_cannot_be_created(api, world):
    where = f"{api}/namespaces/bookinfo/istio"
    assert post(f"{where}/pods", {}) == (400, {"error": "Object type not managed: pods"})
    assert get(f"{where}/gateways", "POST", b"{")[0] == 400
    assert get(f"{where}/gateways", "POST", b"[1]")[0] == 400
    # The API server here has no such kind.
    assert post(f"{where}/envoyfilters", {})[0] == 404
    assert get(f"{where}/gateways", "POST", b"{}", Origin="http://evil.example")[0] == 403
    assert world.created == []


def test_deleting(api, world):
    url = f"{api}/namespaces/bookinfo/istio/virtualservices/reviews"
    assert get(url, "DELETE") == (200, {})
    assert world.deleted == ["/apis/networking.istio.io/v1alpha3/namespaces/bookinfo/virtualservices/reviews"]
    assert get(f"{api}/namespaces/bookinfo/istio/pods/reviews", "DELETE")[0] == 400
    assert get(f"{api}/namespaces/bookinfo/istio/gateways/..", "DELETE")[0] == 404
    assert len(world.deleted) == 1


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (None, NONE),
        ([], NONE),
        ([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}], NONE),
        ([{"apiGroups": ["networking.istio.io"], "resources": ["*"], "verbs": ["*"]}], ALL),
        ([{"apiGroups": ["security.istio.io"], "resources": ["*"], "verbs": ["*"]}], NONE),
        (
            [{"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["patch"]}],
            NONE | {"update": True},
        ),
        (
            [
                {"apiGroups": ["networking.istio.io"], "resources": ["*"], "verbs": ["create"]},
                {"apiGroups": ["*"], "resources": ["virtualservices"], "verbs": ["delete"]},
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["patch"], "resourceNames": ["reviews"]},
            ],
            ALL | {"update": False},
        ),
    ],
)
def test_the_console_is_told_what_the_account_may(api, world, rules, expected):
    world.rules = rules
    world.istio = {"virtualservices": [virtual_service("reviews", to("reviews"))]}
    listed = get(f"{api}/namespaces/bookinfo/istio")[1]
    assert listed["permissions"]["virtualservices"] == expected
    assert listed["virtualServices"]["permissions"] == expected
    assert get(f"{api}/namespaces/bookinfo/istio/virtualservices/reviews")[1]["permissions"] == expected
    assert get(f"{api}/namespaces/bookinfo/services/reviews")[1]["virtualServices"]["permissions"] == expected
    asked = get(f"{api}/istio/permissions?namespaces=bookinfo")[1]
    assert asked["bookinfo"]["virtualservices"] == expected


def test_a_kiali_for_looking_only(world):
    world.istio = {"gateways": [{"metadata": meta("web"), "spec": {"servers": []}}]}
    with kiali(world, view_only=True) as address:
        api = f"{address}/kiali/api"
        assert get(f"{api}/namespaces/bookinfo/istio/gateways/web")[1]["permissions"] == NONE
        assert get(f"{api}/istio/permissions?namespaces=bookinfo")[1]["bookinfo"]["gateways"] == NONE


@pytest.mark.parametrize(
    ("rules", "offered"),
    [(None, False), ([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}], True)],
)
def test_sidecars_are_switched_where_the_account_may(api, world, rules, offered):
    world.rules = rules
    assert get(f"{api}/config")[1]["kialiFeatureFlags"]["istioInjectionAction"] is offered


def test_switching_sidecars(api, world):
    label = {"metadata": {"labels": {"istio-injection": "enabled"}}}
    mark = {"spec": {"template": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}}}
    assert get(f"{api}/namespaces/bookinfo", "PATCH", json.dumps(label).encode())[0] == 200
    url = f"{api}/namespaces/bookinfo/workloads/reviews-v1"
    status, found = get(f"{url}?type=Deployment", "PATCH", json.dumps(mark).encode())
    assert (status, found["name"]) == (200, "reviews-v1")
    deployment = "/apis/apps/v1/namespaces/bookinfo/deployments/reviews-v1"
    assert world.patches == [("/api/v1/namespaces/bookinfo", label), (deployment, mark)]
    assert get(f"{url}?type=Job", "PATCH", b"{}") == (400, {"error": "Workload type not managed: Job"})


def test_what_a_workload_says_of_its_own_sidecar(api, world):
    made = world.objects()
    template = made["/apis/apps/v1/deployments"][0]["spec"]["template"]["metadata"]
    template["annotations"] = {"sidecar.istio.io/inject": "false"}
    world.objects = lambda: made
    found = get(f"{api}/namespaces/bookinfo/workloads")[1]["workloads"]
    assert {one["name"]: one["istioInjectionAnnotation"] for one in found if "istioInjectionAnnotation" in one} == {
        "productpage-v1": False
    }
