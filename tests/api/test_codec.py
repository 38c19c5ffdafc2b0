# SPDX-License-Identifier: Apache-2.0
"""Protobuf bodies: each field of each kind, special values, and what no table knows."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from meshbox.api.builtin.types import fields_of as types_of
from meshbox.api.builtin.types import kind_type
from meshbox.api.codec import decode
from meshbox.api.codec.fields import message_of
from meshbox.contracts import ApiError
from tools import generate_kind_tables, generate_protobuf_tables

from .conftest import Cluster
from .protobuf import body, encode, item, number, varint

HEADERS = {"Content-Type": "application/vnd.kubernetes.protobuf"}
PODS = "/api/v1/namespaces/default/pods"
KINDS = [
    (version, entry.partition(":")[0])
    for version, names in generate_kind_tables.KINDS.items()
    for entry in names.split()
]
MODULES = Path(os.environ.get("GOMODCACHE", Path.home() / "go/pkg/mod")) / "k8s.io"
needs_modules = pytest.mark.skipif(
    not all((MODULES / module).is_dir() for module in generate_protobuf_tables.MODULES),
    reason="Kubernetes' modules for Go are not in Go's module cache",
)

VALUES: dict[str, tuple[Any, ...]] = {
    "string": ("a", "b c", "ü\n", '"'),
    "bool": (True,),
    "int32": (1, -1, 127, 128, 2**31 - 1, -(2**31)),
    "int64": (1, -1, 2**63 - 1, -(2**63)),
    "float64": (0.5, -1.25, 3, 1e300),
    "bytes": ("AA==", "/+8="),
    "Time": ("1970-01-01T00:00:00Z", "2026-02-28T23:59:59Z", "1601-05-06T07:08:09Z"),
    "MicroTime": ("2026-02-28T23:59:59.000001Z", "1970-01-01T00:00:00.000000Z"),
    "Quantity": ("0", "100m", "65536Ki", "-1e3"),
    "IntOrString": (0, -1, 2**31 - 1, "", "25%", "http"),
    "any": ({},),
}
# What JSON shows of kinds within kinds, and protobuf does not have.
NOT_SENT = {"V1PersistentVolumeClaim": ("apiVersion", "kind"), "V1DeleteOptions": ("apiVersion", "kind")}
# Fields of which the kinds' tables do not say the type.
FREE: dict[str, dict[str, Any]] = {
    "V1ObjectMeta": {"managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}, "time": "2026-01-02T03:04:05Z"}]},
    "V1ControllerRevision": {"data": {"a": [1, None, "x"]}},
    "V1JSONSchemaProps": {
        "default": {"a": 0},
        "example": False,
        "enum": [1, "b", None],
        "dependencies": {"a": ["b"], "c": {"type": "object"}},
        "additionalProperties": False,
        "additionalItems": {"type": "string"},
        "items": [{"type": "string"}, {"type": "integer"}],
    },
}


class Maker:
    """Makes objects of the types that the kinds' tables know: with each of their fields, or with some of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.all = seed == 0

    def object(self, type_name: str, within: tuple[str, ...] = ()) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, written in (types_of(type_name) or {}).items():
            if name in NOT_SENT.get(type_name, ()) or (not within and name in ("apiVersion", "kind")):
                continue
            if self.all or self.random.random() < 0.5:
                value = FREE.get(type_name, {}).get(name)
                made[name] = self._value(written.rstrip("!"), (*within, type_name)) if value is None else value
                if made[name] is None:
                    del made[name]
        return made

    def _value(self, written: str, within: tuple[str, ...]) -> Any:
        kind = written.lstrip("[]{}").partition(":")[0].replace("schemaOrArray", "V1JSONSchemaProps")
        kind = kind.replace("schemaOrBool", "V1JSONSchemaProps")
        if kind in within:
            return None
        one = self.object(kind, within) if types_of(kind) is not None else self.random.choice(VALUES[kind])
        for form in reversed(written[: len(written) - len(written.lstrip("[]{}"))]):
            one = {"]": [one], "}": {"key": one}}.get(form, one)
        return one


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_every_field_of_every_kind_arrives(version: str, kind: str, seed: int) -> None:
    obj = {"apiVersion": version, "kind": kind, **Maker(seed).object(kind_type(version, kind))}
    assert decode(encode(obj)) == obj


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        # Values that were not set arrive as zeros; pointers to zeros were set.
        (number(11, 0) + number(12, 0) + item(3, ""), {}),
        (
            number(4, 0) + number(5, 0) + number(27, 0),
            {"terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 0, "shareProcessNamespace": False},
        ),
        (item(7, item(1, "a") + item(2, "")) + item(7, item(1, "b")), {"nodeSelector": {"a": "", "b": ""}}),
        (item(14, ""), {"securityContext": {}}),
        # A message in two parts, and numbers packed.
        (
            item(14, number(2, 0)) + item(14, item(4, varint(1) + varint(300)) + number(4, 5)),
            {"securityContext": {"runAsUser": 0, "supplementalGroups": [1, 300, 5]}},
        ),
        (item(1, item(1, "v") + item(2, item(2, ""))), {"volumes": [{"name": "v", "emptyDir": {}}]}),
        # A number or a string, where the number 0 and the empty string are values too.
        (
            item(20, item(1, "c") + item(6, number(3, 0)) + item(10, item(1, item(2, item(2, number(1, 1)))))),
            {
                "initContainers": [
                    {"name": "c", "ports": [{"containerPort": 0}], "livenessProbe": {"httpGet": {"port": ""}}}
                ]
            },
        ),
    ],
)
def test_what_go_sends_and_means(sent: bytes, expected: dict[str, Any]) -> None:
    assert decode(body("v1", "Pod", item(2, sent)))["spec"] == expected


class TestWhatNoTableKnows:
    """A body is never stored without a part of it."""

    @pytest.mark.parametrize("sent", [number(999, 1), item(999, "x"), varint(999 << 3 | 5) + b"1234"])
    async def test_is_refused(self, cluster: Cluster, sent: bytes) -> None:
        spec = item(2, item(1, "c") + item(2, "nginx:1")) + sent
        reply = await cluster.request(
            "POST", PODS, body("v1", "Pod", item(1, item(1, "p")) + item(2, spec)), headers=HEADERS
        )
        assert (reply.status, reply.body["reason"], reply.body["message"]) == (
            400,
            "BadRequest",
            'Pod in version "v1" cannot be handled as a Pod: message k8s.io.api.core.v1.PodSpec has no field 999 that '
            "this server knows, and it would be lost: send the object as JSON or YAML",
        )
        assert (await cluster.request("GET", f"{PODS}/p")).status == 404

    @pytest.mark.parametrize("sent", [number(999, 0), item(999, "")])
    async def test_of_nothing_is_told(self, cluster: Cluster, sent: bytes) -> None:
        # Each client that is newer than the tables sends such: a string that is not set, an empty status.
        spec = item(2, item(1, "c") + item(2, "nginx:1")) + sent
        reply = await cluster.request(
            "POST", PODS, body("v1", "Pod", item(1, item(1, "p")) + item(2, spec)), headers=HEADERS
        )
        assert reply.status == 201
        assert reply.headers.getall("Warning") == [
            '299 - "unknown field 999 of k8s.io.api.core.v1.PodSpec, which is 0, false or empty, was left out"'
        ]

    @pytest.mark.parametrize("sent", [item(3, "gzip"), item(4, "application/json"), item(5, "")])
    def test_around_the_object_is_refused(self, sent: bytes) -> None:
        whole = b"k8s\0" + item(1, item(1, "v1") + item(2, "Pod")) + item(2, "") + sent
        with pytest.raises(ApiError) as refused:
            decode(whole)
        assert refused.value.code in (400, 415)

    async def test_forms_of_quantities_are_stored_in_the_one(self, cluster: Cluster) -> None:
        sized = {"name": "c", "image": "nginx:1", "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}}
        obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [sized]}}
        reply = await cluster.request("POST", PODS, encode(obj), headers=HEADERS)
        assert reply.body["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi"}

    async def test_kinds_are_415(self, cluster: Cluster) -> None:
        reply = await cluster.request("POST", PODS, body("v1", "Nothing", b""), headers=HEADERS)
        assert reply.status == 415

    @pytest.mark.parametrize(("version", "kind"), KINDS)
    def test_of_each_kind_is_refused(self, version: str, kind: str) -> None:
        with pytest.raises(ApiError, match=rf"message k8s.io.{message_of(version, kind)} has no field 500 "):
            decode(body(version, kind, number(500, 1)))


def without_nothing(value: Any) -> Any:
    """`value` without nulls, which mean the same as no field at all."""
    if isinstance(value, dict):
        return {name: without_nothing(one) for name, one in value.items() if one is not None}
    return [without_nothing(one) for one in value] if isinstance(value, list) else value


# Of these the two files tell different versions, or hold fields that were withdrawn before they were used.
WRONG = ("api@v0.23.17/testdata/HEAD/autoscaling.v2.HorizontalPodAutoscaler.pb", "EphemeralContainers.pb")


# A claim's resources were of a container's type until 1.28, with a field that a claim could not have.
@needs_modules
@pytest.mark.parametrize("module", [name for name in generate_protobuf_tables.MODULES if name != "api@v0.26.15"])
def test_genuine_objects_arrive_whole(module: str) -> None:
    """Kubernetes' own samples: objects with every field of their kind, as protobuf and as JSON."""
    seen = 0
    for path in sorted((MODULES / module).rglob("testdata/HEAD/*.pb")):
        if ".after_roundtrip." in path.name or str(path).endswith(WRONG):
            continue
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if message_of(expected.get("apiVersion", ""), expected.get("kind", "")):
            warnings: list[str] = []
            assert without_nothing(decode(path.read_bytes(), warnings)) == without_nothing(expected), path.name
            assert warnings == []
            seen += 1
    assert seen > 50 or not module.startswith("api@")


@needs_modules
def test_the_tables_are_what_their_tool_makes() -> None:
    made = generate_protobuf_tables.tables(MODULES)
    assert made == generate_protobuf_tables.TARGET.read_text(encoding="utf-8")
