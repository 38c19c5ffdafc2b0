# SPDX-License-Identifier: Apache-2.0
"""What a real Envoy says of patched resources, and how it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshbox.mesh.authorization_rules import Reading, policies_of_rules
from meshbox.mesh.envoy import extension, typed
from meshbox.mesh.envoy_filters.trials import Candidate, Trials, validated
from tests.conftest import PATIENCE

from .objects import PLAN, istio

pytestmark = [pytest.mark.asyncio, pytest.mark.long]

Obj = dict[str, Any]

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")


def listener(*filters: Obj) -> Obj:
    routes = {"name": "r", "virtual_hosts": []}
    config = {"stat_prefix": "x", "route_config": routes, "http_filters": [*filters, ROUTER]}
    manager = extension("envoy.filters.network.http_connection_manager", MANAGER, **config)
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 9080}}
    chains = [{"filters": [manager]}]
    return typed("envoy.config.listener.v3.Listener", name="0.0.0.0_9080", address=address, filter_chains=chains)


def asks(cluster: str) -> Obj:
    service = {"envoy_grpc": {"cluster_name": cluster}}
    kind = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
    return extension("envoy.filters.http.ext_authz", kind, grpc_service=service)


async def test_many_proxies_listeners_are_read_at_once() -> None:
    one = Candidate(listeners=(listener(),))
    assert await validated([one, one, one]) == ""


async def test_a_filter_may_name_any_cluster_of_its_proxy() -> None:
    given = (listener(asks("outbound|9000||authz.test")),)
    assert await validated([Candidate(given, others=("outbound|9000||authz.test",))]) == ""


async def test_routes_and_clusters_are_read() -> None:
    host = {"name": "h", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "any"}}]}
    table = typed("envoy.config.route.v3.RouteConfiguration", name="9080", virtual_hosts=[host])
    cluster = typed("envoy.config.cluster.v3.Cluster", name="c", type="STATIC", connect_timeout="1s")
    good = Candidate(clusters=(cluster,), tables=(table,))
    assert await validated([good]) == ""
    assert "no such field: 'nonsense'" in await validated([Candidate(clusters=({**cluster, "nonsense": 1},))])
    twice = {**table, "virtual_hosts": [host, host]}
    assert await validated([Candidate(tables=(twice,))]) == "Only a single wildcard domain is permitted in route 9080"


async def test_of_several_each_gets_its_own_verdict_and_none_is_asked_twice() -> None:
    asked: list[int] = []
    found = asyncio.Event()

    async def read(candidates: list[Candidate]) -> str:
        asked.append(len(candidates))
        return "bad" if any(one.clusters[0]["name"] == "bad" for one in candidates) else ""

    trials = Trials(found.set, lambda _: None, read)
    good, bad = (Candidate(clusters=({"name": name},)) for name in ("good", "bad"))
    assert (trials.verdict(good), trials.verdict(bad)) == (None, None)
    await asyncio.wait_for(found.wait(), PATIENCE)
    assert (trials.verdict(good), trials.verdict(bad)) == ("", "bad")
    assert asked == [2, 1, 1]
    assert trials.verdict(Candidate()) == ""
    trials.stop()


async def test_what_envoy_never_ends_to_read_no_proxy_is_told() -> None:
    found = asyncio.Event()

    async def read(_: list[Candidate]) -> str:
        raise TimeoutError

    trials = Trials(found.set, lambda _: None, read)
    one = Candidate(clusters=({"name": "c"},))
    assert trials.verdict(one) is None
    await asyncio.wait_for(found.wait(), PATIENCE)
    assert trials.verdict(one) == "it was not read within 60 seconds"


async def test_where_nobody_can_say_the_proxies_themselves_will() -> None:
    found = asyncio.Event()

    async def read(_: list[Candidate]) -> str:
        raise OSError(2, "No such file or directory", "envoy")

    trials = Trials(found.set, lambda _: None, read)
    one = Candidate(clusters=({"name": "c"},))
    assert trials.verdict(one) is None
    await asyncio.wait_for(found.wait(), PATIENCE)
    assert trials.verdict(one) == ""


async def test_envoy_takes_each_template_of_a_path_that_rules_give_it() -> None:
    kind = "envoy.extensions.filters.http.rbac.v3.RBAC"
    for path in ("/{*}/a", "/{*}/", "/a/{**}", "/{**}", "/{*}/%41;=:@", "/{*}/~!$&'()+,"):
        reading = Reading(PLAN, http=True, denies=False)
        policy: Any = istio("p", {"rules": [{"to": [{"operation": {"paths": [path]}}]}]})
        rules = {"action": "ALLOW", "policies": policies_of_rules([policy], reading)}
        assert "uri_template" in str(rules)
        filter_ = extension("envoy.filters.http.rbac", kind, rules=rules)
        assert await validated([Candidate((listener(filter_),))]) == "", path
