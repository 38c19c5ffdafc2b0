# SPDX-License-Identifier: Apache-2.0
"""Objects with any field changed, to our webhook and to Istio's own code of validation: the same verdicts and words."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from meshbox.contracts import ApiError
from meshbox.mesh.istio_validation import check, denial
from meshbox.values import clone
from tests.conftest import REPOSITORY
from tests.mesh.objects import stored

from .oracle import Ask, built, needs_go

Obj = dict[str, Any]

HOW_MANY = int(os.environ.get("LABKIT_ORACLE_OBJECTS", "20000"))
MESH = REPOSITORY / "tests" / "mesh"
RESOURCES = {
    "networking.istio.io/v1": "Gateway VirtualService DestinationRule ServiceEntry Sidecar WorkloadEntry WorkloadGroup",
    "networking.istio.io/v1alpha3": "EnvoyFilter",
    "networking.istio.io/v1beta1": "ProxyConfig",
    "security.istio.io/v1": "AuthorizationPolicy PeerAuthentication RequestAuthentication",
    "telemetry.istio.io/v1": "Telemetry",
    "extensions.istio.io/v1alpha1": "WasmPlugin",
}
VERSION = {kind: version for version, kinds in RESOURCES.items() for kind in kinds.split()}
TEXTS = (
    *(
        "",
        "*",
        "a",
        "a.b",
        "*.a.b",
        "a.*",
        "/",
        "/a",
        "reviews",
        "reviews.default.svc.cluster.local",
        "~",
        "./*",
        "*/*",
    ),
    *("ns/a", "1.2.3.4", "::1", "0s", "1s", "-1s", "1ms", "0.1ms", "100h", "a b", "A_B", "x-a", ":path", "x" * 70),
    *("x" * 300, "http", "HTTPS", "TLS", "TCP", "GRPC", "foo", "(a", "{*}", "/a/{*}/b", "/{**}/a", "a*b", "spiffe://a"),
    *("https://a.b", "unix:///a", "unix://@a", "%REQ(a)%", "80", "0", "-1", "outbound_.80_._.a.b"),
)
NUMBERS = (0, 1, -1, 80, 99, 100, 101, 199, 200, 418, 599, 600, 1023, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.genuine,
    needs_go,
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What Istio's own code says of objects."""
    return built("validate", tmp_path_factory)


def seeds() -> list[Obj]:
    """Objects that together set every field, and those that our table of verdicts has."""
    found = [
        (kind, one.get("refused", one))
        for kind, specs in yaml.safe_load((MESH / "every_field.yaml").read_text()).items()
        if kind in VERSION
        for one in specs
    ]
    verdicts = yaml.safe_load((MESH / "verdicts.yaml").read_text())
    found += [(kind, case["spec"]) for kind, cases in verdicts.items() if kind in VERSION for case in cases]
    about = {"name": "one", "namespace": "bookinfo"}
    return [
        {"apiVersion": VERSION[kind], "kind": kind, "metadata": about, "spec": spec} for kind, spec in found if spec
    ]


def plural(kind: str) -> str:
    """A kind's name in addresses."""
    small = kind.lower()
    return f"{small[:-1]}ies" if small.endswith("y") and small[-2] not in "aeiou" else f"{small}s"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*path, key)
        yield from places(one, (*path, key))


def changed(given: Obj, chance: random.Random) -> Obj:
    """An object with one or two of its values gone or others."""
    found: Obj = clone(given)
    for _ in range(chance.choice((1, 1, 1, 2))):
        ways = list(places(found["spec"]))
        if not ways:
            break
        *path, last = chance.choice(ways)
        holder = found["spec"]
        for key in path:
            holder = holder[key]
        value = holder[last]
        if chance.random() < 0.2:
            del holder[last]
        elif isinstance(value, bool):
            holder[last] = not value
        elif isinstance(value, str):
            holder[last] = chance.choice(TEXTS)
        elif isinstance(value, int | float):
            holder[last] = chance.choice(NUMBERS)
        elif isinstance(value, list):
            holder[last] = [] if chance.random() < 0.3 else [*value, *map(clone, value[:1])]
        else:
            holder[last] = {}
    return found


OWN = (
    "is not a valid header name",  # Istio lets names pass that Envoy refuses, with all that the proxy is told
    "header value configuration",
    "minimumRingSize must be at most",
    "sni must have at most",
    "unix address must have at most",
    "ttl of HttpCookie must not be negative",
    "is not in range 200-599",  # a number that Istio takes for a negative one
)
"""What we refuse, and Istio does not."""
WORDING = ("ParseAddr", "jwks parse error", "CEL expression", "Envoy filter: ", "error parsing regexp")
"""Whose words are a parser's: that both refuse is enough."""
MAPS = "overlap with previous specified ones"
"""Says which of two came first in a Go map."""


def reasons(text: str) -> set[str]:
    """The single reasons of a refusal; Go prints messages with one space or two, as it pleases."""
    found = text.strip().removeprefix("configuration is invalid: ").replace("  ", " ").split("\n\t* ")
    return {MAPS if MAPS in one else one for one in found}


def test_our_webhook_judges_as_istios_own_code(judge: Ask) -> None:
    chance = random.Random(20261128)
    known = seeds()
    objects = [changed(chance.choice(known), chance) for _ in range(HOW_MANY)]
    compared, other = 0, []
    for one, verdict in zip(objects, judge(objects), strict=True):
        try:
            stored(f"{plural(one['kind'])}.{one['apiVersion'].partition('/')[0]}", one)
        except ApiError as error:
            if "admission webhook" not in error.message:
                # The schema has refused it; Istio's webhook would never see it.
                continue
        problems = check(one, legacy=False)
        ours, theirs = denial(one, problems), verdict["error"]
        compared += 1
        if any(word in ours for word in OWN) or (ours and theirs and any(w in ours + theirs for w in WORDING)):
            continue
        if bool(ours) != bool(theirs) or reasons(ours) != reasons(theirs):
            other.append((one["kind"], one["spec"], ours, theirs))
    assert compared > HOW_MANY // 2
    assert other == []
