# SPDX-License-Identifier: Apache-2.0
"""Which EnvoyFilters a proxy follows, how they are merged, and what is said of those that it does not follow."""

from __future__ import annotations

import json

from meshbox.mesh.envoy_filters.merging import merged, merged_extension, normal
from meshbox.mesh.envoy_filters.patches import chosen, unplayed
from meshbox.mesh.envoy_filters.player import EnvoyFilters
from meshbox.mesh.envoy_filters.trials import Candidate, Trials
from meshbox.mesh.translate import Config, translate

from .patching import KEY, Obj, envoy_filter, patch, world


def test_merging_is_protobufs() -> None:
    base = {"a": 1, "list": [1], "inner": {"x": 1, "y": 2}, "typed_per_filter_config": {"f": {"@type": "t", "old": 1}}}
    patch = {"a": 0, "list": [2], "inner": {"y": 3}, "typed_per_filter_config": {"f": {"@type": "t", "new": 1}}}
    assert merged(base, patch) == {
        "a": 1,
        "list": [1, 2],
        "inner": {"x": 1, "y": 3},
        "typed_per_filter_config": {"f": {"@type": "t", "new": 1}},
    }
    assert merged({}, {"value": 0}) == {"value": 0}
    rds: Obj = {"rds": {"route_config_name": "1"}}
    assert merged(rds, {"route_config": {"name": "own"}}) == {"route_config": {"name": "own"}}
    assert base["list"] == [1]


def test_a_configuration_is_merged_with_one_of_its_type() -> None:
    base = {"name": "f", "typed_config": {"@type": "t", "a": 1}}
    assert merged_extension(base, {"name": "f", "typed_config": {"@type": "t", "b": 2}}) == {
        "name": "f",
        "typed_config": {"@type": "t", "a": 1, "b": 2},
    }
    assert merged_extension(base, {"name": "f", "typed_config": {"@type": "other", "b": 2}}) is None


def test_names_of_fields_are_read_in_both_spellings() -> None:
    struct = "type.googleapis.com/udpa.type.v1.TypedStruct"
    kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    given = {
        "typedConfig": {"@type": struct, "typeUrl": kind, "value": {"inlineCode": "x"}},
        "metadata": {"filterMetadata": {"ownSpace": {"ownKey": 1}}},
    }
    assert normal(given) == {
        "typed_config": {"@type": kind, "inline_code": "x"},
        "metadata": {"filter_metadata": {"ownSpace": {"ownKey": 1}}},
    }


def order(*filters: Obj) -> list[str]:
    snapshot = world(*filters)
    return [obj["metadata"]["name"] for obj in chosen(snapshot, snapshot.workloads[KEY])]


def test_priority_comes_first_then_the_root_namespace_then_age() -> None:
    given = [
        envoy_filter(name="young", created="2022"),
        envoy_filter(name="old", created="2021"),
        envoy_filter(name="early", created="2023", priority=-1),
        envoy_filter(name="root", namespace="istio-system", created="2024", priority=5),
        envoy_filter(name="elsewhere", namespace="other"),
        envoy_filter(name="selects", workloadSelector={"labels": {"app": "client"}}, created="2025"),
        envoy_filter(name="others", workloadSelector={"labels": {"app": "reviews"}}),
        envoy_filter(name="gateways", targetRefs=[{"kind": "Gateway", "name": "g"}]),
    ]
    assert order(*given) == ["early", "old", "young", "selects", "root"]
    given[3]["spec"].pop("priority")
    assert order(*given) == ["early", "root", "old", "young", "selects"]


def test_what_is_not_played_is_said() -> None:
    spec = {
        "filters": [{}],
        "configPatches": [{"applyTo": "BOOTSTRAP"}, {"applyTo": "CLUSTER", "match": {"waypoint": {"portNumber": 1}}}],
        "targetRefs": [
            {"kind": "Service", "name": "x"},
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "x", "namespace": "other"},
        ],
    }
    assert list(unplayed(spec, legacy=False)) == [
        "filters, which Istio took away (use configPatches and workloadSelector), has no effect",
        "configPatches[0]: applyTo BOOTSTRAP has no effect",
        "configPatches[1]: match.waypoint has no effect",
        "targetRefs[0]: Service of group core has no effect: only a Gateway of gateway.networking.k8s.io is found",
        "targetRefs[1]: namespace has no effect: Gateways of the object's own are found",
    ]
    assert list(unplayed({"configPatches": [{}]}, legacy=True)) == [
        "configPatches, which Istio 1.2 does not know, has no effect"
    ]


CLIENT = {"labels": {"app": "client"}}


class Recorder:
    """What is said of objects."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, obj: Obj, _type: str, _reason: str, message: str, _component: str) -> None:
        self.said.append(f"{obj['metadata']['name']}: {message}")


class Verdicts(Trials):
    """An Envoy that refuses what holds a word, once it is asked to answer."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.asked = 0

    def verdict(self, candidate: Candidate) -> str | None:
        self.asked += 1
        if not self.ready:
            return None
        return "it is bad" if "bad" in json.dumps([*candidate.listeners, *candidate.clusters]) else ""


def player(trials: Verdicts) -> tuple[EnvoyFilters, Recorder]:
    recorder = Recorder()
    return EnvoyFilters(recorder, "istiod", lambda: None, lambda _: None, trials), recorder  # type: ignore[arg-type]


def test_without_envoy_filters_nothing_is_made() -> None:
    trials = Verdicts()
    filters, recorder = player(trials)
    config = Config()
    assert filters.play(world(), KEY, config) is config
    assert (trials.asked, recorder.said) == (0, [])


def test_a_refused_one_is_left_out_and_the_others_are_played() -> None:
    bad = envoy_filter(patch("CLUSTER", "ADD", {"name": "bad"}), name="wrong")
    good = envoy_filter(patch("CLUSTER", "ADD", {"name": "fine"}), name="good")
    trials = Verdicts()
    filters, recorder = player(trials)
    snapshot = world(bad, good)
    config = translate(snapshot, snapshot.workloads[KEY])
    told = filters.play(snapshot, KEY, config)
    assert told is not None
    assert set(told.clusters) - set(config.clusters) == {"fine"}
    asked = trials.asked
    assert filters.play(snapshot, KEY, config) is told
    assert trials.asked == asked
    filters.finish(snapshot)
    assert recorder.said == [
        "wrong: Envoy refuses what it makes of bookinfo/client-1's proxy, which goes on without it until it is "
        "changed: it is bad"
    ]


def test_an_odd_form_is_said_and_the_others_are_played() -> None:
    odd = envoy_filter(patch("HTTP_FILTER", "ADD", {}, listener={"filterChain": "text"}), name="odd")
    filters, recorder = player(Verdicts())
    snapshot = world(odd, envoy_filter(patch("CLUSTER", "ADD", {"name": "fine"})))
    told = filters.play(snapshot, KEY, translate(snapshot, snapshot.workloads[KEY]))
    assert told is not None
    assert "fine" in told.clusters
    assert recorder.said == [
        "odd: Envoy refuses what it makes of bookinfo/client-1's proxy, which goes on without it until it is changed: "
        "its patches are not of the form that Envoy's fields have"
    ]


def test_a_change_that_is_refused_leaves_the_version_before() -> None:
    filters, recorder = player(Verdicts())

    def told(*patches: Obj) -> set[str]:
        snapshot = world(envoy_filter(*patches))
        config = translate(snapshot, snapshot.workloads[KEY])
        found = filters.play(snapshot, KEY, config)
        assert found is not None
        filters.finish(snapshot)
        return set(found.clusters) - set(config.clusters)

    assert told(patch("CLUSTER", "ADD", {"name": "fine"})) == {"fine"}
    assert told(patch("CLUSTER", "ADD", {"name": "bad"}), patch("CLUSTER", "ADD", {"name": "more"})) == {"fine"}
    assert recorder.said == [
        "f: Envoy refuses what it makes of bookinfo/client-1's proxy, which goes on with the version before until it "
        "is changed: it is bad"
    ]
    assert told(patch("CLUSTER", "ADD", {"name": "more"})) == {"more"}
    assert len(recorder.said) == 1


def test_a_proxy_waits_until_envoy_has_spoken() -> None:
    trials = Verdicts(ready=False)
    filters, recorder = player(trials)
    snapshot = world(envoy_filter(patch("CLUSTER", "ADD", {"name": "fine"})))
    config = translate(snapshot, snapshot.workloads[KEY])
    assert filters.play(snapshot, KEY, config) is None
    filters.finish(snapshot)
    trials.ready = True
    told = filters.play(snapshot, KEY, config)
    assert told is not None
    assert "fine" in told.clusters
    assert recorder.said == []


def test_what_finds_nothing_is_said_once_every_selected_proxy_has_an_address() -> None:
    filters, recorder = player(Verdicts())
    nowhere = patch("CLUSTER", "MERGE", {"x": 1}, cluster={"name": "none"})
    obj = envoy_filter(nowhere, workloadSelector=CLIENT)
    starting, snapshot = world(obj, ip=""), world(obj)
    filters.finish(starting)
    assert recorder.said == []
    for _ in range(2):
        filters.play(snapshot, KEY, translate(snapshot, snapshot.workloads[KEY]))
        filters.finish(snapshot)
    assert recorder.said == [
        "f: configPatches[0] (MERGE CLUSTER) finds nothing in the proxies that it selects, so it has no effect"
    ]


def test_a_filter_of_an_old_name_is_called_by_the_new_one() -> None:
    filters, recorder = player(Verdicts())
    match = {"listener": {"filterChain": {"filter": {"name": "envoy.http_connection_manager"}}}}
    snapshot = world(envoy_filter(patch("NETWORK_FILTER", "REMOVE", **match), workloadSelector=CLIENT))
    filters.play(snapshot, KEY, translate(snapshot, snapshot.workloads[KEY]))
    filters.finish(snapshot)
    assert recorder.said == [
        "f: configPatches[0] (REMOVE NETWORK_FILTER) finds nothing in the proxies that it selects, so it has no effect"
        ": envoy.http_connection_manager is called envoy.filters.network.http_connection_manager now"
    ]


def test_what_a_proxy_refuses_all_the_same_is_taken_back() -> None:
    filters, recorder = player(Verdicts())
    snapshot = world(envoy_filter(patch("CLUSTER", "ADD", {"name": "fine"})))
    config = translate(snapshot, snapshot.workloads[KEY])
    filters.play(snapshot, KEY, config)
    assert filters.refused(snapshot, KEY, "listeners") is False
    assert filters.refused(snapshot, KEY, "clusters") is True
    assert filters.play(snapshot, KEY, config) is config
    assert recorder.said == [
        "f: the proxy of bookinfo/client-1 refuses clusters, some of which this changes, and goes on without it until "
        "it is changed; its log (-c istio-proxy) says why"
    ]
