# SPDX-License-Identifier: Apache-2.0
"""ListenerSets: who may add listeners to a Gateway, what comes of them, and what every status says of it."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.gateway_api.attachment import Attached, Denied, attach
from meshbox.mesh.gateway_api.classes import Classes
from meshbox.mesh.gateway_api.listener_sets import Added, added
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.gateway_api.tls import Around
from meshbox.mesh.kinds import HTTP_ROUTES, KUBERNETES_GATEWAYS, LISTENER_SETS, NAMESPACES

from .istiod import HOST, Istiod
from .test_gateway_api_listeners import grant, said

Obj = dict[str, Any]

SPACES: dict[str, dict[str, str]] = {"bookinfo": {"team": "books"}, "library": {"team": "books"}, "other": {}}
BOOKS = {"matchLabels": {"team": "books"}}
NOT_ALLOWED = "The parent Gateway does not allow this reference; check the 'spec.allowedRoutes'"
PENDING = f'address pending for hostname "{HOST}"'


def gateway(allowed: Obj | None, of_class: str = "istio", **spec: Any) -> Obj:
    listeners = [{"name": "web", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": of_class, "listeners": listeners, **spec}
    if allowed is not None:
        spec["allowedListeners"] = allowed
    return {"metadata": {"name": "gw", "namespace": "bookinfo"}, "spec": spec}


def listener_set(*listeners: Obj, namespace: str = "library", **parent: Any) -> Obj:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ListenerSet",
        "metadata": {"name": "more", "namespace": namespace},
        "spec": {
            "parentRef": {"name": "gw", "namespace": "bookinfo", **parent},
            "listeners": list(listeners) or [{"name": "extra", "port": 8080, "protocol": "HTTP"}],
        },
    }


def taken(one: Obj, parent: Obj, around: Around | None = None) -> Added | None:
    meta = parent["metadata"]
    around = around or Around(namespaces=SPACES)
    return added(one, {(meta["namespace"], meta["name"]): parent}, Classes(()), around)


@pytest.mark.parametrize(
    ("allowed", "namespaces"),
    [
        (None, ""),
        ({}, ""),
        ({"namespaces": {"from": "None"}}, ""),
        ({"namespaces": {"from": "Same"}}, "bookinfo"),
        ({"namespaces": {"from": "All"}}, "bookinfo library other"),
        ({"namespaces": {"from": "Selector", "selector": BOOKS}}, "bookinfo library"),
        ({"namespaces": {"from": "Selector"}}, ""),
        ({"namespaces": {"selector": BOOKS}}, "bookinfo library"),
        ({"namespaces": {"selector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}}, "other"),
        ({"namespaces": {"from": "Anything"}}, ""),
    ],
)
def test_a_gateway_says_whose_listeners_it_takes(allowed: Obj | None, namespaces: str) -> None:
    found = {}
    for namespace in SPACES:
        one = taken(listener_set(namespace=namespace), gateway(allowed))
        assert one is not None
        assert len(one.listeners) == (not one.refused)
        found[namespace] = one.refused
    assert found == {name: "" if name in namespaces.split() else NOT_ALLOWED for name in SPACES}


@pytest.mark.parametrize(
    ("parent", "of_class", "refused"),
    [
        ({}, "istio", ""),
        ({}, "istio-remote", 'The "istio-remote" GatewayClass does not support ListenerSet'),
        ({}, "nginx", None),
        ({"name": "another"}, "istio", None),
        ({"kind": "Service"}, "istio", None),
        ({"group": "networking.istio.io"}, "istio", None),
    ],
)
def test_only_gateways_that_istio_plays_are_spoken_of(parent: Obj, of_class: str, refused: str | None) -> None:
    found = taken(listener_set(**parent), gateway({"namespaces": {"from": "All"}}, of_class))
    assert (found and found.refused) == refused


def test_what_a_set_names_is_in_its_own_namespace_and_granted_to_it(pair: Obj) -> None:
    def resolved(reference: Obj, *grants: Obj) -> tuple[str, bool]:
        secrets: dict[tuple[str, str], Obj] = {(name, "shop"): {"data": pair} for name in ("library", "other")}
        tls = {"mode": "Terminate", "certificateRefs": [reference]}
        one = listener_set({"name": "safe", "port": 443, "protocol": "HTTPS", "tls": tls})
        found = taken(one, gateway({"namespaces": {"from": "All"}}), Around(grants, secrets, {}, SPACES))
        assert found is not None
        (only,) = found.listeners
        return said(only)["ResolvedRefs"]

    elsewhere = {"name": "shop", "namespace": "other"}
    assert resolved({"name": "shop"}) == ("ResolvedRefs", True)
    assert resolved(elsewhere) == ("RefNotPermitted", False)
    assert resolved(elsewhere, grant("other", of="library")) == ("RefNotPermitted", False), "it is no Gateway"
    assert resolved(elsewhere, grant("other", of="bookinfo")) == ("RefNotPermitted", False), "the parent's is not its"
    assert resolved(elsewhere, grant("other", of="library", who="ListenerSet")) == ("ResolvedRefs", True)


def test_routes_name_the_set_whose_listener_they_want() -> None:
    def at(kind: str, namespace: str, section: str, hostname: str = "") -> Listener:
        return Listener(namespace, "gw", section, 80, "HTTP", hostname, kind=kind, allowed_from="All")

    every = [
        at("Gateway", "bookinfo", "web"),
        at("ListenerSet", "bookinfo", "web", "a.test"),
        at("ListenerSet", "library", "web"),
    ]

    def attached(**ref: Any) -> Any:
        route = {
            "kind": "HTTPRoute",
            "metadata": {"namespace": "bookinfo"},
            "spec": {"hostnames": ["a.test", "b.test"]},
        }
        found = attach(route, {"name": "gw", **ref}, every, SPACES)
        if isinstance(found, Denied):
            return found.message
        return [(one.kind, one.namespace, hosts) for one, hosts in found.listeners]

    # What a set takes of a hostname is no listener less of the Gateway's, nor of another set's.
    assert attached() == [("Gateway", "bookinfo", ("a.test", "b.test"))]
    assert attached(kind="ListenerSet") == [("ListenerSet", "bookinfo", ("a.test",))]
    assert attached(kind="ListenerSet", namespace="library") == [("ListenerSet", "library", ("a.test", "b.test"))]
    assert attached(kind="ListenerSet", sectionName="other") == 'sectionName "other" not found'
    assert attached(kind="ListenerSet", name="none") == ""
    assert isinstance(attach({"kind": "HTTPRoute", "metadata": {"namespace": "x"}}, {"name": "gw"}, [], {}), Denied)
    assert Attached(((every[0], ("x",)),)).hostnames == ("x",)


def put(istiod: Istiod, *listeners: Obj, namespace: str = "library") -> None:
    istiod.cluster.put(LISTENER_SETS, listener_set(*listeners, namespace=namespace))


def status(istiod: Istiod, namespace: str = "library") -> Obj:
    found: Obj = istiod.cluster.get(LISTENER_SETS, "more", namespace).get("status") or {}
    return found


def words(found: Obj) -> dict[str, tuple[str, str, str]]:
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found.get("conditions") or []}


def ports(istiod: Istiod) -> list[tuple[str, int, str]]:
    spec = istiod.found("services").get("spec") or {}
    return [(one["name"], one["port"], one["appProtocol"]) for one in spec.get("ports") or []]


@pytest.fixture
def spaces(istiod: Istiod) -> Istiod:
    """Three namespaces, two of them with books."""
    for name, labels in SPACES.items():
        istiod.cluster.put(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    return istiod


async def test_a_set_is_programmed_at_the_service_of_its_gateway(spaces: Istiod) -> None:
    istiod = spaces
    istiod.gateway(allowedListeners={"namespaces": {"from": "Selector", "selector": BOOKS}})
    await istiod.deployed()
    own = [("status-port", 15021, "tcp"), ("web", 80, "http")]
    assert ports(istiod) == own
    put(istiod, {"name": "a.shop", "port": 8080, "protocol": "HTTP"}, {"name": "b", "port": 80, "protocol": "HTTP"})
    put(istiod, {"name": "c", "port": 9090, "protocol": "HTTP"}, namespace="other")
    await istiod.until(lambda: len(ports(istiod)) == 3, "its port")
    assert ports(istiod) == [*own, ("a-shop", 8080, "http")]
    wanted = f"Assigned to service(s) {HOST}:80 and {HOST}:8080, but failed to assign to all requested addresses: "
    at = ("False", "AddressNotAssigned", wanted + PENDING)
    await istiod.until(lambda: words(status(istiod)).get("Programmed") == at, "an address that is not there yet")
    istiod.balance()
    at = ("True", "Programmed", f"Resource programmed, assigned to service(s) {HOST}:80 and {HOST}:8080")
    await istiod.until(lambda: words(status(istiod)).get("Programmed") == at, "the address")
    assert words(status(istiod))["Accepted"] == ("True", "Accepted", "Resource accepted")
    names = [(one["name"], one["attachedRoutes"], len(one["conditions"])) for one in status(istiod)["listeners"]]
    assert names == [("a.shop", 0, 4), ("b", 0, 4)]
    refused = ("False", "NotAllowed", NOT_ALLOWED)
    await istiod.until(lambda: words(status(istiod, "other")).get("Programmed") == refused, "the refusal")
    assert words(status(istiod, "other"))["Accepted"] == refused
    assert "listeners" not in status(istiod, "other")

    def counted() -> Any:
        return istiod.found(KUBERNETES_GATEWAYS, "gw")["status"].get("attachedListenerSets")

    await istiod.until(lambda: counted() == 2, "Istio counts the listeners of the sets that are taken")
    assert istiod.condition("Programmed") == at
    istiod.cluster.delete(LISTENER_SETS, "more", "library")
    await istiod.until(lambda: ports(istiod) == own, "the port to be gone")
    at = ("True", "Programmed", f"Resource programmed, assigned to service(s) {HOST}:80")
    await istiod.until(lambda: istiod.condition("Programmed") == at, "the Gateway without it")


async def test_a_set_at_a_port_that_its_service_has_not(spaces: Istiod) -> None:
    istiod = spaces
    service = {"selector": {"app": "gw"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]}
    istiod.cluster.put("services", {"metadata": {"name": "door", "namespace": "bookinfo"}, "spec": service})
    addresses = [{"type": "Hostname", "value": "door"}]
    istiod.gateway(addresses=addresses, allowedListeners={"namespaces": {"from": "All"}})
    put(istiod)
    host = "door.bookinfo.svc.cluster.local"
    hint = "hint: the service port should be specified, not the workload port. Did you mean one of these ports: [80]?"
    missing = f'port 8080 not found for hostname "{host}" ({hint})'
    at = ("False", "AddressNotUsable", f"Failed to assign to any requested addresses: {missing}")
    await istiod.until(lambda: words(status(istiod)).get("Programmed") == at, "the set to say so")
    both = f"Assigned to service(s) {host}:80, but failed to assign to all requested addresses: {missing}"
    gateways = ("False", "AddressNotUsable", both)
    await istiod.until(lambda: istiod.condition("Programmed") == gateways, "its Gateway to say so too")


async def test_a_listener_whose_name_a_port_has_already(spaces: Istiod) -> None:
    """A Service's ports have different names, and nobody asks that of the listeners of two objects."""
    istiod = spaces
    istiod.gateway(allowedListeners={"namespaces": {"from": "All"}})
    await istiod.deployed()
    istiod.balance()
    put(istiod, {"name": "web", "port": 8080, "protocol": "HTTP"})
    await istiod.until(lambda: istiod.cluster.warnings("gw"), "a warning")
    assert 'spec.ports[2].name: Duplicate value: "web"' in istiod.cluster.warnings("gw")[0]
    assert ports(istiod) == [("status-port", 15021, "tcp"), ("web", 80, "http")]
    missing = f'port 8080 not found for hostname "{HOST}"'
    at = ("False", "AddressNotUsable", f"Failed to assign to any requested addresses: {missing}")
    await istiod.until(lambda: words(status(istiod)).get("Programmed") == at, "the set to say so")
    put(istiod, {"name": "other", "port": 8080, "protocol": "HTTP"})
    at = ("True", "Programmed", f"Resource programmed, assigned to service(s) {HOST}:8080")
    await istiod.until(lambda: words(status(istiod)).get("Programmed") == at, "the other name to be taken")


async def test_a_set_of_a_gateway_that_is_nowhere(spaces: Istiod) -> None:
    istiod = spaces
    addresses = [{"type": "example.com/custom", "value": "0.0.0.0"}]
    istiod.gateway(addresses=addresses, allowedListeners={"namespaces": {"from": "All"}})
    put(istiod)
    why = "Parent not accepted: only Hostname is supported, ignoring [0.0.0.0]"
    at = ("False", "UnsupportedAddress", why)
    await istiod.until(lambda: words(status(istiod)).get("Accepted") == at, "its parent's fault")
    at = ("False", "UnsupportedAddress", "Failed to assign to any requested addresses")
    assert words(status(istiod))["Programmed"] == at


async def test_a_route_at_a_set(spaces: Istiod) -> None:
    istiod = spaces
    istiod.gateway(allowedListeners={"namespaces": {"from": "All"}})
    put(istiod)
    ref = {"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": "more"}
    spec = {"parentRefs": [ref], "rules": [{"filters": [{"type": "RequestRedirect", "requestRedirect": {"port": 1}}]}]}
    meta = {"name": "route", "namespace": "library"}
    istiod.cluster.put(HTTP_ROUTES, {"kind": "HTTPRoute", "metadata": meta, "spec": spec})

    def parents() -> list[Obj]:
        found = istiod.cluster.get(HTTP_ROUTES, "route", "library").get("status") or {}
        return found.get("parents") or []

    (parent,) = await istiod.until(parents, "its status")
    assert parent["parentRef"] == ref
    assert words(parent)["Accepted"] == ("True", "Accepted", "Route was valid")
    await istiod.until(lambda: status(istiod).get("listeners"), "the set's status")
    assert status(istiod)["listeners"][0]["attachedRoutes"] == 0, "Istio counts at Gateways only"
