# SPDX-License-Identifier: Apache-2.0
"""Every field of Istio's objects is played, refused, or said not to be played: never silence.

A field is played where a change of it changes what some proxy is told.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.mesh import jwks, security_notices
from meshbox.mesh import unplayed as table
from meshbox.mesh.attachment import GATEWAY_NAME
from meshbox.mesh.istio_validation import check
from meshbox.mesh.istio_validation.fields import messages
from meshbox.mesh.kinds import CLUSTER_RBAC_CONFIGS, SERVICE_ROLE_BINDINGS, SERVICE_ROLES
from meshbox.mesh.locality import LABEL
from meshbox.mesh.translate import translate
from tools import generate_typed_istio
from tools.generate_typed_istio import CRDS

from .objects import istio, pod, service, snapshot

Obj = dict[str, Any]
Place = tuple[str | int, ...]

HERE = Path(__file__).parent
EXAMPLES: dict[bool, dict[str, list[Obj]]] = {
    legacy: yaml.load((HERE / f"every_field{name}.yaml").read_text(), yaml.CSafeLoader)
    for legacy, name in ((False, ""), (True, "_1_2"))
}
MESH = """
accessLogFile: /dev/stdout
enableTracing: true
defaultConfig: {tracing: {sampling: 11, zipkin: {address: zipkin.istio-system:9411}}}
extensionProviders:
- {name: spans, zipkin: {service: spans.istio-system.svc.cluster.local, port: 9411}}
- {name: asked, envoyExtAuthzHttp: {service: spans.istio-system.svc.cluster.local, port: 9411}}
"""
KEYS = {f"https://{name}.example": f'{{"keys": ["{name}"]}}' for name in "ab"}
FOR_PEOPLE = {"Sidecar": ("ingress[].port.name", "egress[].port.name")}
"""Names that Istio's proxies are not told either: whoever gives one asks for nothing."""


schemas = generate_typed_istio.schemas


def resource_of(kind: str) -> str:
    groups = {
        "Telemetry": "telemetry.istio.io",
        "TrafficExtension": "extensions.istio.io",
        "Policy": "authentication.istio.io",
        **dict.fromkeys(("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"), "security.istio.io"),
    }
    plural = f"{kind[:-1]}ies" if kind.endswith("y") and kind != "Gateway" else f"{kind}s"
    return f"{plural.lower()}.{groups.get(kind, 'networking.istio.io')}"


def told(kind: str, spec: Obj, *, legacy: bool) -> object:
    """What the proxies of a small mesh are told where there is this object, and what is fetched for them."""
    objects = [istio("one", copy.deepcopy(spec), namespace="bookinfo")]
    if kind == "VirtualService":
        routes = [{"route": [{"destination": {"host": "reviews.bookinfo.svc.cluster.local"}}]}]
        objects.append(istio("part", {"http": routes}, namespace="library"))
    kept = {resource_of(kind): objects}
    subsets = [{"name": "v1", "labels": {"version": "v1"}}]
    if kind != "DestinationRule":
        mutual = {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}} if legacy else {}
        kept[resource_of("DestinationRule")] = [
            istio("reviews", {"host": "reviews", "subsets": subsets}),
            istio("api", {"host": "api.example", "subsets": subsets, **mutual}),
        ]
    if kind != "ServiceEntry":
        secure = {
            "hosts": ["secure.example"],
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
            "resolution": "DNS",
        }
        kept[resource_of("ServiceEntry")] = [istio("secure", secure)]
    if kind == "VirtualService":
        server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        kept[resource_of("Gateway")] = [istio("web", {"selector": {"istio": "ingressgateway"}, "servers": [server]})]
    if kind == "Gateway":
        route = {
            "hosts": ["shop.example"],
            "gateways": ["one"],
            "http": [{"route": [{"destination": {"host": "reviews"}}]}],
        }
        kept[resource_of("VirtualService")] = [istio("shop", route)]
    if kind == "DestinationRule":
        target = {"destination": {"host": "store", "subset": "v1"}}
        kept[resource_of("VirtualService")] = [istio("store", {"hosts": ["store"], "tcp": [{"route": [target]}]})]
    if kind == "WorkloadEntry":
        machines = {
            "hosts": ["machines.example"],
            "ports": [{"number": 9443, "name": "api", "protocol": "TCP"}],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"app": "machine"}},
        }
        kept[resource_of("ServiceEntry")].append(istio("machines", machines))
    if kind == "TrafficExtension":
        objects.append(
            istio("two", {"priority": 2, "phase": "AUTHN", "lua": {"inlineCode": "y = 2"}}, namespace="bookinfo")
        )
    if kind == "Policy":
        subject = {"properties": {"request.auth.principal": "a"}}
        binding = {"subjects": [subject], "roleRef": {"kind": "ServiceRole", "name": "role"}}
        kept[CLUSTER_RBAC_CONFIGS] = [istio("default", {"mode": "ON"})]
        kept[SERVICE_ROLES] = [istio("role", {"rules": [{"services": ["*"]}]})]
        kept[SERVICE_ROLE_BINDINGS] = [istio("binding", binding)]
    # A caller at a/z, and reviews near it and far from it.
    others = [
        pod("mongo-v1", "127.99.64.20", ports=(27017,), version="v1", **{LABEL: "a.z"}),
        pod("library-v1", "127.99.64.21", namespace="library", version="v1"),
        pod("ingress-v1", "127.99.64.22", role="router", istio="ingressgateway"),
    ]
    if kind == "DestinationRule":
        others += [
            pod(f"reviews-{place}", f"127.99.64.{number}", app="reviews", version="v1", **{LABEL: f"{place}.z"})
            for number, place in enumerate("abc", 30)
        ]
    if "targetRefs" in spec or "targetRef" in spec:
        server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        kept[resource_of("Gateway")] = [istio("a", {"selector": {GATEWAY_NAME: "a"}, "servers": [server]})]
        others.append(pod("a-istio", "127.99.64.23", role="router", **{GATEWAY_NAME: "a"}))
    credential = {"tls.crt": "YQ==", "tls.key": "YQ==", "ca.crt": "YQ=="}
    secret = {"metadata": {"name": "credential", "namespace": "bookinfo"}, "data": credential}
    zipkins = [service(name, ("http", 9411), namespace="istio-system") for name in ("zipkin", "spans")]
    snap = snapshot(
        legacy=legacy,
        mesh=MESH,
        kept=kept,
        keys=KEYS,
        services=[service("mongo", ("tcp-mongo", 27017)), service("store", ("tcp-store", 27018)), *zipkins],
        pods=others,
        secrets=[secret],
    )
    fetched = {place: source.wait for place, source in jwks._wanted(snap).items()}
    return {key: translate(snap, workload) for key, workload in snap.workloads.items()}, fetched


def fields(schema: Obj, path: str = "") -> Iterator[str]:
    """The paths of a schema's fields, innermost only, as the table writes them."""
    if schema.get("properties"):
        for name, inner in schema["properties"].items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    elif schema.get("type") == "array" and schema["items"].get("properties"):
        yield from fields(schema["items"], f"{path}[]")
    elif isinstance(schema.get("additionalProperties"), dict) and schema["additionalProperties"].get("properties"):
        yield from fields(schema["additionalProperties"], f"{path}{{}}")
    else:
        yield path


def old_fields(message: str, path: str = "") -> Iterator[str]:
    """The same for a message of Istio 1.2, whose CRDs had no schemas."""
    for name, kind in messages(legacy=True)[message].items():
        inner = f"{path}.{name}" if path else name
        inner += {"*": "[]", "%": "{}"}.get(kind[0], "") if kind[1:] in messages() else ""
        if kind.lstrip("*%") in messages():
            yield from old_fields(kind.lstrip("*%"), inner)
        else:
            yield inner


def places(value: Any, path: str, place: Place = ()) -> Iterator[Place]:
    """Where in `value` the field at `path` is set."""
    if not path:
        yield place
    elif path.startswith("[]"):
        for index, one in enumerate(value if isinstance(value, list) else ()):
            yield from places(one, path[2:].removeprefix("."), (*place, index))
    elif path.startswith("{}"):
        for key in value if isinstance(value, dict) else ():
            yield from places(value[key], path[2:].removeprefix("."), (*place, key))
    else:
        end = next((n for n, sign in enumerate(path) if sign in ".[{"), len(path))
        if isinstance(value, dict) and path[:end] in value:
            yield from places(value[path[:end]], path[end:].removeprefix("."), (*place, path[:end]))


def changes(spec: Obj, place: Place) -> Iterator[Obj]:
    """The object without the field at `place`, and with other values there."""
    for value in (None, *others(reached(spec, place))):
        changed = copy.deepcopy(spec)
        inner = reached(changed, place[:-1])
        if value is None:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        yield changed
    yield from swapped(spec, place)


def swapped(spec: Obj, place: Place) -> Iterator[Obj]:
    """The object with the field of one element of a list and the next one's exchanged: what must add up still does."""
    at = next((n for n in reversed(range(len(place))) if isinstance(place[n], int)), None)
    if at is None:
        return
    next_place = (*place[:at], int(place[at]) + 1, *place[at + 1 :])
    with contextlib.suppress(LookupError):
        other, changed = reached(spec, next_place), copy.deepcopy(spec)
        reached(changed, next_place[:-1])[next_place[-1]] = reached(spec, place)
        reached(changed, place[:-1])[place[-1]] = other
        yield changed


def others(value: Any) -> list[Any]:
    """Values that may stand in place of one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value + 4]
    if isinstance(value, list):
        return [value[1:], *([*value[:-1], one] for one in others(value[-1]))]
    if isinstance(value, dict):
        exchanged = dict(zip(value, reversed(value.values()), strict=True))
        return [exchanged, *({**value, key: one} for key in value for one in others(value[key]))]
    other = {"HTTPS": "TLS", "TCP": "HTTP", "CONNECT": "POST"}.get(value, value)
    return [f"{value}x", f"{value}1", value[:-1], f"1{value}", "b".join(value.rsplit("a", 1)), other]


def problems(kind: str, spec: Obj, *, legacy: bool) -> list[str]:
    meta = {"name": "one", "namespace": "bookinfo"}
    return check({"kind": kind, "metadata": meta, "spec": spec}, legacy=legacy).errors


def plays(kind: str, spec: Obj, path: str, before: object, *, legacy: bool) -> bool:
    for place in places(spec, path):
        for changed in changes(spec, place):
            if not problems(kind, changed, legacy=legacy) and told(kind, changed, legacy=legacy) != before:
                return True
    return False


def refuses(kind: str, spec: Obj, path: str, *, legacy: bool) -> bool:
    errors = problems(kind, spec, legacy=legacy)
    return any(
        len(problems(kind, next(changes(spec, place)), legacy=legacy)) < len(errors) for place in places(spec, path)
    )


def noticed(kind: str, spec: Obj, path: str) -> bool:
    """Whether what is said of a policy's or a rule's meaning depends on the field."""
    before = notices(kind, spec)
    return any(notices(kind, changed) != before for place in places(spec, path) for changed in changes(spec, place))


def notices(kind: str, spec: Obj) -> list[str]:
    return list(security_notices.unplayed(resource_of(kind), {"metadata": {"name": "one"}, "spec": spec}))


def said(kind: str, path: str, examples: list[Obj], *, legacy: bool) -> bool:
    """Whether the table has the field, or what it is in, or the value that an example gives it."""
    for written in table.TABLES[legacy].get(kind, {}):
        for one in table._alternatives(written) if not written.startswith("@") else ():
            name, conditional, wanted = one.removesuffix("?").partition("=")
            if not conditional and (path == name or path.startswith((f"{name}.", f"{name}[", f"{name}{{"))):
                return True
            if conditional and path == name:
                given = (reached(spec, place) for spec in examples for place in places(spec, path))
                return any(fnmatchcase(str(value), wanted) for value in given)
    return False


def reached(spec: Any, place: Place) -> Any:
    return functools.reduce(lambda inner, step: inner[step], place, spec)


SHARES = {"DestinationRule": 8, "VirtualService": 5, "Sidecar": 2}
"""Each change of a field is a mesh of its own: the kinds with most fields are asked in as many tests, evenly long."""
CASES = [
    (kind, legacy, share)
    for legacy in (False, True)
    for kind in EXAMPLES[legacy]
    for share in range(SHARES.get(kind, 1))
]


@pytest.mark.parametrize(("kind", "legacy", "share"), CASES)
def test_every_field_is_played_or_refused_or_said_not_to_be(kind: str, legacy: bool, share: int) -> None:
    examples = [dict(one) for one in EXAMPLES[legacy][kind]]
    refused = [one for one in examples if one.pop("refused", False)]
    accepted = [one for one in examples if one not in refused]
    paths = list(old_fields(kind) if legacy else fields(schemas()[kind]))
    unset = [path for path in paths if not any(any(places(one, path)) for one in examples)]
    assert unset == [], "no example sets these fields"
    assert [problems(kind, one, legacy=legacy) for one in accepted] == [[]] * len(accepted)
    before = [told(kind, one, legacy=legacy) for one in accepted]
    lines = {path for written in table.TABLES[legacy].get(kind, {}) for path in table._alternatives(written)}
    silent, stale = [], []
    for path in paths[share :: SHARES.get(kind, 1)]:
        listed = said(kind, path, accepted, legacy=legacy)
        if listed and path not in lines:
            continue
        played = any(plays(kind, one, path, world, legacy=legacy) for one, world in zip(accepted, before, strict=True))
        known = (
            played or listed or path in FOR_PEOPLE.get(kind, ()) or any(noticed(kind, one, path) for one in accepted)
        )
        if not known and not any(refuses(kind, one, path, legacy=legacy) for one in refused):
            silent.append(path)
        if played and (path in lines or path in FOR_PEOPLE.get(kind, ())):
            stale.append(path)
    assert silent == [], (
        "nothing comes of these fields, and nothing is said: play them, or give them a line in unplayed.py"
    )
    assert stale == [], "these are played: take them out of unplayed.py"


@pytest.mark.parametrize("legacy", [False, True])
def test_each_line_of_the_table_names_a_field_that_there_is(legacy: bool) -> None:
    for kind, lines in table.TABLES[legacy].items():
        if kind not in EXAMPLES[legacy]:
            # A MeshPolicy is a Policy.
            assert list(lines) == [""] or (legacy and kind == "MeshPolicy"), kind
            continue
        if list(lines) == [""]:
            continue
        paths = list(old_fields(kind) if legacy else fields(schemas()[kind]))
        for written in lines:
            for path in table._alternatives(written) if not written.startswith("@") else ():
                name = path.partition("=")[0].removesuffix("?")
                known = any(one == name or one.startswith((f"{name}.", f"{name}[", f"{name}{{")) for one in paths)
                assert known, f"{kind}: {path}"


@pytest.mark.parametrize("kind", sorted(EXAMPLES[False]))
def test_the_genuine_releases_fields_are_ours(kind: str, genuine: Path) -> None:
    files = yaml.load_all((genuine / "istio-1.30.3" / CRDS.relative_to(CRDS.parents[1])).read_text(), yaml.CSafeLoader)
    crds = {one["spec"]["names"]["kind"]: one for one in files if one and one["kind"] == "CustomResourceDefinition"}
    schema = crds[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert sorted(fields(schema)) == sorted(fields(schemas()[kind]))
