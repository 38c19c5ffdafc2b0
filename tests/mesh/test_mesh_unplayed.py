# SPDX-License-Identifier: Apache-2.0
"""What the sandbox does not play of Istio's objects is said, at apply and on the object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.api.options import WriteOptions
from meshbox.mesh import unplayed as table
from meshbox.mesh.cache import ObjectCache
from meshbox.mesh.unplayed import unplayed

from .cluster import Cluster

Obj = dict[str, Any]

WHAT = {
    "Sample": {
        "": "",
        "@example.io/later": "",
        "{one,many[].one}.deep": "it is deep",
        "named{}.{left,right}": "",
        "mode=ON*": "it stays off",
        "given?": "",
    }
}


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.TABLES, False, WHAT)
    table._tree.cache_clear()


def said(spec: Any, kind: str = "Sample", **annotations: str) -> list[str]:
    obj = {"kind": kind, "metadata": {"name": "x", "annotations": annotations}, "spec": spec}
    return [text.removeprefix("the sandbox does not play ") for text in unplayed(obj, legacy=False)]


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, []),
        ({"one": {"deep": 1}}, ["spec.one.deep: it is deep"]),
        # Each kind of thing once, where it comes first.
        ({"many": [{}, {"one": {"deep": "x"}}, {"one": {"deep": "y"}}]}, ["spec.many[1].one.deep: it is deep"]),
        ({"named": {"a": {"left": True}, "b": {"right": {"x": 1}}}}, ["spec.named[a].left", "spec.named[b].right"]),
        ({"mode": "ONCE"}, ["spec.mode: ONCE: it stays off"]),
        ({"mode": "OFF"}, []),
        # A default value asks for nothing, unless it is told from a missing one.
        ({"one": {"deep": 0}, "named": {"a": {"left": False, "right": {}}}}, []),
        ({"given": False}, ["spec.given"]),
        ({"given": None}, []),
        # Whatever form a stored object has.
        ({"one": [], "many": {"one": 1}, "named": "x"}, []),
        ([], []),
        (None, []),
    ],
)
def test_what_is_said_of_a_spec(spec: Any, words: list[str]) -> None:
    assert said(spec) == ["Sample", *words]


@pytest.mark.usefixtures("sample")
def test_an_annotation_is_looked_at_and_another_kind_is_not() -> None:
    assert said({}, **{"example.io/later": ""}) == ["annotation example.io/later", "Sample"]
    assert said({"given": 1}, "Other", **{"example.io/later": ""}) == []


def test_what_istio_itself_brings_is_played() -> None:
    for namespace, words in (("istio-system", []), ("default", ["the sandbox does not play handler: " + table._MIXER])):
        handler = {"kind": "handler", "metadata": {"name": "prometheus", "namespace": namespace}, "spec": {}}
        assert unplayed(handler, legacy=True) == words


SERVED = {
    "selector": {"istio": "ingressgateway"},
    "servers": [
        {
            "port": {"number": 8080, "name": "http", "protocol": "HTTP"},
            "hosts": ["*"],
            "defaultEndpoint": "127.0.0.1:80",
        }
    ],
}


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_a_warning_answers_the_write_and_an_event_is_on_the_object(
    cluster_of: Callable[[str], Cluster], release: str
) -> None:
    objects = cluster_of(release)
    objects.validate()
    cache = ObjectCache(objects, legacy=objects.settings.legacy, changed=lambda _: None)
    cache.start()
    try:
        written = {"metadata": {"name": "web", "namespace": "bookinfo"}, "spec": SERVED}
        options = WriteOptions(validation="Strict")
        objects.create("gateways.networking.istio.io", written, options=options)
        words = "the sandbox does not play spec.servers[0].defaultEndpoint: Istio's proxies make nothing of it either"
        assert options.warnings[-1] == words
        deadline = time.monotonic() + 240
        while not objects.warnings("web"):
            assert time.monotonic() < deadline, "nothing is said on the object"
            await asyncio.sleep(0.002)
        (event,) = [one for one in objects.list("events") if one["involvedObject"]["name"] == "web"]
        assert (event["reason"], event["message"]) == ("NotPlayed", words)
    finally:
        await cache.stop()


async def test_of_a_kind_that_nobody_follows_it_is_said_too(cluster_of: Callable[[str], Cluster]) -> None:
    objects = cluster_of("1.30.3")
    cache = ObjectCache(objects, legacy=False, changed=lambda _: None)
    cache.start()
    try:
        spec = {"url": "oci://example.com/plugin"}
        objects.put(
            "wasmplugins.extensions.istio.io", {"metadata": {"name": "w", "namespace": "bookinfo"}, "spec": spec}
        )
        deadline = time.monotonic() + 240
        while not objects.warnings("w"):
            assert time.monotonic() < deadline, "nothing is said on the object"
            await asyncio.sleep(0.002)
        assert objects.warnings("w") == ["the sandbox does not play WasmPlugin: its Envoy runs no WebAssembly"]
    finally:
        await cache.stop()


@pytest.mark.parametrize("legacy", [True, False])
def test_every_kind_that_is_named_wholly_is_followed_by_the_name_of_its_resource(
    legacy: bool, cluster_of: Callable[[str], Cluster]
) -> None:
    objects = cluster_of("1.2.2" if legacy else "1.30.3")
    kinds = {objects.resource(name).kind for name in table.whole_kinds(legacy=legacy)}
    whole = {kind for kind, paths in table.TABLES[legacy].items() if "" in paths}
    assert whole - kinds == set()
