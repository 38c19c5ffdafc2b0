# SPDX-License-Identifier: Apache-2.0
"""TrafficExtensions: whose Lua runs where in a proxy, and what of them is not played."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.kinds import TRAFFIC_EXTENSIONS
from meshbox.mesh.notices import notices
from meshbox.mesh.translate import translate
from meshbox.mesh.unplayed import unplayed

from .bookshop import Bookshop, opened
from .objects import istio, snapshot, workload

Json = dict[str, Any]

ADDS = """
function envoy_on_request(handle)
  handle:headers():add("x-lua", "{0}")
end
"""


def lua(name: str, namespace: str = "bookinfo", **spec: Any) -> Json:
    found: Json = istio(name, {"lua": {"inlineCode": ADDS.replace("{0}", name)}, **spec})
    found["metadata"]["namespace"] = namespace
    return found


def filters(listener: str, *written: Json, source: str = "reviews-v1") -> list[str]:
    """The HTTP filters of a listener's first chain: Lua by its name, the rest by Envoy's last word for it."""
    snap = snapshot(traffic_extensions=list(written))
    made = json.loads(translate(snap, workload(snap, source)).listeners[listener])
    manager = made["filter_chains"][0]["filters"][-1]["typed_config"]
    found = []
    for one in manager["http_filters"]:
        if one["typed_config"]["@type"].endswith("http.lua.v3.Lua"):
            assert ADDS.split("{0}")[0] in one["typed_config"]["default_source_code"]["inline_string"]
            found.append(one["name"])
        else:
            found.append(one["name"].rpartition(".")[2])
    return found


def named(*names: str) -> list[str]:
    return [f"extensions.istio.io/trafficextension/bookinfo.{name}" for name in names]


def test_lua_stands_where_its_phase_says() -> None:
    written = [lua("late"), lua("stats", phase="STATS"), lua("authz", phase="AUTHZ"), lua("authn", phase="AUTHN")]
    inbound = filters("virtualInbound_9080", *written)
    plain = filters("virtualInbound_9080")
    at = {one: inbound.index(one) for one in inbound}
    authn, authz, stats, late = named("authn", "authz", "stats", "late")
    assert at[authn] < at[authz] < at["deny"] < at["allow"] < at[stats] < at[late] < at["cors"]
    assert [one for one in inbound if one not in named("late", "stats", "authz", "authn")] == plain
    outbound = [one for one in filters("0.0.0.0_9080", *written) if "/" in one]
    assert outbound == [authn, authz, stats, late]


def test_the_higher_priority_runs_first() -> None:
    written = [lua("b", priority=1), lua("c", priority=9), lua("a", priority=1), lua("d")]
    assert [one for one in filters("0.0.0.0_9080", *written) if "/" in one] == named("c", "a", "b", "d")


@pytest.mark.parametrize(
    ("spec", "inbound", "outbound"),
    [
        ({}, True, True),
        ({"match": [{"mode": "CLIENT_AND_SERVER"}]}, True, True),
        ({"match": [{"mode": "SERVER"}]}, True, False),
        ({"match": [{"mode": "CLIENT"}]}, False, True),
        ({"match": [{"mode": "SERVER", "ports": [{"number": 9080}]}]}, True, False),
        ({"match": [{"mode": "SERVER", "ports": [{"number": 80}]}]}, False, False),
        ({"match": [{"mode": "SERVER", "ports": [{"number": 80}]}, {"mode": "CLIENT"}]}, False, True),
        ({"selector": {"matchLabels": {"app": "reviews"}}}, True, True),
        ({"selector": {"matchLabels": {"app": "ratings"}}}, False, False),
    ],
)
def test_lua_runs_for_the_traffic_that_is_meant(spec: Json, inbound: bool, outbound: bool) -> None:
    (name,) = named("one")
    assert (name in filters("virtualInbound_9080", lua("one", **spec))) is inbound
    assert (name in filters("0.0.0.0_9080", lua("one", **spec))) is outbound


def test_those_of_the_root_namespace_are_for_all_and_others_for_their_own() -> None:
    root = lua("root", "istio-system")
    assert "extensions.istio.io/trafficextension/istio-system.root" in filters("virtualInbound_9080", root)
    assert not [one for one in filters("virtualInbound_9080", lua("far", "other")) if "/" in one]


def test_what_is_not_played_is_said() -> None:
    def told(spec: Json) -> list[str]:
        return unplayed({"kind": "TrafficExtension", "metadata": {"name": "x"}, "spec": spec}, legacy=False)

    assert told({"lua": {"inlineCode": "x"}, "match": [{"mode": "SERVER"}]}) == []
    (said,) = told({"wasm": {"url": "oci://x.test/y"}})
    assert said == "the sandbox does not play spec.wasm: its Envoy runs no WebAssembly"
    ports = {"spec": {"match": [{"mode": "SERVER", "ports": [{"number": 80}]}, {"ports": [{"number": 81}]}]}}
    (said,) = notices(TRAFFIC_EXTENSIONS, ports, legacy=False)
    assert said.startswith("spec.match[1].ports: in the sandbox they count for what comes to an application")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


@pytest.mark.asyncio(loop_scope="module")
async def test_lua_runs_in_an_envoy_and_leaves_it(shop: Bookshop) -> None:
    async def seen() -> str:
        return str((await shop.get(host="ratings")).json["headers"].get("x-lua", ""))

    async def runs() -> bool:
        return await seen() == "mine"

    async def is_gone() -> bool:
        return not await seen()

    assert await seen() == ""
    spec = lua("mine", selector={"matchLabels": {"app": "ratings"}})["spec"]
    async with shop.rules(("TrafficExtension", "mine", spec)):
        # Connections that are open stay with the listener that they came to until it has drained.
        await shop.until(runs, "the application gets the header")
    await shop.until(is_gone, "it gets none any more")
