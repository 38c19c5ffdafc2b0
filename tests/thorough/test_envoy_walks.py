# SPDX-License-Identifier: Apache-2.0
"""However a mesh came to where it is, real Envoys have what they would be told had they just begun, and no more."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
from typing import Any

import pytest

from meshbox.blocks import claim
from meshbox.contracts import ApiError
from meshbox.mesh import kinds as names
from meshbox.mesh.messages import encoded
from meshbox.mesh.resources import KINDS
from tests.conftest import REPOSITORY
from tests.mesh.bookshop import Bookshop, gateway_server, opened, subsets, to
from tests.mesh.test_mesh_growth import MORE, MORE_TODAY
from tests.mesh.test_mesh_memo import MESHES, OLD, SPECS, TODAY
from tests.mesh.world import Pod

Obj = dict[str, Any]

STEPS, LOOKS = 120, 4
PAUSES = (0.0, 0.0, 0.0, 0.002, 0.02, 0.2, 1.0)
"""Seconds between two changes: some come together, some while proxies take the last one, and some late."""

WEIGHTS = [to("v1", weight=50), to("v2", weight=50)]
OWN: dict[str, list[Obj]] = {
    names.VIRTUAL_SERVICES: [
        {"hosts": ["reviews"], "http": [{"route": WEIGHTS, "timeout": "3s"}]},
        {"hosts": ["shop.test"], "gateways": ["one"], "http": [{"route": WEIGHTS}]},
    ],
    names.DESTINATION_RULES: [
        {"host": "reviews", "subsets": subsets()},
        {"host": "*.local", "trafficPolicy": {"connectionPool": {"http": {"http1MaxPendingRequests": 7}}}},
    ],
    names.GATEWAYS: [{"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(8080)]}],
    names.SERVICE_ENTRIES: [
        {
            "hosts": ["nobody.invalid"],
            "ports": [{"number": 81, "name": "http", "protocol": "HTTP"}],
            "resolution": "DNS",
            "location": "MESH_EXTERNAL",
        }
    ],
}
PORTS: list[list[Obj]] = [
    [{"name": "mysql", "port": 3306}],
    [{"name": "tcp", "port": 3306}, {"name": "http-admin", "port": 9080}],
    [{"name": "http", "port": 9080}],
    [{"name": "any", "port": 9180, "targetPort": 9080}],
]
TABLE = (REPOSITORY / "meshbox/mesh/data/envoy.txt").read_text()
NOTHING: tuple[Any, ...] = (
    0,
    "",
    "0",
    "0s",
    [],
    None,
    *re.findall(r"(\w+):0\b", "".join(re.findall("(?m)^=.*", TABLE))),
)
"""What an Envoy leaves out when it shows what it has: the value that a field has where nobody set it."""


class Walk:
    """Changes of a shop, one after the other, as a seed has them."""

    def __init__(self, shop: Bookshop, seed: int) -> None:
        self.shop, self.chance = shop, random.Random(seed)
        own = (OLD,) if shop.settings.release == "1.2.2" else (TODAY, MORE_TODAY)
        tables = (SPECS, MORE, OWN, *own)
        self.specs = [(resource, spec) for one in tables for resource, specs in one.items() for spec in specs]

    def step(self) -> None:
        """Change something."""
        self.chance.choices((self._rule, self._service, self._ready, self._config, self._cut), (12, 3, 5, 1, 1))[0]()

    def _rule(self) -> None:
        resource, spec = self.chance.choice(self.specs)
        # Only the one of that name is for all workloads of its namespace.
        name = "one" if resource == names.POLICIES and "targets" in spec else self.chance.choice(("default", "one"))
        namespace = self.chance.choice(("bookinfo", "bookinfo", "istio-system"))
        try:
            if self.chance.random() < 0.35:
                self.shop.objects.drop(resource, name, namespace)
            else:
                meta = {"name": name, "namespace": namespace}
                self.shop.objects.put(resource, {"metadata": meta, "spec": copy.deepcopy(spec)})
        except ApiError as error:
            # It is not there, or this release's webhook does not let it through.
            if error.code not in (400, 404, 422):
                raise

    def _service(self) -> None:
        name = self.chance.choice(("db", "extra"))
        if self.chance.random() < 0.4 and self.shop.objects.find("services", name, "bookinfo"):
            self.shop.objects.drop("services", name, "bookinfo")
        else:
            selector = {"app": self.chance.choice(("ratings", "reviews"))}
            self.shop.service(name, self.chance.choice(PORTS), selector=selector)

    def _ready(self) -> None:
        """Other pods of a Service than before are ready."""
        app = self.chance.choice(("reviews", "ratings"))
        pods = [pod for pod in self.shop.pods.values() if pod.obj["metadata"]["labels"].get("app") == app]
        ready = [pod for pod in pods if self.chance.random() < 0.6]
        addresses: list[Obj] = [{"ip": pod.ip, "targetRef": {"kind": "Pod", "name": pod.name}} for pod in ready]
        self.shop.objects.serve(app, addresses, [{"name": "http", "port": 9080}], "bookinfo")

    def _config(self) -> None:
        # Not that another namespace is the mesh's own: the control plane's settings would be looked for there.
        text = self.chance.choice(MESHES[:-1])
        meta = {"name": "istio", "namespace": "istio-system"}
        self.shop.objects.put("configmaps", {"metadata": meta, "data": {"mesh": text}})

    def _cut(self) -> None:
        """The stream of a proxy ends: it begins another one, with what it has."""
        state = self.chance.choice(list(self.shop.mesh._proxies.values()))
        if (mouth := state._mouth) is not None:
            mouth.end()


async def admin(shop: Bookshop, pod: Pod, path: str) -> Any:
    reply = await shop.http(pod.local, 15000, path, headers={"host": "localhost:15000"})
    assert reply.status == 200, (pod.name, path)
    return reply.json


def meant(kind: str, value: Obj) -> bytes:
    """What a resource means, however it is written."""

    def plain(one: Any) -> Any:
        if isinstance(one, dict):
            return {name: plain(one[name]) for name in sorted(one) if one[name] not in NOTHING}
        return [plain(each) for each in one] if isinstance(one, list) else one

    made = plain(value)
    made.pop("@type", None)
    return encoded(next(one.message for one in KINDS if one.name == kind), made)


async def had(shop: Bookshop, pod: Pod) -> dict[str, dict[str, bytes]]:
    """What a proxy has been told by name, as it says itself."""
    found: dict[str, dict[str, Obj]] = {"clusters": {}, "listeners": {}, "routes": {}}
    for section in (await admin(shop, pod, "/config_dump"))["configs"]:
        assert not section.get("dynamic_warming_clusters"), pod.name
        for one in section.get("dynamic_active_clusters", ()):
            found["clusters"][one["cluster"]["name"]] = one["cluster"]
        for one in section.get("dynamic_listeners", ()):
            # One that warms waits for a secret that there is not; one that only drains is gone.
            if (state := one.get("warming_state") or one.get("active_state")) is not None:
                found["listeners"][one["name"]] = state["listener"]
        for one in section.get("dynamic_route_configs", ()):
            found["routes"][one["route_config"]["name"]] = one["route_config"]
    return {kind: {name: meant(kind, one) for name, one in every.items()} for kind, every in found.items()}


async def ends_of(shop: Bookshop, pod: Pod) -> dict[str, list[str]]:
    """The endpoints of each cluster that a proxy has."""
    listed = (await admin(shop, pod, "/clusters?format=json"))["cluster_statuses"]
    return {one["name"]: sorted(_place(host["address"]) for host in one.get("host_statuses", ())) for one in listed}


def _place(address: Obj) -> str:
    return json.dumps(address, sort_keys=True)


async def check(shop: Bookshop) -> None:
    """Each proxy has what the mesh would tell it anew, but for what it will not have, and nothing else."""
    for pod in shop.pods.values():
        state = shop.mesh._proxies[pod.obj["metadata"]["namespace"], pod.name]
        assert state.config is not None
        has, ends = await had(shop, pod), await ends_of(shop, pod)
        for kind, told in has.items():
            wanted = {
                name: meant(kind, json.loads(body))
                for name, body in getattr(state.config, kind).items()
                if kind != "routes" or name in state.told[kind].asked
            }
            for name in state.told[kind]._bad:
                told.pop(name, None)
                wanted.pop(name, None)
            if kind == "routes":
                # Tables stay where nothing leads to them any more.
                told = {name: body for name, body in told.items() if name in wanted}
            assert told.keys() == wanted.keys(), (pod.name, kind)
            assert [name for name, body in wanted.items() if told[name] != body] == [], (pod.name, kind)
        for name, body in state.config.endpoints.items():
            if name not in state.told["clusters"]._bad:
                groups = json.loads(body).get("endpoints", ())
                places = [_place(one["endpoint"]["address"]) for group in groups for one in group["lb_endpoints"]]
                assert ends[name] == sorted(places), (pod.name, name)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_envoys_have_what_the_mesh_tells_after_any_changes(
    release: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan, lock = claim(tmp_path_factory.mktemp("addresses"))
    with lock:
        async with opened(tmp_path_factory.mktemp("home"), plan, release) as shop:
            walk = Walk(shop, seed)
            for _ in range(LOOKS):
                for _ in range(STEPS // LOOKS):
                    walk.step()
                    await asyncio.sleep(walk.chance.choice(PAUSES))
                # Watches are told in the loop's next turns, and a proxy that was cut off comes again.
                await asyncio.sleep(0)
                await shop.mesh.settled()
                await shop.until(lambda: all(one.connected for one in shop.mesh._proxies.values()), "all listen")
                await shop.until(shop._settled, "every proxy has taken what it was offered")
                await check(shop)
