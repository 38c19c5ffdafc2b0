# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent, the answer is an object or a refusal: never a fault of the server, nothing half done."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshbox.addresses import AddressPlan
from meshbox.api import bodies
from meshbox.api.conversion import from_hub
from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.contracts import ApiError
from meshbox.settings import SandboxSettings

from .conftest import CRDS, crd, pod

LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": pod()["spec"]}
WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
RULES = [{"host": "a", "http": {"paths": [{"path": "/", "backend": {"serviceName": "a", "servicePort": 1}}]}}]
WEBHOOK_RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
METRICS = [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}}]

GOOD: list[tuple[str, str, str, dict[str, Any]]] = [
    ("", "v1", "pods", {"spec": pod()["spec"]}),
    ("", "v1", "services", {"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31380}]}}),
    ("", "v1", "configmaps", {"data": {"a": "b"}}),
    ("", "v1", "secrets", {"data": {"a": "Yg=="}, "stringData": {"c": "d"}}),
    ("", "v1", "namespaces", {"spec": {"finalizers": ["kubernetes"]}}),
    ("", "v1", "nodes", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    ("", "v1", "events", {"involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}}),
    ("apps", "v1", "deployments", {"spec": {**WORKLOAD, "strategy": {"rollingUpdate": {"maxSurge": 1}}}}),
    ("apps", "v1beta1", "deployments", {"spec": {"template": TEMPLATE}}),
    ("extensions", "v1beta1", "deployments", {"spec": {"template": TEMPLATE}}),
    ("apps", "v1", "daemonsets", {"spec": WORKLOAD}),
    ("apps", "v1", "statefulsets", {"spec": {**WORKLOAD, "serviceName": "web"}}),
    ("batch", "v1", "jobs", {"spec": {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}}}),
    ("autoscaling", "v1", "horizontalpodautoscalers", {"spec": {"maxReplicas": 2, "scaleTargetRef": TARGET}}),
    (
        "autoscaling", "v2beta1", "horizontalpodautoscalers",
        {"spec": {"maxReplicas": 2, "scaleTargetRef": TARGET, "metrics": METRICS}},
    ),
    ("policy", "v1beta1", "poddisruptionbudgets", {"spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}}),
    ("extensions", "v1beta1", "ingresses", {"spec": {"rules": RULES}}),
    (
        "rbac.authorization.k8s.io", "v1", "roles",
        {"rules": [{"apiGroups": [""], "resources": ["a"], "verbs": ["get"]}]},
    ),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", {"spec": crd()["spec"]}),
    (
        "apiextensions.k8s.io", "v1beta1", "customresourcedefinitions",
        {"spec": {"group": "example.com", "version": "v1", "names": {"plural": "widgets", "kind": "Widget"}}},
    ),
    (
        "admissionregistration.k8s.io", "v1beta1", "mutatingwebhookconfigurations",
        {"webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://a"}, "rules": [WEBHOOK_RULE]}]},
    ),
    ("example.com", "v1", "gadgets", {"spec": {"size": 1, "hosts": ["a"]}}),
]  # fmt: skip

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=4)), max_size=3),
    st.dictionaries(st.text(max_size=6), st.one_of(st.none(), st.integers(), st.text(max_size=4)), max_size=3),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str, str, Any]:
    """A good object with something wrong in one or two places."""
    group, version, plural, body = draw(st.sampled_from(GOOD))
    name = "widgets.example.com" if plural == "customresourcedefinitions" else "web"
    obj: Any = json.loads(json.dumps({"metadata": {"name": name, "labels": {"a": "b"}}, **body}))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(obj))))
        if not path:
            continue
        holder = obj
        for step in path[:-1]:
            holder = holder[step]
        if draw(st.booleans()) or not isinstance(holder, dict):
            holder[path[-1]] = draw(VALUES)
        else:
            holder[draw(st.text(max_size=8))] = holder.pop(path[-1])
    return group, version, plural, obj


@pytest.fixture(scope="module")
def world() -> Iterator[ObjectStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore(SandboxSettings("bad", Path(folder), "1.2.2", AddressPlan(3), token="t" * 43))
        size = {"type": "integer"}
        hosts = {"type": "array", "items": {"type": "string"}}
        spec = {"type": "object", "properties": {"size": size, "hosts": hosts}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        store.create(CRDS, crd("gadgets", "Gadget", schema=schema))
        yield store
        store.close()


def attempt(world: ObjectStore, case: tuple[str, str, str, Any], mode: Any) -> None:
    group, version, plural, raw = case
    body = json.dumps(raw).encode()
    served = world.registry.served(group, version, plural)
    assert served is not None
    name = served.resource.name
    before = world.store.version
    try:
        obj = bodies.parse(body, "application/json")
        assert isinstance(obj, dict)
        made = world.create(name, obj, None, options=WriteOptions("test", validation=mode, served=served))
    except ApiError as error:
        refused = error
    else:
        clean_up(world, name, made)
        return
    assert 400 <= refused.code < 500, refused
    assert refused.message
    json.dumps(refused.status(), allow_nan=False)
    assert world.store.version == before, "something was written"


def clean_up(world: ObjectStore, name: str, made: dict[str, Any]) -> None:
    """Show what was made in every version, and take it away again."""
    meta = made["metadata"]
    for view in world.registry.all_served():
        if view.resource.name == name:
            json.dumps(from_hub(view, made), allow_nan=False)
    json.loads(json.dumps(made, allow_nan=False))
    if name == "namespaces":
        world.delete(name, meta["name"])
        world.update(name, {**world.get(name, meta["name"]), "spec": {}}, subresource="finalize")
    elif name == CRDS:
        world.delete(name, meta["name"])
    else:
        world.patch(name, meta["name"], {"metadata": {"finalizers": None}}, meta.get("namespace"))
        world.delete(name, meta["name"], meta.get("namespace"), grace_period=0)
    left = world.find(name, meta["name"], meta.get("namespace"))
    if left is not None:
        world.patch(name, meta["name"], {"metadata": {"finalizers": None}}, meta.get("namespace"))


@pytest.mark.parametrize("case", GOOD, ids=lambda case: "/".join(case[:3]))
def test_the_undamaged_ones_are_created(world: ObjectStore, case: tuple[str, str, str, Any]) -> None:
    group, version, plural, body = case
    name = "widgets.example.com" if plural == "customresourcedefinitions" else "web"
    served = world.registry.served(group, version, plural)
    assert served is not None
    options = WriteOptions("test", validation="Strict", served=served, dry_run=True)
    assert world.create(served.resource.name, {"metadata": {"name": name}, **body}, options=options)["metadata"]["uid"]


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(case=damaged(), mode=st.sampled_from(["Strict", "Warn", "Ignore"]))
def test_damaged_objects(world: ObjectStore, case: tuple[str, str, str, Any], mode: str) -> None:
    attempt(world, case, mode)


PATCH_NAMES = [
    "metadata", "labels", "name", "finalizers", "spec", "template", "containers", "image", "replicas", "selector",
    "status", "$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers",
]  # fmt: skip
PATCHES = st.recursive(
    VALUES,
    lambda inner: st.dictionaries(
        st.sampled_from(PATCH_NAMES),
        st.one_of(inner, st.lists(inner, max_size=2)), max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(patch=PATCHES, kind=st.sampled_from(["merge", "strategic", "json", "apply"]))
def test_patches_of_any_form(world: ObjectStore, patch: Any, kind: Any) -> None:
    if world.find("deployments.apps", "patched") is None:
        world.create("deployments.apps", {"metadata": {"name": "patched"}, "spec": WORKLOAD})
    try:
        patch = bodies.parse(json.dumps(patch).encode(), "application/json")
        options = WriteOptions("test", validation="Strict")
        if kind == "apply":
            world.apply("deployments.apps", "patched", patch, None, force=True, subresource="", options=options)
        else:
            world.patch("deployments.apps", "patched", patch, kind=kind, options=options)
    except ApiError as error:
        code = error.code
    else:
        code = 400
    assert 400 <= code < 500


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda rest: b"k8s\x00" + rest)))
def test_bytes_of_any_form(body: bytes) -> None:
    codes = set()
    for content_type in ("application/json", "application/yaml", bodies.PROTOBUF):
        try:
            bodies.parse(body, content_type, [])
        except ApiError as error:
            codes.add(error.code)
    assert codes <= {400, 415}
