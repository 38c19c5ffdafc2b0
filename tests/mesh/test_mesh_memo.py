# SPDX-License-Identifier: Apache-2.0
"""What is kept from one snapshot to the next never shows: proxies are told what a mesh without memory would tell them.

tests/thorough/test_memo_walks.py walks much further.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest

from meshbox.mesh import kinds as names
from meshbox.mesh.memo import Identity, Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .objects import PLAN, Obj, bookinfo, endpoints, istio, pod, service, stored

ROUTE = [{"destination": {"host": "reviews", "subset": "v1"}}]
TCP = [{"destination": {"host": "db", "port": {"number": 3306}}}]
MUTUAL = {"mtls": {"mode": "STRICT"}}

# Resource → specs that an object of it may have, besides not being there: in both releases, in the old one, and today.
SPECS: dict[str, list[Obj]] = {
    names.VIRTUAL_SERVICES: [
        {"hosts": ["reviews"], "http": [{"route": ROUTE}]},
        {"hosts": ["reviews"], "http": [{"match": [{"sourceLabels": {"app": "productpage"}}], "route": ROUTE}]},
        {"hosts": ["reviews"], "http": [{"match": [{"sourceLabels": {"version": "v2"}}], "route": ROUTE}]},
        {"hosts": ["db"], "tcp": [{"route": TCP}]},
        {"hosts": ["db"], "tcp": [{"match": [{"sourceLabels": {"app": "details"}}], "route": TCP}]},
        {"hosts": ["web.test"], "tls": [{"match": [{"port": 443, "sniHosts": ["web.test"]}], "route": TCP}]},
        {"hosts": ["nobody.test"], "http": [{"route": ROUTE}], "exportTo": ["."]},
    ],
    names.DESTINATION_RULES: [
        {"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
        {"host": "reviews", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}},
    ],
    names.SERVICE_ENTRIES: [
        {"hosts": ["web.test"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "DNS"},
    ],
    names.SIDECARS: [
        {"egress": [{"hosts": ["./*"]}]},
        {
            "workloadSelector": {"labels": {"app": "details"}},
            "egress": [{"hosts": ["*/ratings.bookinfo.svc.cluster.local"]}],
        },
        {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
    ],
}
OLD: dict[str, list[Obj]] = {
    names.DESTINATION_RULES: [{"host": "db", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "7s"}}}}],
    names.POLICIES: [{"targets": [{"name": "reviews"}], "peers": [{"mtls": {}}]}, {"peers": []}],
}
TODAY: dict[str, list[Obj]] = {
    names.DESTINATION_RULES: [
        {"host": "db", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "7s"}}}},
        {
            "host": "db",
            "workloadSelector": {"matchLabels": {"app": "details"}},
            "trafficPolicy": {"tls": {"mode": "DISABLE"}},
        },
    ],
    names.SERVICE_ENTRIES: [
        {
            "hosts": ["inside.test"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "workloadSelector": {"labels": {"app": "ratings"}},
        },
    ],
    names.SIDECARS: [{"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}],
    names.PEER_AUTHENTICATIONS: [
        {"selector": {"matchLabels": {"app": "db"}}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}},
        MUTUAL,
        {"selector": {"matchLabels": {"app": "reviews"}}, **MUTUAL},
    ],
    names.AUTHORIZATION_POLICIES: [{}, {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]}],
    names.TELEMETRIES: [{"accessLogging": [{"disabled": True}]}, {"metrics": [{"overrides": [{"disabled": True}]}]}],
}
OFTEN = [*[names.VIRTUAL_SERVICES] * 5, *[names.DESTINATION_RULES] * 3]
"""Resources of which an object changes more often than of others, as often as they stand here."""

MESHES = ["", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "accessLogFile: /dev/stdout", "rootNamespace: bookinfo"]
SERVICES = [
    service("db", ("mysql", 3306)),
    service("db", ("tcp", 3306), ("http-admin", 8080)),
    service("db", ("tcp", 3306), clusterIP="None"),
    service("db", ("any", 3306)),
    {
        **service("db", ("tcp", 3306)),
        "metadata": {"name": "db", "namespace": "bookinfo", "annotations": {"networking.istio.io/exportTo": "."}},
    },
]


class World:
    """A cluster's objects, each replaced when it changes, as a store does it."""

    def __init__(self, chance: random.Random, *, legacy: bool) -> None:
        services, pods = bookinfo()
        pods += [
            pod("db-1", "127.99.64.9", ports=(3306, 8080)),
            pod("client-1", "127.99.64.11", namespace="other"),
            pod("istio-ingress-1", "127.99.64.10", role="router"),
        ]
        self.chance, self.legacy = chance, legacy
        self.services = [stored("services", one, legacy=legacy) for one in services]
        self.pods = [stored("pods", one, legacy=legacy) for one in pods]
        self.endpoints = endpoints(self.services, self.pods, legacy=legacy)
        own = OLD if legacy else TODAY
        self.specs = {resource: [*SPECS.get(resource, []), *own.get(resource, [])] for resource in (*SPECS, *own)}
        self.changed = [*self.specs, *OFTEN]
        self.rules: dict[str, dict[str, Obj]] = {resource: {} for resource in self.specs}
        self._mesh("")
        for _ in range(12):
            self._rule()
        self._service()

    def step(self) -> None:
        """Change something."""
        change: Callable[[], None] = self.chance.choice(
            [self._rule, self._rule, self._rule, self._pod, self._service, self._mesh, self._endpoints]
        )
        change()

    def _rule(self) -> None:
        resource = self.chance.choice(self.changed)
        rules = self.rules[resource] = dict(self.rules[resource])
        name = self.chance.choice(("default", "one"))
        if name in rules and self.chance.random() < 0.25:
            del rules[name]
        else:
            namespace = self.chance.choice(("bookinfo", "bookinfo", "bookinfo", "istio-system"))
            spec = self.chance.choice(self.specs[resource])
            if resource == names.POLICIES:
                # Only the one of that name is for all workloads of its namespace.
                name = "one" if "targets" in spec else "default"
            rules[name] = stored(resource, istio(name, spec, namespace), legacy=self.legacy)

    def _pod(self) -> None:
        index = self.chance.randrange(len(self.pods))
        changed = copy.deepcopy(self.pods[index])
        if self.chance.random() < 0.5:
            changed["status"]["podIP"] = f"127.99.65.{self.chance.randrange(1, 250)}"
        else:
            changed["metadata"]["labels"]["version"] = self.chance.choice(("v1", "v2"))
        self.pods = [*self.pods[:index], changed, *self.pods[index + 1 :]]

    def _service(self) -> None:
        others = [one for one in self.services if one["metadata"]["name"] != "db"]
        made = [self.chance.choice(SERVICES)] if self.chance.random() < 0.8 else []
        self.services = [*others, *(stored("services", one, legacy=self.legacy) for one in made)]
        self._endpoints()

    def _mesh(self, mesh: str | None = None) -> None:
        mesh = self.chance.choice(MESHES) if mesh is None else mesh
        config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
        self.config = stored("configmaps", config, legacy=self.legacy)

    def _endpoints(self) -> None:
        ready = [one for one in self.pods if self.chance.random() < 0.8]
        self.endpoints = endpoints(self.services, ready, legacy=self.legacy)

    def objects(self) -> dict[str, list[Obj]]:
        """All of them, by resource."""
        found = {"services": self.services, "pods": self.pods, "configmaps": [self.config], **self.endpoints}
        return found | {resource: list(rules.values()) for resource, rules in self.rules.items()}

    def snapshot(self, memo: Memo | None = None) -> Snapshot:
        """The objects now."""
        return Snapshot(self.objects(), PLAN, legacy=self.legacy, memo=memo)


def walk(seed: int, steps: int, *, legacy: bool) -> None:
    """Change a world at random; after each step every proxy is told what a mesh without memory would tell it."""
    world, memo = World(random.Random(seed), legacy=legacy), Memo()
    for step in range(steps):
        world.step()
        remembered = world.snapshot(memo)
        for key, workload in remembered.workloads.items():
            # A snapshot remembers what it made for the workload before.
            fresh = world.snapshot()
            assert workload == fresh.workloads[key]
            assert translate(remembered, workload) == translate(fresh, fresh.workloads[key]), (step, key)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_memory_changes_nothing(seed: int, legacy: bool) -> None:
    walk(seed, 15, legacy=legacy)


def test_objects_are_the_same_only_where_each_is() -> None:
    one, two = {"a": 1}, {"a": 1}
    assert Identity([one, two]) == Identity(iter([one, two]))
    assert hash(Identity([one, two])) == hash(Identity([one, two]))
    assert Identity([one, two]) != Identity([two, one])
    assert Identity([one]) != Identity([one, two])


def test_what_nobody_asks_for_twice_in_a_row_is_forgotten() -> None:
    memo, made = Memo(), []
    for turn, asked in enumerate((True, True, False, False, True)):
        memo.turn()
        if asked:
            memo("key", lambda turn=turn: made.append(turn))
    assert made == [0, 4]
