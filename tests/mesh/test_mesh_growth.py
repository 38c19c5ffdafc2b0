# SPDX-License-Identifier: Apache-2.0
"""After any writes a mesh that has seen them one by one tells each proxy, byte for byte, what one made anew would tell.

The examples are few here; tests/thorough/test_growth_walks.py looks for others, and for longer.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshbox.contracts import ApiError
from meshbox.mesh import Mesh
from meshbox.mesh import kinds as names
from meshbox.mesh.secrets import SecretSource
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .cluster import Cluster
from .objects import endpoints, istio, pod, service, stored
from .test_mesh_memo import MESHES, OLD, SERVICES, SPECS, TODAY

Obj = dict[str, Any]

GATEWAY = {
    "selector": {"istio": "ingressgateway"},
    "servers": [
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
        {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "hosts": ["shop.test"],
            "tls": {"mode": "SIMPLE", "credentialName": "shop"},
        },
    ],
}
ROUTE = [{"destination": {"host": "reviews"}}]
ASKING = {"action": "CUSTOM", "provider": {"name": "asked"}, "rules": [{}]}
PROVIDER = {"name": "asked", "envoyExtAuthzHttp": {"service": "db.bookinfo.svc.cluster.local", "port": 8080}}
MORE: dict[str, list[Obj]] = {
    names.GATEWAYS: [GATEWAY, {**GATEWAY, "servers": GATEWAY["servers"][:1]}],
    names.VIRTUAL_SERVICES: [
        {"hosts": ["shop.test"], "gateways": ["one"], "http": [{"route": ROUTE}]},
        {"hosts": ["*.test"], "gateways": ["mesh", "one"], "http": [{"timeout": "7s", "route": ROUTE}]},
    ],
    names.ENVOY_FILTERS: [{"workloadSelector": {"labels": {"app": "nobody"}}, "configPatches": []}],
}
MORE_TODAY: dict[str, list[Obj]] = {
    names.SIDECARS: [
        {"ingress": [{"port": {"number": 9080, "protocol": "TCP", "name": "tcp"}, "defaultEndpoint": "127.0.0.1:9081"}]}
    ],
    names.WORKLOAD_ENTRIES: [{"address": "127.99.66.1", "labels": {"app": "reviews"}, "serviceAccount": "machine"}],
    names.AUTHORIZATION_POLICIES: [ASKING, {"selector": {"matchLabels": {"app": "reviews"}}, "rules": [{}]}],
    names.REQUEST_AUTHENTICATIONS: [{"jwtRules": [{"issuer": "me", "jwks": '{"keys": []}'}]}],
}
KUBERNETES: dict[str, list[Obj]] = {
    names.NAMESPACES: [{"labels": {"team": "one"}}, {"labels": {"team": "two"}}],
    names.SECRETS: [{"data": {"tls.crt": "YQ==", "tls.key": "Yg=="}}, {"data": {"tls.crt": "Yw==", "tls.key": "ZA=="}}],
    names.CONFIG_MAPS: [{"data": {"any": "thing"}}, {"data": {"any": "other"}}],
    names.INGRESSES: [
        {
            "metadata": {"annotations": {"kubernetes.io/ingress.class": "istio"}},
            "spec": {
                "rules": [
                    {
                        "host": "in.test",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "reviews", "port": {"number": 9080}}},
                                }
                            ]
                        },
                    }
                ]
            },
        }
    ],
    names.KUBERNETES_GATEWAYS: [
        {
            "spec": {
                "gatewayClassName": "istio",
                "listeners": [
                    {
                        "name": "web",
                        "port": 80,
                        "protocol": "HTTP",
                        "allowedRoutes": {
                            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "one"}}}
                        },
                    }
                ],
            }
        }
    ],
    names.HTTP_ROUTES: [
        {
            "kind": "HTTPRoute",
            "spec": {
                "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "shop"}],
                "rules": [
                    {
                        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                        "backendRefs": [{"group": "", "kind": "Service", "name": "reviews", "port": 9080, "weight": 1}],
                    }
                ],
            },
        }
    ],
}
PODS = ("reviews-v1", "reviews-v2", "db-1", "client-1", "gate-1", "gw-1")
CREDENTIALS = ("kubernetes://shop", "kubernetes://shop-cacert")


class History:
    """A mesh that sees each write, and the objects that it sees.

    Args:
        cluster: Holds the objects.
        legacy: Whether Istio 1.2 is played.
    """

    def __init__(self, cluster: Cluster, *, legacy: bool) -> None:
        self.cluster, self.legacy = cluster, legacy
        self.mesh = Mesh(cluster, cluster.settings)
        own = (OLD, {}) if legacy else (TODAY, MORE_TODAY)
        self.specs: dict[str, list[Obj]] = {}
        for table in (SPECS, MORE, *own):
            for resource, specs in table.items():
                self.specs[resource] = [*self.specs.get(resource, []), *specs]

    def begin(self) -> None:
        """What there is at first."""
        self._pilot()
        self.config("")
        for name in PODS:
            self.pod(name, 0)
        for name in ("reviews", "ratings"):
            self.keep(names.SERVICES, stored("services", service(name), legacy=self.legacy))
        self.service(0)
        self.ready(63)

    def keep(self, resource: str, obj: Obj) -> None:
        """Write."""
        self.cluster.keep(str(resource), obj)

    def drop(self, resource: str, name: str, namespace: str) -> None:
        """Delete, where it is there."""
        if self.cluster.store.entry(str(resource), (namespace, name)) is not None:
            self.cluster.store.remove(str(resource), (namespace, name))

    def _pilot(self) -> None:
        made = pod("pilot-0", "", namespace="istio-system", role="", istio="pilot")
        made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        self.keep(names.PODS, made)

    def config(self, text: str) -> None:
        """The mesh's settings."""
        provider = "" if self.legacy else f"\nextensionProviders: [{PROVIDER}]"
        meta = {"name": "istio", "namespace": "istio-system"}
        self.keep(names.CONFIG_MAPS, {"metadata": meta, "data": {"mesh": text + provider}})

    def rule(self, number: int, name: str, namespace: str) -> None:
        """An object of Istio's: created, replaced, or deleted."""
        every = [(resource, spec) for resource, specs in self.specs.items() for spec in (*specs, None)]
        resource, spec = every[number % len(every)]
        if spec is None:
            self.drop(resource, name, namespace)
            return
        if resource == names.POLICIES:
            # Only the one of that name is for all workloads of its namespace.
            name = "one" if "targets" in spec else "default"
        try:
            written = stored(resource, istio(name, spec, namespace), legacy=self.legacy)
        except ApiError as error:
            if "denied the request" not in error.message:
                raise
            # Each release's webhook lets through its own.
            return
        self.keep(resource, written)

    def other(self, number: int, name: str) -> None:
        """An object of Kubernetes': the same."""
        every = [(resource, obj) for resource, objects in KUBERNETES.items() for obj in (*objects, None)]
        resource, obj = every[number % len(every)]
        if resource == names.NAMESPACES:
            found = self.cluster.get("namespaces", "bookinfo")
            self.keep(resource, {**found, "metadata": {**found["metadata"], **(obj or {"labels": {}})}})
        elif self.legacy and resource in names.GATEWAY_API_RESOURCES:
            return
        elif obj is None:
            self.drop(resource, name, "bookinfo")
        else:
            meta = {"name": name, "namespace": "bookinfo", "generation": 1, **obj.get("metadata", {})}
            self.keep(resource, {**copy.deepcopy(obj), "metadata": meta})

    def pod(self, name: str, how: int) -> None:
        """A pod that is another, or none any more."""
        index = PODS.index(name)
        if how == 3:
            self.drop(names.PODS, name, "bookinfo")
            return
        role = "router" if name in ("gate-1", "gw-1") else "sidecar"
        extra = {"gate-1": {"istio": "ingressgateway"}, "gw-1": {"gateway.networking.k8s.io/gateway-name": "shop"}}
        made = pod(name, f"127.99.{64 + how // 2}.{index + 1}", role=role, ports=(9080, 8080), version=f"v{how}")
        made["metadata"]["labels"].update(extra.get(name, {}))
        self.keep(names.PODS, made)

    def service(self, number: int) -> None:
        """A Service that is another, or none any more."""
        choice = number % (len(SERVICES) + 2)
        if choice == len(SERVICES):
            self.drop(names.SERVICES, "db", "bookinfo")
        elif choice == len(SERVICES) + 1:
            # The gateway of the Gateway API.
            made = service("shop-istio", ("web", 80), selector={"gateway.networking.k8s.io/gateway-name": "shop"})
            self.keep(names.SERVICES, stored("services", made, legacy=self.legacy))
        else:
            made = copy.deepcopy(SERVICES[choice])
            if number % 2:
                made["spec"]["ports"][0]["targetPort"] = 8080
            self.keep(names.SERVICES, stored("services", made, legacy=self.legacy))

    def ready(self, which: int) -> None:
        """Pods get ready, or are not any more."""
        pods = self.cluster.list("pods", "bookinfo")
        ready = [one for one in pods if which >> PODS.index(one["metadata"]["name"]) & 1]
        for resource, found in endpoints(self.cluster.list("services"), ready, legacy=self.legacy).items():
            for obj in found:
                self.keep(resource, obj)

    async def settled(self) -> None:
        """Until the mesh has acted on what was written."""
        for _ in range(20):
            # Watches are told in the loop's next turns.
            await asyncio.sleep(0)
        await self.mesh.settled()

    def check(self) -> None:
        """The mesh made anew from the same objects tells the same, in the same order."""
        views = {resource: self.cluster.view(str(resource)) for resource in self.mesh._cache.current()}
        fresh = Snapshot(views, self.cluster.settings.plan, legacy=self.legacy)
        wanted = {key: one for key, one in fresh.workloads.items() if one.proxy and one.ip}
        assert self.mesh.proxies.keys() == wanted.keys()
        source = SecretSource(self.mesh._authority, lambda: fresh)
        for key, workload in wanted.items():
            told, config = self.mesh.proxies[key].config, translate(fresh, workload)
            assert told is not None
            for kind in ("clusters", "endpoints", "listeners", "routes"):
                assert list(getattr(told, kind).items()) == list(getattr(config, kind).items()), (key, kind)
                offered = self.mesh.proxies[key].told[kind]._wanted
                assert offered is not None
                assert list(offered.items()) == list(getattr(told, kind).items()), (key, kind)
            for name in CREDENTIALS:
                assert self.mesh._secrets.get(key, name) == source.get(key, name), (key, name)


_number = st.integers(0, 199)
_name, _space = st.sampled_from(("one", "default")), st.sampled_from(("bookinfo", "bookinfo", "istio-system"))
WRITES = st.one_of(
    st.tuples(st.just("rule"), _number, _name, _space),
    st.tuples(st.just("rule"), _number, _name, _space),
    st.tuples(st.just("other"), _number, st.sampled_from(("shop", "any"))),
    st.tuples(st.just("pod"), st.sampled_from(PODS), st.integers(0, 3)),
    st.tuples(st.just("service"), st.integers(0, 13)),
    st.tuples(st.just("ready"), st.integers(0, 63)),
    st.tuples(st.just("config"), st.sampled_from(MESHES)),
)
"""A write: the name of a method of `History`, and its arguments."""

BATCHES = st.lists(st.lists(WRITES, min_size=1, max_size=3), min_size=1, max_size=6)
"""Writes that the mesh acts on together, one batch after the other."""


async def lived(history: History, batches: list[list[tuple[Any, ...]]]) -> None:
    """Let a mesh live through writes; after each batch it is held against one that is made anew."""
    history.begin()
    history.mesh._cache.start()
    try:
        await history.settled()
        history.check()
        for batch in batches:
            for what, *arguments in batch:
                getattr(history, what)(*arguments)
            await history.settled()
            history.check()
    finally:
        await history.mesh._cache.stop()
        await history.mesh._keys.stop()


def emptied(cluster: Cluster) -> Cluster:
    """A cluster without the objects of an earlier history."""
    kept = {str(names.NAMESPACES)}
    for resource in names.RESOURCES:
        for entry in cluster.store.entries(str(resource)) if resource not in kept else ():
            meta = entry.obj["metadata"]
            cluster.store.remove(str(resource), (meta.get("namespace") or "", meta["name"]))
    return cluster


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_a_mesh_that_saw_each_write_tells_what_a_new_one_tells(
    release: str, cluster_of: Callable[[str], Cluster]
) -> None:
    cluster = cluster_of(release)
    if release != "1.2.2":
        cluster.install_gateway_api()

    # Nothing but where a Service's port leads to, before its endpoints say so.
    @example([[("service", 7)]])
    # Pilot stays where it is.
    @example([[("rule", 0, "one", "bookinfo"), ("config", "rootNamespace: bookinfo")]])
    @settings(max_examples=25)
    @given(BATCHES)
    def check(batches: list[list[tuple[Any, ...]]]) -> None:
        asyncio.run(lived(History(emptied(cluster), legacy=release == "1.2.2"), batches))

    check()


def test_a_secret_or_a_note_leaves_what_is_translated_as_it_is(cluster_of: Callable[[str], Cluster]) -> None:
    """The very same objects, so nothing was made anew."""

    async def play() -> None:
        history = History(cluster_of("1.30.3"), legacy=False)
        history.begin()
        history.mesh._cache.start()
        try:
            history.keep(names.GATEWAYS, stored(names.GATEWAYS, istio("one", GATEWAY)))
            await history.settled()
            before = {key: state.config for key, state in history.mesh.proxies.items()}
            snapshot = history.mesh._snapshot
            meta = {"name": "shop", "namespace": "bookinfo"}
            history.keep(names.CONFIG_MAPS, {"metadata": meta, "data": {"any": "thing"}})
            history.keep(names.SECRETS, {"metadata": meta, "data": KUBERNETES[names.SECRETS][0]["data"]})
            await history.settled()
            assert history.mesh._snapshot is not snapshot
            assert history.mesh._snapshot.services is snapshot.services
            assert all(state.config is before[key] for key, state in history.mesh.proxies.items())
            assert ("bookinfo", "shop") in history.mesh._snapshot.secrets
        finally:
            await history.mesh._cache.stop()
            await history.mesh._keys.stop()

    asyncio.run(play())
